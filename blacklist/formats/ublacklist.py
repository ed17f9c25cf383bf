"""uBlacklist's rules, of which only match patterns for whole hosts are taken.

`*://*.d/*` blocks d and all below it, `*://d/*` that host alone; `@` before it
allows. See https://iorate.github.io/ublacklist/docs/advanced-features.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from blacklist.domains import (
    ALLOW,
    BLOCK,
    RuleError,
    RuleSpec,
    is_address,
    parse_rule,
    short,
)
from blacklist.formats.listed import (
    Listed,
    ListedRule,
    Written,
    left_out,
    said_lines,
    sayable,
)

_WHOLE_HOST = re.compile(r"(?P<allow>@)?\*://(?P<below>\*\.)?(?P<name>[^/*@=|]+)/\*")
_PATTERN = re.compile(r"@?\d*(?:\*://|https?://[^/\s]*/.*\*)", re.IGNORECASE)
# What stands above the rules of a list that others subscribe to is about the list.
FENCE = "---"


def recognises(line: str) -> bool:
    return _PATTERN.match(line) is not None


def read(listed: Listed, text: str) -> None:
    listed.take(_rules(list(said_lines(text))), _spec)


def write(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    for rule in sayable(rules, now, written, lambda spec: ""):
        spec = rule.spec
        allow = "@" if spec.action == ALLOW else ""
        below = "*." if spec.include_subdomains else ""
        host = f"[{spec.domain}]" if ":" in spec.domain else spec.domain
        yield f"{allow}*://{below}{host}/*\n"
    yield from left_out("#", written)


def _rules(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    fences = [place for place, (_, line) in enumerate(lines) if line == FENCE]
    return lines[fences[1] + 1 :] if fences[:1] == [0] and fences[1:] else lines


def _spec(line: str) -> RuleSpec:
    pattern = _WHOLE_HOST.fullmatch(line)
    if pattern is None:
        raise RuleError(_why_not(line))
    domain = parse_rule(pattern["name"]).domain
    return RuleSpec(
        domain,
        pattern["below"] is not None and not is_address(domain),
        ALLOW if pattern["allow"] else BLOCK,
    )


def _why_not(line: str) -> str:
    if re.match(r"@\d", line):
        return f"'{short(line)}' marks results, and blocks nothing."
    if _PATTERN.match(line):
        return (
            f"'{short(line)}' holds only for some pages of a host, or for all hosts: "
            "only patterns such as *://*.example.com/* are taken."
        )
    return (
        f"'{short(line)}' is for addresses or titles that look alike: only patterns "
        "such as *://*.example.com/* are taken."
    )
