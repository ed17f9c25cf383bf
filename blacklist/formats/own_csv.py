"""CSV of our own: a column for each field, in any order; `domain` must be there."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from blacklist.formats import tables
from blacklist.formats.fields import COLUMNS, fields_of, rule_of
from blacklist.formats.listed import (
    FormatError,
    Listed,
    ListedRule,
    Written,
    is_comment,
)


def read(listed: Listed, text: str) -> None:
    rows = tables.rows(text)
    said = (row for _, row in rows if not is_comment("".join(row).strip()))
    header = tables.names(next(said, []))
    if "domain" not in header:
        raise FormatError(
            "This CSV has no column 'domain': name the column of the domains "
            "'domain' in the first line."
        )
    tables.take(listed, header, rows, rule_of)


def write(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    writer = tables.Writer()
    yield writer.line(COLUMNS)
    for rule in rules:
        values = fields_of(rule)
        values["include_subdomains"] = str(values["include_subdomains"]).lower()
        yield writer.line(values.values())
        written.rules += 1
