"""The forms in which rules come in and go out.

CSV and JSON say all that a rule says; the others leave out what they cannot say,
and count it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Protocol

from blacklist.formats import (
    adblock,
    hosts,
    mastodon,
    own_csv,
    own_json,
    plain,
    tables,
    ublacklist,
)
from blacklist.formats.fields import COLUMNS, REASONS
from blacklist.formats.listed import (
    MAX_NOTE,
    FormatError,
    Listed,
    ListedRule,
    Skipped,
    Written,
    is_comment,
    said_lines,
)

__all__ = [
    "COLUMNS",
    "MAX_NOTE",
    "NAMES",
    "REASONS",
    "FormatError",
    "Listed",
    "ListedRule",
    "Skipped",
    "Written",
    "read",
    "write",
]


class _Format(Protocol):
    def read(self, listed: Listed, text: str) -> None: ...

    def write(
        self, rules: Iterable[ListedRule], now: datetime, written: Written
    ) -> Iterator[str]: ...


_FORMATS: dict[str, _Format] = {
    "plain": plain,
    "hosts": hosts,
    "adblock": adblock,
    "ublacklist": ublacklist,
    "mastodon": mastodon,
    "csv": own_csv,
    "json": own_json,
}
NAMES = tuple(_FORMATS)
_BY_LINE = {"hosts": hosts, "adblock": adblock, "ublacklist": ublacklist}
# So many lines say what kind of line a list has.
_SAMPLE = 100
# How gzip, zip, xz, bzip2 and zstd begin.
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd")


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
    listed = Listed(format or _recognised(text, start, name))
    _FORMATS[listed.format].read(listed, text)
    return listed


def write(
    rules: Iterable[ListedRule], *, format: str, now: datetime, written: Written
) -> Iterator[str]:
    """The text of a list, piece by piece; what it could not say is counted."""
    return _FORMATS[format].write(rules, now, written)


def _decoded(data: bytes) -> str:
    if data.startswith(_COMPRESSED):
        raise FormatError("This is a compressed file: unpack it first.")
    # Without its mark UTF-16 passes for UTF-8: ASCII in it is every other byte.
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:1000]:
        raise FormatError(
            "This is UTF-16 or no text at all, not UTF-8: save the list as UTF-8."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(
            f"This is not UTF-8 (line {line}): save the list as UTF-8."
        ) from error


def _recognised(text: str, start: str, name: str) -> str:
    ending = name.lower().rpartition(".")[2]
    if ending == "json" or re.match(r'\{|\[\s*(?:["{\]]|$)', start):
        return "json"
    lines = [line.strip() for line in start.splitlines()]
    # Mastodon's header looks like a comment.
    if mastodon.recognises(_cells(next(iter(lines), ""))):
        return "mastodon"
    header = _cells(next((line for line in lines if not is_comment(line)), ""))
    if ending == "csv" or "domain" in header:
        return "mastodon" if mastodon.recognises(header) else "csv"
    shape = _shape([line for _, line in islice(said_lines(text), _SAMPLE)])
    return "csv" if shape == "plain" and len(header) > 1 else shape


def _cells(line: str) -> list[str]:
    return tables.names([cell.strip(' "') for cell in line.split(",")])


def _shape(lines: list[str]) -> str:
    """The format by line that most of the lines are in."""
    first = lines[0] if lines else ""
    if adblock.is_header(first):
        return "adblock"
    if first == ublacklist.FENCE:
        return "ublacklist"
    shapes = Counter(
        next((name for name, of in _BY_LINE.items() if of.recognises(line)), "plain")
        for line in lines
    )
    return next((name for name, _ in shapes.most_common(1)), "plain")
