"""Lists taken in as one batch, taken away again, and given out."""

import hashlib
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from blacklist import domains, editing, formats, hooks, packed
from blacklist.domains import RuleSpec
from blacklist.formats import ListedRule, Skipped
from blacklist.models import (
    BATCH,
    BlacklistedDomain,
    Edit,
    ImportBatch,
    PendingImport,
    Revision,
    RuleQuerySet,
)

# Seconds between two commits: whoever waits for the lock tries every millisecond.
_PAUSE = 0.002


class ImportProblem(Exception):
    """Nothing can be imported; the message is one line and says what to do."""


class PlanOutdated(ImportProblem):
    """The blacklist is not what it was when the plan was made."""


class AlreadyImported(ImportProblem):
    """The preview was imported before, as `batch`."""

    def __init__(self, batch: ImportBatch) -> None:
        super().__init__(f"This list was imported already, as batch {batch.pk}.")
        self.batch = batch


@dataclass(frozen=True)
class Choices:
    """What an operator decides about the rules of a list."""

    public_suffixes: bool = False
    leave_out_covered: bool = False
    leave_out_conflicts: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """A rule of a list, and what is to be said of it."""

    rule: ListedRule
    why: str


@dataclass(frozen=True)
class Plan:
    """What an import would do; made before anything is stored.

    `new` is what would be stored: with the covered rules and those in conflict, unless
    the choices leave them out.
    """

    source: str
    format: str
    choices: Choices
    new: list[ListedRule]
    known: list[Remark]
    covered: list[Remark]
    conflicts: list[Remark]
    suffixes: list[Remark]
    skipped: list[Skipped]
    revision: int  # of the blacklist it was compared with
    names: frozenset[str]  # whose rules it was compared with

    def impact(self) -> hooks.Impact:
        return hooks.impact([rule.spec for rule in self.new])

    def counts(self) -> str:
        left = self.choices
        covered = " left out" if left.leave_out_covered else ""
        conflicts = " left out" if left.leave_out_conflicts else ""
        return (
            f"{len(self.new):,} new, {len(self.known):,} known already, "
            f"{len(self.covered):,} covered by other rules{covered}, "
            f"{len(self.conflicts):,} in conflict{conflicts}, "
            f"{len(self.suffixes):,} public suffixes left out, "
            f"{len(self.skipped):,} skipped"
        )

    @cached_property
    def rows(self) -> dict[str, list[tuple[int, str, str]]]:
        """By kind each rule or line: its line, its text, and what is said of it."""
        remarks = {
            "known": self.known,
            "covered": self.covered,
            "conflicts": self.conflicts,
            "suffixes": self.suffixes,
        }
        return {
            "new": [(rule.line, str(rule.spec), "") for rule in self.new],
            **{
                kind: [(of.rule.line, str(of.rule.spec), of.why) for of in some]
                for kind, some in remarks.items()
            },
            "skipped": [(line.line, line.text, line.reason) for line in self.skipped],
        }

    @cached_property
    def digest(self) -> str:
        """The same for two plans that store and say the same."""
        said = orjson.dumps([self.format, self.rows])
        return hashlib.sha256(said).hexdigest()


def fetch(source: str) -> bytes:
    """The bytes of a file or of an http(s) address. Raises ImportProblem."""
    if source.startswith(("http://", "https://")):
        return fetch_address(source)
    try:
        return Path(source).read_bytes()
    except FileNotFoundError as error:
        raise ImportProblem(f"There is no file {source}.") from error
    except OSError as error:
        raise _unreadable(source, error) from error


def fetch_address(url: str) -> bytes:
    """The bytes of an http(s) address. Raises ImportProblem."""
    try:
        return hooks.fetch(url)
    except OSError as error:
        raise _unreadable(url, error) from error


def _unreadable(source: str, error: OSError) -> ImportProblem:
    return ImportProblem(f"Cannot read {source}: {error.strerror or error}")


def plan(
    data: bytes,
    *,
    source: str,
    format: str = "",
    choices: Choices = Choices(),
    superuser: bool = False,
) -> Plan:
    """Read a list and compare it with what is there. Raises ImportProblem.

    A rule is known already if the list named it before, an earlier import of the same
    source has it, or one by hand says the very same. Others are kept apart from those
    of other origins, so that undoing takes away only a batch's own.
    """
    try:
        listed = formats.read(data, format=format, name=source)
    except formats.FormatError as error:
        raise ImportProblem(f"{source}: {error}") from error
    if not listed.rules and not listed.skipped:
        raise ImportProblem(f"{source}: There is no domain in it.")
    # Read first: what changes meanwhile is found when the plan is committed.
    revision = Revision.current()
    comparison = _Comparison(listed.rules, source, timezone.now())
    made = Plan(
        source=source,
        format=listed.format,
        choices=choices,
        new=[],
        known=comparison.known,
        covered=[],
        conflicts=[],
        suffixes=[],
        skipped=listed.skipped,
        revision=revision,
        names=frozenset(comparison.names),
    )
    wanted = []
    for rule in comparison.rules:
        refused = domains.suffix_refusal(
            rule.spec, confirmed=choices.public_suffixes, superuser=superuser
        )
        if refused:
            made.suffixes.append(Remark(rule, refused))
            comparison.leave_out(rule)
        else:
            wanted.append(rule)
    # After all suffixes: what is left out covers nothing.
    made.new.extend(rule for rule in wanted if _is_left(made, rule, comparison))
    return made


def _is_left(made: Plan, rule: ListedRule, comparison: "_Comparison") -> bool:
    """Whether a rule is to be stored; what is to be said of it is noted."""
    conflict = comparison.conflict(rule.spec)
    if conflict:
        made.conflicts.append(Remark(rule, conflict))
        return not made.choices.leave_out_conflicts
    cover = comparison.cover(rule.spec)
    if cover:
        made.covered.append(Remark(rule, cover))
        return not made.choices.leave_out_covered
    return True


_Key = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is in force for a domain and scope, the one that counts."""

    spec: RuleSpec
    origin: str
    lasting: bool

    def __str__(self) -> str:
        return f"{self.spec} ({self.origin.replace(':', ' ') or 'by hand'})"

    @property
    def precedence(self) -> tuple[bool, bool]:
        return self.origin != "", self.spec.action != domains.ALLOW


class _Comparison:
    """The rules of a list beside those that are there."""

    def __init__(
        self, listed: Sequence[ListedRule], source: str, now: datetime
    ) -> None:
        # Only these can decide about what the list names: there may be a million.
        self.names = {
            name for rule in listed for name in domains.names(rule.spec.domain)
        }
        self.known: list[Remark] = []
        self._standing: dict[_Key, _Standing] = {}
        self._of_source: set[_Key] = set()
        self._read(source, now)
        self._own = self._sort(listed)
        self.rules = list(self._own.values())

    def _read(self, source: str, now: datetime) -> None:
        batches = ImportBatch.objects.filter(source=source[:500])
        origins = {batch.origin for batch in batches}
        live = BlacklistedDomain.objects.all()
        columns = ("domain", "include_subdomains", "action", "origin", "expires_at")
        for rows in packed.rows(live, *columns):
            for domain, below, action, origin, expires in rows:
                if domain in self.names:
                    key = (domain, bool(below))
                    if origin in origins:
                        self._of_source.add(key)
                    if expires is None or expires > now.timestamp():
                        spec = RuleSpec(*key, action)
                        self._add(key, _Standing(spec, origin, expires is None))

    def _add(self, key: _Key, found: _Standing) -> None:
        other = self._standing.get(key)
        if other is None or found.precedence < other.precedence:
            self._standing[key] = found

    def _sort(self, listed: Sequence[ListedRule]) -> dict[_Key, ListedRule]:
        by_hand = self._by_hand() if any(rule.reason for rule in listed) else set()
        own: dict[_Key, ListedRule] = {}
        # Where a list blocks and allows the same, its exception counts.
        for rule in sorted(listed, key=lambda rule: rule.spec.action != domains.ALLOW):
            key = _key(rule)
            if key in own:
                self.known.append(Remark(rule, "The list names it more than once."))
            elif key in self._of_source:
                self.known.append(Remark(rule, "An earlier import of it brought it."))
            elif rule.values in by_hand:
                self.known.append(Remark(rule, "One by hand says the very same."))
            else:
                own[key] = rule
        self.known.sort(key=lambda remark: remark.rule.line)
        return dict(sorted(own.items(), key=lambda item: item[1].line))

    def _by_hand(self) -> set[tuple[Any, ...]]:
        rows = BlacklistedDomain.objects.filter(origin="").order_by()
        said = rows.values_list(*formats.COLUMNS).iterator()
        return {row for row in said if row[0] in self.names}

    def leave_out(self, rule: ListedRule) -> None:
        """This one will not be stored."""
        del self._own[_key(rule)]

    def conflict(self, spec: RuleSpec) -> str:
        """How the rule that decides today says the opposite; "" if it does not."""
        found = next(filter(None, map(self._standing.get, _keys(spec.domain))), None)
        if found is None or found.spec.action == spec.action:
            return ""
        if spec.action == domains.BLOCK:
            return f"An exception stands against it: {found}."
        return f"It allows what {found} blocks." if not found.origin else ""

    def cover(self, spec: RuleSpec) -> str:
        """Which other rule says the same of all that this one is for; "" if none."""
        for key in _keys(spec.domain):
            if spec.include_subdomains and key == (spec.domain, False):
                continue
            there, own = self._standing.get(key), self._own.get(key)
            if own is not None and _key(own) == (spec.domain, spec.include_subdomains):
                own = None
            found = [of.spec for of in (there, own) if of is not None]
            if found:
                return self._covered(spec, found, there)
        return ""

    def _covered(
        self, spec: RuleSpec, found: list[RuleSpec], there: _Standing | None
    ) -> str:
        if any(other.action != spec.action for other in found):
            return ""
        if there is not None and there.lasting:
            return f"Covered by {there}."
        # What expires covers for a while only.
        own = [other for other in found if there is None or other is not there.spec]
        return f"Covered by {own[0]} of this list." if own else ""


def _keys(domain: str) -> Iterator[_Key]:
    """The domains and scopes that may decide about a host, the strongest first."""
    yield domain, False
    for name in domains.names(domain):
        yield name, True


def commit(
    plan: Plan,
    *,
    author: Any = None,
    reason: str = "",
    progress: Callable[[int], None] = lambda stored: None,
    pending: PendingImport | None = None,
) -> ImportBatch:
    """Store a plan's rules, all of them or none, as one batch.

    `reason` is for rules that name none. `progress` hears how many are stored.
    Raises PlanOutdated where rules the plan was compared with have changed, and
    AlreadyImported where `pending` was imported before.
    """
    now = timezone.now()
    made = {
        "source": BlacklistedDomain.Source.IMPORT.value,
        "created_at": now,
        "created_by_id": author and author.pk,
    }
    staged = stage([columns_of(rule, reason) | made for rule in plan.new], progress)
    with transaction.atomic():
        Revision.lock()
        if pending is not None:
            _refuse_second(pending)
        _refuse_outdated(plan)
        batch = ImportBatch.objects.create(
            source=plan.source[:500],
            author=author,
            created_at=now,
            added=len(plan.new),
            duplicates=len(plan.known),
            suffixes=len(plan.suffixes),
            skipped=len(plan.skipped),
        )
        if plan.new:
            staged.update(origin=batch.origin, retired_at=None)
        if pending is not None:
            PendingImport.objects.filter(pk=pending.pk).update(
                batch=batch, data=b"", report=b""
            )
    return batch


def _refuse_second(pending: PendingImport) -> None:
    # Locked, since where no rule has changed yet there is no revision to lock.
    found = PendingImport.objects.select_for_update().filter(pk=pending.pk).first()
    if found is None:
        raise ImportProblem("This preview was forgotten: give the list once more.")
    if found.batch_id is not None:
        raise AlreadyImported(ImportBatch.objects.get(pk=found.batch_id))


def _refuse_outdated(plan: Plan) -> None:
    changed = BlacklistedDomain.everything.filter(revision__gt=plan.revision)
    rows = packed.once(changed.order_by(), "domain")
    if any(domain in plan.names for (domain,) in rows):
        raise PlanOutdated(
            "Nothing was imported: the blacklist was changed meanwhile. Try again."
        )


@dataclass(frozen=True)
class Report:
    """A plan as an operator is shown it."""

    format: str
    counts: str
    impact: str
    rows: dict[str, list[tuple[int, str, str]]]


def keep(
    data: bytes, *, source: str, format: str, reason: str, author: Any
) -> PendingImport:
    """Keep a list for its preview; nothing is stored of a list that cannot be read."""
    return PendingImport(
        data=zlib.compress(data, 1),
        source=source,
        format=format,
        reason=reason,
        author=author,
    )


def preview(
    pending: PendingImport, choices: Choices, *, superuser: bool = False
) -> Plan:
    """Plan a kept list, and keep what is to be shown of it. Raises ImportProblem."""
    made = plan(
        zlib.decompress(bytes(pending.data)),
        source=pending.source,
        format=pending.format,
        choices=choices,
        superuser=superuser,
    )
    said = [made.format, made.counts(), str(made.impact()), made.rows]
    shown = {
        **asdict(choices),
        "digest": made.digest,
        "report": zlib.compress(orjson.dumps(said), 1),
    }
    for name, value in shown.items():
        setattr(pending, name, value)
    if pending.pk is None:
        pending.save()
    else:
        # Not where it was imported meanwhile: then it is empty, and stays so.
        PendingImport.objects.filter(pk=pending.pk, batch=None).update(
            reason=pending.reason, **shown
        )
    return made


def report(pending: PendingImport) -> Report:
    """What the last preview of a kept list showed."""
    return Report(*orjson.loads(zlib.decompress(bytes(pending.report))))


def columns_of(rule: ListedRule, reason: str) -> dict[str, Any]:
    """What a rule says, as columns of its row; `reason` is for one that names none."""
    said = dict(zip(formats.COLUMNS, rule.values, strict=True))
    return said | {"reason": rule.reason or reason or "other"}


def stage(
    rules: Sequence[Mapping[str, Any]],
    progress: Callable[[int], None] = lambda stored: None,
) -> RuleQuerySet:
    """Store rules, as the values of their columns, as retired ones, which one update
    then makes live all at once.

    A few a commit: one transaction around all would keep votes out for seconds.
    Where this ends midway, forget_old() finds the rows.
    """
    origin = f"staged:{uuid4().hex}"
    for start in range(0, len(rules), BATCH):
        if start:
            time.sleep(_PAUSE)
        some = rules[start : start + BATCH]
        BlacklistedDomain.everything.stage({**rule, "origin": origin} for rule in some)
        progress(start + len(some))
    return BlacklistedDomain.everything.filter(origin=origin)


def add_by_hand(
    rules: Iterable[ListedRule], *, author: Any, reason: str = "", note: str = ""
) -> tuple[Edit, int]:
    """Store rules as an operator's own; the edit, and how many were known already."""
    wanted = {(rule.spec.domain, rule.spec.include_subdomains): rule for rule in rules}
    staged = stage(
        [
            columns_of(rule, reason)
            | {"note": rule.note or note, "created_by_id": author and author.pk}
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


def undo(batch: ImportBatch, *, author: Any) -> int:
    """Take a batch's rules away; all is as before it. Returns how many there were.

    Raises ImportProblem if it was undone already.
    """
    with transaction.atomic():
        Revision.lock()
        now = timezone.now()
        if not ImportBatch.objects.filter(pk=batch.pk, undone_at=None).update(
            undone_at=now, undone_by=author
        ):
            raise ImportProblem(f"{batch}: it was undone already, nothing changed.")
        count = BlacklistedDomain.objects.filter(origin=batch.origin).retire()
    batch.undone_at = now
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
