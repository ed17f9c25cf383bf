"""Why an address is blocked or not: every step of the decision, and who made it so."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from ipaddress import IPv6Address

from blacklist import cache, domains
from blacklist.models import BlacklistedDomain, ImportBatch

# A port is no scheme: "example.com:8000".
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Step:
    """A name that was tried, and the rules of this name, the strongest first."""

    name: str
    rules: tuple[BlacklistedDomain, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of an address. `deciding` are the rules that count for it: the
    first one wins, and each next one would if those before it went."""

    url: str
    host: str | None
    blocked: bool
    steps: tuple[Step, ...] = ()
    deciding: tuple[BlacklistedDomain, ...] = ()
    batches: tuple[ImportBatch, ...] = ()


def address_of(typed: str) -> str:
    """The address that is meant by a host, or by an address, as people paste them."""
    typed = typed.strip()
    with suppress(ValueError):
        return f"http://[{IPv6Address(typed)}]/"
    if typed.startswith("//"):
        return f"http:{typed}"
    return typed if _SCHEME.match(typed) else f"http://{typed}"


def tried(host: str | None) -> list[str]:
    """The names whose rules count for a host, in the order they are looked up."""
    if host is None or domains.is_address(host):
        return [host] if host else []
    return list(domains.names(host))


def explain(url: str, *, now: datetime, since: date) -> Explanation:
    """The whole decision about an address, with the hits `since` a day."""
    host = domains.host_of(url)
    names = tried(host)
    found = list(
        BlacklistedDomain.objects.filter(domain__in=names)
        .with_hits(since)
        .select_related("created_by")
        # On one name "this host alone" beats "and below".
        .by_precedence()
    )
    found.sort(key=lambda rule: (names.index(rule.domain), rule.include_subdomains))
    deciding = tuple(rule for rule in found if _counts(rule, host, now))
    batches = ImportBatch.objects.of({rule.origin for rule in found})
    return Explanation(
        url=url,
        host=host,
        blocked=cache.refresh().blocks(host),
        steps=tuple(
            Step(name, tuple(rule for rule in found if rule.domain == name))
            for name in names
        ),
        deciding=deciding,
        batches=tuple(batches),
    )


def _counts(rule: BlacklistedDomain, host: str | None, now: datetime) -> bool:
    in_force = rule.expires_at is None or rule.expires_at > now
    return in_force and (rule.include_subdomains or rule.domain == host)
