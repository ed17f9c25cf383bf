"""AdBlock filter lists, of which only rules for whole hosts are taken.

`||d^` blocks d and all below it, `@@||d^` allows it. The syntax is described in
https://help.adblockplus.org/hc/en-us/articles/360062733293 and, with more modifiers,
in https://adguard.com/kb/general/ad-filtering/create-own-filters/.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from blacklist.domains import ALLOW, RuleError, RuleSpec, parse_rule, short
from blacklist.formats.listed import (
    Listed,
    ListedRule,
    Written,
    left_out,
    no_scope,
    said_lines,
    sayable,
)

_HEADER = re.compile(r"\[[a-z][^\]]*\]", re.IGNORECASE)
_COSMETIC = re.compile(r"#@?(?:\$\??|[?%])?#|\$@?\$")
# They don't narrow a rule: a document is the page that an address leads to, the
# others say how strong the rule is. Every other modifier is taken to narrow it, or
# to turn it around (badfilter).
_WHOLE_HOST = {"all", "doc", "document", "important"}


def recognises(line: str) -> bool:
    return line.startswith(("||", "@@||")) or bool(
        _HEADER.fullmatch(line) or _COSMETIC.search(line)
    )


def is_header(line: str) -> bool:
    """Whether this is `[Adblock Plus 2.0]` or the like."""
    return _HEADER.fullmatch(line) is not None


def read(listed: Listed, text: str) -> None:
    said = (one for one in said_lines(text) if not is_header(one[1]))
    listed.take(said, _spec)


def write(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    yield "[Adblock Plus 2.0]\n"
    for rule in sayable(rules, now, written, no_scope):
        spec = rule.spec
        allow = "@@" if spec.action == ALLOW else ""
        host = f"[{spec.domain}]" if ":" in spec.domain else spec.domain
        yield f"{allow}||{host}^\n"
    yield from left_out("!", written)


def _spec(line: str) -> RuleSpec:
    if _COSMETIC.search(line):
        raise RuleError(
            f"'{short(line)}' hides parts of pages: only rules for a whole host "
            "such as ||example.com^ are taken."
        )
    if not line.startswith(("||", "@@||")):
        raise RuleError(
            f"'{short(line)}' is for a part of addresses: only rules for a whole host "
            "such as ||example.com^ are taken."
        )
    rule, _, modifiers = line.partition("$")
    whole = set(modifiers.lower().split(",")) <= _WHOLE_HOST
    return parse_rule(rule if whole else line)
