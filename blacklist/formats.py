"""The forms in which rules come in and go out: plain domains, CSV, JSON.

CSV and JSON say all that a rule says; plain says only what is blocked with all
below it, so it leaves out the rest and says how much that was.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from blacklist.domains import ALLOW, BLOCK, RuleError, RuleSpec, is_address, parse_rule

MAX_NOTE = 1000
REASONS = ("dead_links", "spam", "malware", "nsfw", "paywall", "other")
COLUMNS = (
    "domain",
    "include_subdomains",
    "action",
    "reason",
    "note",
    "expires_at",
    "review_at",
)
_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class FormatError(ValueError):
    """A list that cannot be read at all; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ListedRule:
    """All that a list can say of a rule."""

    spec: RuleSpec
    reason: str = ""
    note: str = ""
    expires_at: datetime | None = None
    review_at: datetime | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was no rule, where, and why."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Listed:
    """A list as it was understood. In JSON a line is the number of the item."""

    format: str
    rules: list[ListedRule] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, line: int, text: str, read: Callable[[], ListedRule]) -> None:
        try:
            self.rules.append(read())
        except RuleError as error:
            self.skipped.append(Skipped(line, _cut(text), str(error)))


def read(data: bytes, *, format: str = "", name: str = "") -> Listed:
    """The rules of a list, in the format named or else recognised.

    `name`, a file's name or an address, helps to recognise it. Raises FormatError.
    """
    text = _decoded(data)
    start = text.lstrip()[:1000].lower()
    if start.startswith("<"):
        raise FormatError(
            "This is a web page or XML, not a list: use the address or file of the "
            "list itself."
        )
    listed = Listed(format or _recognised(start, name))
    _READERS[listed.format](listed, text)
    return listed


@dataclass
class Written:
    """How much a format could say: filled while it is written."""

    rules: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, what: str) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + 1


def write(
    rules: Iterable[ListedRule], *, format: str, now: datetime, written: Written
) -> Iterator[str]:
    """The text of a list, piece by piece; what it could say is counted."""
    return _WRITERS[format](rules, now, written)


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(
            f"This is not UTF-8 (line {line}): save the list as UTF-8."
        ) from error
    return text


def _recognised(start: str, name: str) -> str:
    for known in ("csv", "json"):
        if name.lower().endswith("." + known):
            return known
    if re.match(r'\{|\[\s*(?:["{\]]|$)', start):
        return "json"
    lines = (line.strip() for line in start.splitlines())
    first = next((line for line in lines if not _is_comment(line)), "")
    cells = [cell.strip(' "') for cell in first.split(",")]
    return "csv" if "domain" in cells or len(cells) > 1 else "plain"


def _is_comment(line: str) -> bool:
    return not line or line[0] in "!#;"


# Plain


def _read_plain(listed: Listed, text: str) -> None:
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if _is_comment(line):
            continue
        # A comment in a line only after a space: there are addresses with a #.
        rule = re.split(r"\s+[!#;]", line, maxsplit=1)[0]
        _add_fields(listed, number, {"domain": rule}, line)


def _write_plain(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    for rule in rules:
        if rule.spec.action == ALLOW:
            written.leave_out("exceptions (allow)")
        elif not rule.spec.include_subdomains and not is_address(rule.spec.domain):
            written.leave_out("rules for one host alone")
        elif rule.expires_at and rule.expires_at <= now:
            written.leave_out("expired rules")
        else:
            written.rules += 1
            yield rule.spec.domain + "\n"
    for what, count in written.left_out.items():
        yield f"# Left out, since a plain list cannot say it: {count} {what}\n"
    yield "# A plain list says no reason, note or date: CSV and JSON say all.\n"


# CSV


def _read_csv(listed: Listed, text: str) -> None:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        said = (row for row in rows if not _is_comment("".join(row).strip()))
        header = [cell.strip().lower() for cell in next(said, [])]
        if "domain" not in header:
            raise FormatError(
                "This CSV has no column 'domain': name the column of the domains "
                "'domain' in the first line."
            )
        for row in rows:
            if any(cell.strip() for cell in row):
                cells = dict(zip(header, row, strict=False))
                _add_fields(listed, rows.line_num, cells, ",".join(row))
    except csv.Error as error:
        raise FormatError(f"Line {rows.line_num} is not CSV: {error}.") from error


def _write_csv(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rule in rules:
        values = _fields(rule)
        values["include_subdomains"] = str(values["include_subdomains"]).lower()
        writer.writerow(values.values())
        written.rules += 1
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


# JSON


def _read_json(listed: Listed, text: str) -> None:
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"This is not JSON: {error}.") from error
    if not isinstance(items, list):
        raise FormatError(
            "This JSON is not a list: use an array of domains, or of objects with "
            "'domain'."
        )
    for number, item in enumerate(items, start=1):
        fields = {"domain": item} if isinstance(item, str) else item
        shown = item if isinstance(item, str) else _json_of(item)
        if isinstance(fields, dict) and isinstance(fields.get("domain"), str):
            _add_fields(listed, number, fields, shown)
        else:
            reason = "There is no domain in it: use a text, or an object with 'domain'."
            listed.skipped.append(Skipped(number, _cut(shown), reason))


def _json_of(item: Any) -> str:
    try:
        return orjson.dumps(item).decode()
    except orjson.JSONEncodeError:
        # It reads more levels than it writes.
        return "(nested too deeply to be shown)"


def _write_json(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    before = "[\n"
    for rule in rules:
        yield before + orjson.dumps(_fields(rule)).decode()
        before = ",\n"
        written.rules += 1
    yield "\n]\n" if written.rules else "[]\n"


# The fields that CSV and JSON share


def _add_fields(listed: Listed, line: int, fields: dict[str, Any], text: str) -> None:
    listed.add(line, text, lambda: _rule(line, fields))


def _rule(line: int, fields: dict[str, Any]) -> ListedRule:
    typed = parse_rule(_text(fields, "domain"))
    below = _boolean(fields, "include_subdomains", typed.include_subdomains)
    return ListedRule(
        RuleSpec(
            typed.domain,
            below and not is_address(typed.domain),
            _choice(fields, "action", (BLOCK, ALLOW)) or typed.action,
        ),
        reason=_choice(fields, "reason", REASONS),
        note=_note(fields),
        expires_at=_time(fields, "expires_at"),
        review_at=_time(fields, "review_at"),
        line=line,
    )


def _fields(rule: ListedRule) -> dict[str, Any]:
    spec = rule.spec
    values = (
        spec.domain,
        spec.include_subdomains,
        spec.action,
        rule.reason,
        rule.note,
        rule.expires_at.isoformat() if rule.expires_at else None,
        rule.review_at.isoformat() if rule.review_at else None,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RuleError(f"'{name}' is not a text.")
    return value


def _boolean(fields: dict[str, Any], name: str, default: bool) -> bool:
    value = fields.get(name)
    if isinstance(value, bool):
        return value
    text = _text(fields, name).strip().lower()
    if text not in _BOOLS and text:
        raise RuleError(f"'{name}' is {_cut(text)!r}: use true or false.")
    return _BOOLS.get(text, default)


def _choice(fields: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
    text = _text(fields, name).strip().lower()
    if text and text not in choices:
        raise RuleError(f"'{name}' is {_cut(text)!r}: use {', '.join(choices)}.")
    return text


def _note(fields: dict[str, Any]) -> str:
    note = _text(fields, "note")
    if len(note) > MAX_NOTE or "\0" in note:
        raise RuleError(
            f"'note' is longer than {MAX_NOTE} characters, or has a NUL in it."
        )
    return note


def _time(fields: dict[str, Any], name: str) -> datetime | None:
    text = _text(fields, name).strip()
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        # Without a zone it is UTC, as everywhere here.
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RuleError(
            f"'{name}' is {_cut(text)!r}: use a time such as 2027-01-31T12:00:00Z."
        ) from error


def _cut(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"


_READERS: dict[str, Callable[[Listed, str], None]] = {
    "plain": _read_plain,
    "csv": _read_csv,
    "json": _read_json,
}
_WRITERS: dict[str, Callable[[Iterable[ListedRule], datetime, Written], Iterator[str]]]
_WRITERS = {"plain": _write_plain, "csv": _write_csv, "json": _write_json}
NAMES = tuple(_READERS)
