"""What a host is, what a rule is, and which names a rule may have.

A URL becomes a host as browsers make it (https://url.spec.whatwg.org/#host-parsing).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import ada_url
from publicsuffixlist import PublicSuffixList

BLOCK = "block"
ALLOW = "allow"


class RuleError(ValueError):
    """A text that is no rule; the message says what to do instead."""


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """Which hosts (a canonical one, and all below it or not) and what about them."""

    domain: str
    include_subdomains: bool = True
    action: str = BLOCK

    def __str__(self) -> str:
        """The rule as `parse_rule` reads it."""
        scope = "" if self.include_subdomains or is_address(self.domain) else "="
        return ("@@" if self.action == ALLOW else "") + scope + self.domain


class Suffix(StrEnum):
    """Which part of the Public Suffix List a name stands in (publicsuffix.org)."""

    ICANN = "ICANN"
    PRIVATE = "private"


# IPv6 addresses that carry an IPv4 one, and how far right it stands in them.
_EMBEDDED = (
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
    (IPv6Network("::/96"), 0),  # compatible
)
_PLAIN_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z](?:[a-z0-9-]{0,62})")
_RULE_LABEL = re.compile(r"[a-z0-9_-]+")
# Every part may be missing, so that it always matches.
_SIGNS = re.compile(
    r"(?P<allow>@@)?(?:(?P<adblock>\|\|)|(?P<alone>=)?(?P<below>\*?\.)?)"
)
_SCHEME = re.compile(r"(?:(?P<scheme>[a-z][a-z0-9+.-]*):)?//", re.IGNORECASE)


def host_of(url: str) -> str | None:
    """The canonical ASCII host of an http(s) address; None if there is none.

    Lower case, without a trailing dot; an IPv4 address within IPv6 is that IPv4
    address; IPv6 comes without brackets.
    """
    try:
        parsed = ada_url.URL(url)
    except ValueError:
        return None
    if parsed.protocol not in ("http:", "https:"):
        return None
    name: str = parsed.hostname
    if name.startswith("["):
        return _folded(IPv6Address(name[1:-1]))
    # Browsers keep the dot of "example.com.", and so would miss the rule.
    name = name.removesuffix(".")
    if len(name) > 253 or any(not 0 < len(part) < 64 for part in name.split(".")):
        return None
    return name


def shown_host(host: str) -> str:
    """The host as people write it: Unicode, and without `www.`."""
    if host.startswith("www.") and host.count(".") > 1:
        host = host.removeprefix("www.")
    shown: str = ada_url.idna_to_unicode(host)
    # What does not come back the same is no honest spelling of this host.
    return shown if ada_url.idna_to_ascii(shown) == host.encode() else host


def names(host: str) -> Iterator[str]:
    """The host and all it stands below, the most specific first."""
    yield host
    # Cut at dots only, so that "example.com" never covers "notexample.com".
    while "." in host:
        host = host.partition(".")[2]
        yield host


def is_address(domain: str) -> bool:
    """Whether a canonical host is an IP address."""
    return ":" in domain or domain.replace(".", "").isdigit()


def is_canonical(domain: str) -> bool:
    """Whether a rule of this domain can be stored as it is."""
    if _is_plain(domain):
        return True
    try:
        return parse_rule(domain).domain == domain
    except RuleError:
        return False


def suffix_of(domain: str) -> Suffix | None:
    """Whether a name is a public suffix, under which strangers register names."""
    icann, whole = _suffixes()
    if icann.is_public(domain):
        return Suffix.ICANN
    return Suffix.PRIVATE if whole.is_public(domain) else None


def suffix_refusal(
    spec: RuleSpec,
    *,
    confirmed: bool,
    superuser: bool,
    before: RuleSpec | None = None,
) -> str | None:
    """Why this rule may not be stored as it is, or None if it may.

    A public suffix is never blocked by a slip: an ICANN one only by a superuser
    who confirms, a private one by whoever confirms. Nobody is asked again for what
    the rule blocked `before`.
    """
    if (
        before is not None
        and (before.domain, before.action) == (spec.domain, spec.action)
        and before.include_subdomains >= spec.include_subdomains
    ):
        return None
    kind = suffix_of(spec.domain) if spec.action == BLOCK else None
    if kind is None or (confirmed and (superuser or kind is Suffix.PRIVATE)):
        return None
    what = f"{spec.domain} is a public suffix ({kind}): strangers have sites below it."
    if kind is Suffix.ICANN and not superuser:
        return f"{what} Only a superuser may block it; block the one site instead."
    return f"{what} Block the one site instead, or confirm that you mean all of them."


def parse_rule(text: str) -> RuleSpec:
    """A rule as operators type it.

    `d`, `*.d`, `.d`, `d.`, `||d^`, `d/` and `http(s)://d/` mean d and all below it,
    `=d` this host alone; `@@` before it allows. An IP address is always alone.
    Raises RuleError, which says what to do.
    """
    typed = text.strip()
    if _is_plain(typed):
        return RuleSpec(typed)
    signs: re.Match[str] = _SIGNS.match(typed)  # type: ignore[assignment]
    rest = typed[signs.end() :]
    if signs["adblock"]:
        rest = _adblock_name(typed, rest)
    if signs["alone"] and signs["below"]:
        raise RuleError(
            f"'{short(typed)}' says both this host alone (=) and all below it: "
            "leave one of them out."
        )
    domain = rest if _is_plain(rest) else _domain(typed, rest)
    alone = bool(signs["alone"]) or is_address(domain)
    return RuleSpec(domain, not alone, ALLOW if signs["allow"] else BLOCK)


def short(text: str, most: int = 60) -> str:
    """A text as a message shows it: on one line, at most so many characters."""
    text = text if len(text) <= most else text[: most - 1] + "…"
    if text.isprintable():
        return text
    # What a list says may end on a terminal, which obeys control characters.
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _is_plain(name: str) -> bool:
    # Most names: what the host parser would give back as it is, for a 30th of the time.
    return bool(len(name) <= 253 and _PLAIN_NAME.fullmatch(name) and "xn--" not in name)


def _refuse_other_kinds(typed: str) -> None:
    if not typed.strip("@|=*.^/"):
        raise RuleError("There is no domain in it: type one such as example.com.")
    if re.search(r"\s", typed):
        raise RuleError(
            f"'{short(typed)}' has a space in it: type one domain a line, "
            "and nothing after it."
        )
    if re.search(r"^/[^/].*/$|[()+{}\\]", typed):
        raise RuleError(
            f"'{short(typed)}' looks like a regular expression: a rule is a domain "
            "such as example.com."
        )


def _adblock_name(typed: str, rest: str) -> str:
    name, end, modifiers = rest.partition("^")
    if not end:
        raise RuleError(
            f"'{short(typed)}' is only the start of names: write ||example.com^ "
            "with the ^ at its end."
        )
    if modifiers:
        raise RuleError(
            f"'{short(typed)}' holds only for some requests ('{short(modifiers)}'): "
            "a rule is for a whole host, leave that part out if you mean all of it."
        )
    if name.startswith(("*", ".", "=")) or name.endswith("/"):
        raise RuleError(
            f"'{short(typed)}' is not for a whole host: write ||example.com^ if you "
            "mean the host and all below it."
        )
    return name


def _domain(typed: str, rest: str) -> str:
    _refuse_other_kinds(typed)
    scheme = _SCHEME.match(rest)
    if scheme:
        if (scheme["scheme"] or "http").lower() not in ("http", "https"):
            raise RuleError(
                f"'{short(typed)}' is no web address: type the domain alone."
            )
        rest = rest[scheme.end() :]
    name, slash, path = rest.partition("/")
    _refuse_parts(typed, name, slash + path)
    if name.isascii() and _is_plain(plain := name.lower().removesuffix(".")):
        return plain
    if name.count(":") > 1 and not name.startswith("["):
        name = f"[{name}]"
    host = host_of(f"http://{name}/")
    if host is None:
        raise RuleError(_why_no_host(typed, name))
    _refuse_host(typed, name, host)
    return host


def _refuse_parts(typed: str, name: str, path: str) -> None:
    if "@" in name:
        raise RuleError(
            f"'{short(typed)}' has a user name in it: leave out all up to the @."
        )
    if path[1:].isdigit() and is_address(name.strip("[]")):
        raise RuleError(
            f"'{short(typed)}' is a range of addresses: add each address by itself."
        )
    if path not in ("", "/") or "?" in name or "#" in name:
        raise RuleError(
            f"'{short(typed)}' has a path: a rule is for a whole host, leave out "
            "what follows the domain if you mean all of it."
        )
    if "*" in name:
        raise RuleError(
            f"'{short(typed)}' has a * inside: only *. at the start is understood, "
            "and means the same as the domain without it."
        )
    if re.search(r"(?:^[^:]*|\]):\d*$", name):
        raise RuleError(
            f"'{short(typed)}' has a port: a rule is for all ports, leave it out."
        )


def _why_no_host(typed: str, name: str) -> str:
    parts = name.removesuffix(".").split(".")
    if "" in parts:
        return f"'{short(typed)}' has an empty part between dots: remove a dot."
    if len(name) > 253 or any(len(part) > 63 for part in parts):
        return (
            f"'{short(typed)}' is too long for a domain: at most 63 characters "
            "between dots and 253 in all."
        )
    return f"'{short(typed)}' is no host name: check its spelling."


def _refuse_host(typed: str, name: str, host: str) -> None:
    if is_address(host):
        if ":" not in name and name.removesuffix(".").count(".") < 3:
            raise RuleError(
                f"'{short(typed)}' is a number: if you mean the address, type {host}."
            )
        return
    if "." not in host:
        raise RuleError(
            f"'{short(typed)}' is a single label: a rule has at least two, such as "
            f"example.{host}."
        )
    for label in host.split("."):
        if not _RULE_LABEL.fullmatch(label):
            raise RuleError(
                f"'{short(typed)}' has a character that no domain has: type one "
                "domain a line, such as example.com."
            )


def _folded(address: IPv6Address) -> str:
    for network, right in _EMBEDDED:
        # Not "::" and "::1", which are IPv6's own.
        if address in network and int(address) > 1:
            return str(IPv4Address(int(address) >> right & 0xFFFFFFFF))
    return str(address)


@cache
def _suffixes() -> tuple[PublicSuffixList, PublicSuffixList]:
    # Without unknown top levels: else every name of two labels below one would be.
    return (
        PublicSuffixList(only_icann=True, accept_unknown=False),
        PublicSuffixList(accept_unknown=False),
    )
