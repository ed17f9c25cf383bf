"""Plain: one rule a line, as operators type it."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from blacklist.domains import ALLOW, RuleError, RuleSpec, is_address, parse_rule
from blacklist.formats.listed import (
    Listed,
    ListedRule,
    Written,
    left_out,
    said_lines,
    sayable,
)


def read(listed: Listed, text: str) -> None:
    for number, line in said_lines(text):
        try:
            listed.rules.append(ListedRule(parse_rule(line), line=number))
        except RuleError as error:
            listed.skip(number, line, error)


def write(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    """The blocked domains alone, which is what others understand."""
    for rule in sayable(rules, now, written, unsayable):
        yield rule.spec.domain + "\n"
    yield from left_out("#", written)


def unsayable(spec: RuleSpec) -> str:
    if spec.action == ALLOW:
        return "exceptions (allow)"
    alone = not spec.include_subdomains and not is_address(spec.domain)
    return "rules for one host alone" if alone else ""
