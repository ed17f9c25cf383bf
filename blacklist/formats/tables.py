"""Lists that are CSV: rows with the line they end on, under a header."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator

from blacklist.domains import RuleError
from blacklist.formats.listed import FormatError, Listed, ListedRule

Row = tuple[int, list[str]]


def rows(text: str) -> Iterator[Row]:
    """The rows that are not empty, by line. Raises FormatError."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if any(row) and any(map(str.strip, row)):
                yield reader.line_num, row
    except csv.Error as error:
        raise FormatError(f"Line {reader.line_num} is not CSV: {error}.") from error


def take(
    listed: Listed,
    header: list[str],
    rows: Iterable[Row],
    rule: Callable[[int, dict[str, str]], ListedRule],
) -> None:
    """Read each row as a rule; where `rule` raises RuleError, it is skipped."""
    for line, row in rows:
        try:
            listed.rules.append(rule(line, dict(zip(header, row, strict=False))))
        except RuleError as error:
            listed.skip(line, ",".join(row), error)


def names(row: list[str]) -> list[str]:
    """The names of the columns, as they are asked for."""
    return [cell.strip().lower() for cell in row]


class Writer:
    """Makes rows the text of a list, line by line."""

    def __init__(self) -> None:
        self._buffer = io.StringIO()
        # Python quotes no other line end than its own: a lone \r would end the row.
        self._writer = csv.writer(self._buffer, lineterminator="\r\n")

    def line(self, row: Iterable[object]) -> str:
        self._writer.writerow(row)
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text.removesuffix("\r\n") + "\n"
