"""Hosts files: an address that leads nowhere, and the names it is for.

A hosts file can only name single hosts, and its makers mean the sites: a name is
read as the host and all below it, as the same name in a plain list.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from datetime import datetime

from blacklist.domains import RuleError, RuleSpec, is_address, parse_rule, short
from blacklist.formats import plain
from blacklist.formats.listed import (
    Listed,
    ListedRule,
    Written,
    left_out,
    said_lines,
    sayable,
)

# What every machine's own file has; it says nothing about the web.
_LOCAL = {
    "0.0.0.0",  # noqa: S104
    "broadcasthost",
    "ip6-allhosts",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-localhost",
    "ip6-localnet",
    "ip6-loopback",
    "ip6-mcastprefix",
    "local",
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
}


def recognises(line: str) -> bool:
    words = line.split(maxsplit=2)
    return len(words) > 1 and _address(words[0]) is not None


def read(listed: Listed, text: str) -> None:
    leads_nowhere: dict[str, bool] = {}
    for number, line in said_lines(text):
        first, *names = line.split()
        if first not in leads_nowhere:
            address = _address(first)
            leads_nowhere[first] = address is not None and (
                address.is_loopback or address.is_unspecified
            )
        for name in names or [""]:
            if name.lower() in _LOCAL:
                continue
            try:
                if not name or not leads_nowhere[first]:
                    raise RuleError(_no_block(line, first))
                listed.rules.append(ListedRule(parse_rule(name), line=number))
            except RuleError as error:
                listed.skip(number, line, error)


def write(
    rules: Iterable[ListedRule], now: datetime, written: Written
) -> Iterator[str]:
    for rule in sayable(rules, now, written, _unsayable):
        yield f"0.0.0.0 {rule.spec.domain}\n"
    yield from left_out("#", written)


def _unsayable(spec: RuleSpec) -> str:
    return plain.unsayable(spec) or ("IP addresses" if is_address(spec.domain) else "")


def _no_block(line: str, first: str) -> str:
    if _address(first) is None:
        return "There is no address before it: write a line as 0.0.0.0 example.com."
    if line == first:
        return "There is no name after the address: write 0.0.0.0 example.com."
    return (
        f"It says where a host is ({short(first)}), and blocks nothing: only names at "
        "0.0.0.0, 127.0.0.1, :: or ::1 are blocked."
    )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
