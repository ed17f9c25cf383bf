"""Which rules change nothing, and could go."""

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from weakref import WeakKeyDictionary

from django.utils import timezone

from blacklist import cache, domains, packed
from blacklist.models import BlacklistedDomain


@dataclass(frozen=True)
class Idle:
    """Ids of rules in force that decide nothing which another would not."""

    redundant: frozenset[int]  # a wider rule says the same, for as long
    shadowed: frozenset[int]  # a stronger rule of the same name and scope is first


@dataclass(frozen=True, slots=True)
class _Rule:
    pk: int
    domain: str
    include_subdomains: bool
    action: str
    origin: str
    expires_at: int | None

    @property
    def place(self) -> tuple[str, bool]:
        return self.domain, bool(self.include_subdomains)

    @property
    def strength(self) -> tuple[bool, bool, int]:
        """As RuleQuerySet.by_precedence(): the strongest is the greatest."""
        return self.origin == "", self.action == domains.ALLOW, -self.pk


_known: WeakKeyDictionary[cache.Rules, tuple[tuple[int, int], Idle]]
_known = WeakKeyDictionary()


def idle() -> Idle:
    """Found anew when a rule has changed or expired."""
    # Only names that may matter are looked up: a walk over those in memory is
    # quicker than reading all rules, or than asking SQL for all that stands above.
    rules = cache.current()
    version, found = _known.get(rules, (None, None))
    if found is None or version != rules.version:
        version = rules.version
        found = _find(rules, timezone.now())
        _known[rules] = version, found
    return found


def _find(rules: cache.Rules, now: datetime) -> Idle:
    found = packed.once(
        BlacklistedDomain.objects.in_force(now).filter(
            packed.Among("domain", rules.overlapping())
        ),
        *("pk", "domain", "include_subdomains", "action", "origin", "expires_at"),
    )
    overlapping = sorted((_Rule(*row) for row in found), key=lambda rule: rule.place)
    redundant = {rule.pk for rule in overlapping if _is_redundant(rule, rules)}
    shadowed: set[int] = set()
    for _, same in groupby(overlapping, lambda rule: rule.place):
        _, *weaker = sorted(same, key=lambda rule: rule.strength, reverse=True)
        shadowed.update(rule.pk for rule in weaker)
    return Idle(frozenset(redundant), frozenset(shadowed))


def _is_redundant(rule: _Rule, rules: cache.Rules) -> bool:
    wider = rules.wider(rule.domain, own=not rule.include_subdomains)
    if wider is None or wider[0] != rule.action:
        return False
    until = wider[1]
    return until is None or (rule.expires_at is not None and rule.expires_at <= until)
