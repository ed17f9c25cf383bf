"""Lists taken in as one batch, taken away again, and given out."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from blacklist import domains, editing, formats, hooks
from blacklist.formats import ListedRule, Skipped
from blacklist.models import (
    BATCH,
    BlacklistedDomain,
    Edit,
    ImportBatch,
    RuleQuerySet,
)

# Seconds between two commits: whoever waits for the lock tries every millisecond.
_PAUSE = 0.005


class ImportProblem(Exception):
    """Nothing can be imported; the message is one line and says what to do."""


@dataclass(frozen=True)
class Plan:
    """What an import would do; made before anything is stored."""

    source: str
    format: str
    new: list[ListedRule]
    duplicates: int
    suffixes: list[ListedRule]
    skipped: list[Skipped]

    def impact(self) -> hooks.Impact:
        return hooks.impact([rule.spec for rule in self.new])

    def counts(self) -> str:
        return (
            f"{len(self.new):,} new, {self.duplicates:,} known already, "
            f"{len(self.suffixes):,} public suffixes left out, "
            f"{len(self.skipped):,} skipped"
        )


def fetch(source: str) -> bytes:
    """The bytes of a file or of an http(s) address. Raises ImportProblem."""
    try:
        if source.startswith(("http://", "https://")):
            return hooks.fetch(source)
        return Path(source).read_bytes()
    except FileNotFoundError as error:
        raise ImportProblem(f"There is no file {source}.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImportProblem(f"Cannot read {source}: {reason}") from error


def plan(
    data: bytes, *, source: str, format: str = "", suffixes_confirmed: bool = False
) -> Plan:
    """Read a list and compare it with what is there. Raises ImportProblem.

    A rule is known already if an earlier import of the same source has it: those of
    other origins are kept apart, so that undoing takes away only a batch's own.
    """
    try:
        listed = formats.read(data, format=format, name=source)
    except formats.FormatError as error:
        raise ImportProblem(f"{source}: {error}") from error
    if not listed.rules and not listed.skipped:
        raise ImportProblem(f"{source}: There is no domain in it.")
    known = _known(source)
    new: list[ListedRule] = []
    suffixes: list[ListedRule] = []
    for rule in listed.rules:
        key = (rule.spec.domain, rule.spec.include_subdomains)
        if key in known:
            continue
        known.add(key)
        refused = domains.suffix_refusal(
            rule.spec, confirmed=suffixes_confirmed, superuser=suffixes_confirmed
        )
        (suffixes if refused else new).append(rule)
    return Plan(
        source=source,
        format=listed.format,
        new=new,
        duplicates=len(listed.rules) - len(new) - len(suffixes),
        suffixes=suffixes,
        skipped=listed.skipped,
    )


def _known(source: str) -> set[tuple[str, bool]]:
    batches = ImportBatch.objects.filter(source=source[:500])
    rules = BlacklistedDomain.objects.filter(origin__in=[b.origin for b in batches])
    return set(rules.values_list("domain", "include_subdomains"))


def commit(
    plan: Plan,
    *,
    author: Any = None,
    reason: str = "",
    progress: Callable[[int], None] = lambda stored: None,
) -> ImportBatch:
    """Store a plan's rules, all of them or none, as one batch.

    `reason` is for rules that name none. `progress` hears how many are stored.
    """
    now = timezone.now()
    rules = [
        BlacklistedDomain(
            domain=rule.spec.domain,
            include_subdomains=rule.spec.include_subdomains,
            action=rule.spec.action,
            reason=rule.reason or reason or "other",
            note=rule.note,
            expires_at=rule.expires_at,
            review_at=rule.review_at,
            source=BlacklistedDomain.Source.IMPORT,
            created_at=now,
            created_by=author,
        )
        for rule in plan.new
    ]
    staged = _stage(rules, progress)
    with transaction.atomic():
        batch = ImportBatch.objects.create(
            source=plan.source[:500],
            author=author,
            created_at=now,
            added=len(plan.new),
            duplicates=plan.duplicates,
            suffixes=len(plan.suffixes),
            skipped=len(plan.skipped),
        )
        if rules:
            staged.update(origin=batch.origin, retired_at=None)
    return batch


def _stage(
    rules: Sequence[BlacklistedDomain],
    progress: Callable[[int], None] = lambda stored: None,
) -> RuleQuerySet:
    """Store rules as retired ones, which one update then makes live all at once.

    A few a commit: one transaction around all would keep votes out for seconds.
    Where this ends midway, forget_old() finds the rows.
    """
    origin = f"staged:{uuid4().hex}"
    for start in range(0, len(rules), BATCH):
        if start:
            time.sleep(_PAUSE)
        some = rules[start : start + BATCH]
        for rule in some:
            rule.origin = origin
        BlacklistedDomain.everything.stage(some)
        progress(start + len(some))
    return BlacklistedDomain.everything.filter(origin=origin)


def add_by_hand(
    rules: Iterable[ListedRule], *, author: Any, reason: str = "", note: str = ""
) -> tuple[Edit, int]:
    """Store rules as an operator's own; the edit, and how many were known already."""
    wanted = {(rule.spec.domain, rule.spec.include_subdomains): rule for rule in rules}
    staged = _stage(
        [
            BlacklistedDomain(
                domain=rule.spec.domain,
                include_subdomains=rule.spec.include_subdomains,
                action=rule.spec.action,
                reason=rule.reason or reason or "other",
                note=rule.note or note,
                created_by=author,
            )
            for rule in wanted.values()
        ]
    )
    own = BlacklistedDomain.objects.filter(
        origin="",
        domain=OuterRef("domain"),
        include_subdomains=OuterRef("include_subdomains"),
    )
    # Compared in the statement that adds, which begins once no other writer is left.
    new = staged.exclude(Exists(own))
    edit = editing.bring_in(new, author=author)
    return edit, len(wanted) - edit.rules


def undo(batch: ImportBatch) -> int:
    """Take a batch's rules away; all is as before it. Returns how many there were."""
    with transaction.atomic():
        count = BlacklistedDomain.objects.filter(origin=batch.origin).retire()
        batch.undone_at = batch.undone_at or timezone.now()
        batch.save(update_fields=["undone_at"])
    return count


def export(
    format: str,
    written: formats.Written,
    *,
    rules: RuleQuerySet | None = None,
    now: datetime | None = None,
) -> Iterator[str]:
    """Rules (else all) as the text of a list, sorted by domain.

    Where several origins have a rule of one domain and scope, only the one that
    counts is written.
    """
    now = now or timezone.now()
    chosen = BlacklistedDomain.objects.all() if rules is None else rules
    return formats.write(
        _counting(chosen, now), format=format, now=now, written=written
    )


def _counting(rules: RuleQuerySet, now: datetime) -> Iterator[ListedRule]:
    order = rules.by_precedence().query.order_by
    rows = rules.order_by("domain", "include_subdomains", *order)
    best: ListedRule | None = None
    for domain, below, action, *rest in rows.values_list(*formats.COLUMNS).iterator():
        rule = ListedRule(domains.RuleSpec(domain, below, action), *rest)
        if best is not None and _key(rule) != _key(best):
            yield best
            best = None
        # By precedence, but what has expired gives way to what has not.
        if best is None or (_expired(best, now) and not _expired(rule, now)):
            best = rule
    if best is not None:
        yield best


def _key(rule: ListedRule) -> tuple[str, bool]:
    return rule.spec.domain, rule.spec.include_subdomains


def _expired(rule: ListedRule, now: datetime) -> bool:
    return rule.expires_at is not None and rule.expires_at <= now
