"""Mastodon's list of blocked domains, as its administrators export it (CSV).

Each is meant with all below it. `suspend` and `silence` block; `noop` blocks
nothing, whatever media or reports it rejects. The public comment is the note.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from blacklist.domains import RuleError, parse_rule, short
from blacklist.formats import plain, tables
from blacklist.formats.listed import (
    MAX_NOTE,
    FormatError,
    Listed,
    ListedRule,
    Written,
    sayable,
)

_COLUMNS = (
    "#domain",
    "#severity",
    "#reject_media",
    "#reject_reports",
    "#public_comment",
    "#obfuscate",
)
_BLOCKS = ("suspend", "silence")


def recognises(columns: list[str]) -> bool:
    """Whether this is its header; ours may have a column of the same name."""
    if columns[:1] == ["#domain"]:
        return True
    return {"domain", "severity"} <= set(columns) and not {
        "action",
        "include_subdomains",
        "reason",
    } & set(columns)


def read(listed: Listed, text: str) -> None:
    rows = tables.rows(text)
    _, first = next(rows, (0, []))
    header = [name.removeprefix("#") for name in tables.names(first)]
    if "domain" not in header or "severity" not in header:
        # Its list of allowed domains looks the same, but for this.
        raise FormatError(
            "This is no list of Mastodon's blocked domains: its first line must name "
            "the columns #domain and #severity."
        )
    tables.take(listed, header, rows, _rule)


def write(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    writer = tables.Writer()
    yield writer.line(_COLUMNS)
    for rule in sayable(rules, now, written, plain.unsayable, notes=True):
        yield writer.line(
            (rule.spec.domain, "suspend", "False", "False", rule.note, "False")
        )


def _rule(line: int, cells: dict[str, str]) -> ListedRule:
    severity = cells.get("severity", "").strip().lower()
    if severity not in _BLOCKS:
        raise RuleError(
            f"Its severity is {short(severity)!r}, which blocks nothing: only "
            f"{' and '.join(_BLOCKS)} do."
        )
    spec = parse_rule(cells.get("domain", ""))
    note = cells.get("public_comment", "").replace("\0", "").strip()
    if len(note) > MAX_NOTE:
        note = note[: MAX_NOTE - 1] + "…"
    return ListedRule(spec, note=note, line=line)
