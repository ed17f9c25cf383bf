"""Plain: one rule a line, as operators type it."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from blacklist.domains import ALLOW, RuleSpec, parse_rule
from blacklist.formats.listed import (
    Listed,
    ListedRule,
    Written,
    left_out,
    no_scope,
    said_lines,
    sayable,
)


def read(listed: Listed, text: str) -> None:
    listed.take(said_lines(text), parse_rule)


def write(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    """The blocked domains alone, which is what others understand."""
    for rule in sayable(rules, now, written, unsayable):
        yield rule.spec.domain + "\n"
    yield from left_out("#", written)


def unsayable(spec: RuleSpec) -> str:
    return "exceptions (allow)" if spec.action == ALLOW else no_scope(spec)
