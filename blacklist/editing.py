"""Every change of rules by an operator, recorded as it is made; and its undoing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, Value
from django.utils import timezone

from blacklist import bulk, domains
from blacklist.models import (
    BlacklistedDomain,
    Edit,
    Revision,
    RuleQuerySet,
    RuleVersion,
)

# The fields that may block anew; looking for suffixes takes seconds for very many.
_BLOCKING = {"domain", "include_subdomains", "action", "retired_at"}
_NAMED = 20  # rules left out of an undo that are named


@dataclass(frozen=True)
class Left:
    """A rule that an undo leaves as it is."""

    rule: BlacklistedDomain
    why: str


@dataclass(frozen=True)
class Undone:
    """The edit that undid another one; and what it left out, the first by name."""

    edit: Edit
    left: list[Left]
    left_count: int


@dataclass(frozen=True)
class FieldChange:
    """What a field of a rule was and became, in words."""

    name: str
    was: str
    became: str


@dataclass(frozen=True)
class Change:
    """What an edit did to a rule."""

    edit: Edit
    rule_id: int
    name: str  # the rule, as it was before
    fields: list[FieldChange]


def create(rule: BlacklistedDomain, *, author: Any) -> Edit:
    """Store a new rule. Raises IntegrityError where it is there already."""
    rule.created_by = author
    with transaction.atomic(savepoint=False):
        rule.save()
        edit = Edit.objects.create(author=author, what=f"Added: {rule}", rules=1)
        _keep(BlacklistedDomain.everything.filter(pk=rule.pk), edit, after=True)
    return edit


def bring_in(staged: RuleQuerySet, *, author: Any) -> Edit:
    """Make staged rules live, as an operator's own."""
    edit = _record(
        staged,
        lambda rules: rules.update(origin="", retired_at=None),
        "Added",
        author,
    )
    # What they were before they were live is nobody's history.
    RuleVersion.objects.filter(edit=edit.pk, after=False).delete()
    return edit


def change(rule: BlacklistedDomain, *, author: Any, **values: Any) -> Edit:
    """Set fields of a rule; what else someone changes meanwhile stays.

    Raises IntegrityError where another rule stands in its new place.
    """
    # Only if it is live: one retired meanwhile must not change.
    edit = update(
        BlacklistedDomain.objects.filter(pk=rule.pk),
        what="Changed",
        author=author,
        **values,
    )
    for name, value in values.items():
        setattr(rule, name, value)
    return edit


def update(rules: RuleQuerySet, *, what: str, author: Any, **values: Any) -> Edit:
    """Set fields of many rules at one moment; those that have them already stay.

    Where there is nothing to change the edit has no rules, and is not stored.
    """
    if not any(hasattr(value, "resolve_expression") for value in values.values()):
        rules = rules.exclude(**values)
    return _record(
        rules,
        lambda rules: rules.update(**values),
        what,
        author,
        fields=" ".join(values),
    )


def retire(rules: RuleQuerySet, *, author: Any) -> Edit:
    """Take rules away."""
    return update(
        rules.live(), what="Deleted", author=author, retired_at=timezone.now()
    )


def undo(edit: Edit, *, author: Any, suffixes_confirmed: bool = False) -> Undone:
    """Make each rule what it was before an edit, if nobody changed it since.

    The others are left as they are: also where another rule has taken the place, and
    a public suffix that `author` may not block.
    """
    refused = _suffixes(edit, author, confirmed=suffixes_confirmed)
    with transaction.atomic(savepoint=False):
        Revision.lock()
        edited = BlacklistedDomain.everything.filter(
            pk__in=RuleVersion.objects.filter(edit=edit).values("rule")
        )
        taken = _taken(edit)
        undoable = edited.filter(pk__in=_unchanged(edit).values("rule")).exclude(
            Q(pk__in=taken.values("rule")) | Q(pk__in=list(refused))
        )
        undoing = _record(
            undoable,
            partial(_restore, edit),
            f"Undid edit {edit.pk} ({edit.what})",
            author,
            fields=edit.fields or "retired_at",
            undoes=edit,
        )
        done = RuleVersion.objects.filter(edit=undoing.pk)
        left = edited.exclude(pk__in=done.values("rule"))
        named = left[:_NAMED]
        gone = set(taken.filter(rule__in=[r.pk for r in named]).values_list("rule"))
        return Undone(
            undoing,
            [Left(rule, _why_left(rule, refused, gone)) for rule in named],
            left.count(),
        )


def changes(versions: QuerySet[RuleVersion]) -> Iterator[Change]:
    """What edits did, by versions of rules; the newest first."""
    rows = versions.select_related("edit__author").order_by(
        "-edit_id", "rule_id", "after"
    )
    for _, both in groupby(rows, lambda row: (row.edit_id, row.rule_id)):
        *before, after = both
        was = before[0] if before else None
        fields = [
            FieldChange(label, _shown(was, name), _shown(after, name))
            for name, label in _LABELS.items()
            if _shown(was, name) != _shown(after, name)
        ]
        yield Change(after.edit, after.rule_id, str(was or after), fields)


def _record(
    rules: RuleQuerySet,
    change: Callable[[RuleQuerySet], object],
    what: str,
    author: Any,
    *,
    fields: str = "",
    undoes: Edit | None = None,
) -> Edit:
    with transaction.atomic(savepoint=False):
        # What is kept is what the change then finds.
        Revision.lock()
        edit = Edit.objects.create(
            what=what[:500], author=author, fields=fields, undoes=undoes
        )
        edit.rules = _keep(rules, edit, after=False)
        if not edit.rules:
            edit.delete()
            return edit
        before = _versions(edit, after=False)
        chosen = BlacklistedDomain.everything.filter(pk__in=before.values("rule"))
        change(chosen)
        _keep(chosen, edit, after=True)
        if edit.rules == 1 and undoes is None:
            edit.what = f"{what}: {before.get()}"[:500]
        edit.save(update_fields=["rules", "what"])
    return edit


def _versions(edit: Edit, *, after: bool) -> QuerySet[RuleVersion]:
    return RuleVersion.objects.filter(edit=edit, after=after)


def _keep(rules: RuleQuerySet, edit: Edit, *, after: bool) -> int:
    chosen = BlacklistedDomain.everything.filter(pk__in=rules.order_by().values("pk"))
    rows = chosen.order_by("pk").values_list(
        Value(edit.pk), "pk", Value(after), *RuleVersion.STATE
    )
    return bulk.copy(rows, RuleVersion, ["edit", "rule", "after", *RuleVersion.STATE])


def _unchanged(edit: Edit) -> QuerySet[RuleVersion]:
    """Of the rules of an edit, those that are still what it made of them."""
    same = Q()
    for name in RuleVersion.STATE:
        now = f"rule__{name}"
        equal = Q(**{name: F(now)})
        if RuleVersion._meta.get_field(name).null:
            equal |= Q(**{name: None, now: None})
        same &= equal
    return _versions(edit, after=True).filter(same)


def _taken(edit: Edit) -> QuerySet[RuleVersion]:
    """Of the rules of an edit, those whose former place another one has."""
    twin = BlacklistedDomain.objects.filter(
        domain=OuterRef("domain"),
        include_subdomains=OuterRef("include_subdomains"),
        origin=OuterRef("rule__origin"),
    ).exclude(pk=OuterRef("rule"))
    return _versions(edit, after=False).filter(Exists(twin), retired_at=None)


def _suffixes(edit: Edit, author: Any, *, confirmed: bool) -> dict[int, str]:
    """Rules of an edit that may not be blocked again, and why."""
    if not _BLOCKING.intersection(edit.fields.split()):
        return {}
    blocking = _versions(edit, after=False).filter(
        action=domains.BLOCK, retired_at=None
    )
    names = blocking.values_list("domain", flat=True).distinct()
    suffixes = [name for name in names if domains.suffix_of(name) is not None]
    after = {
        version.rule_id: version.spec
        for version in _versions(edit, after=True).filter(
            rule__in=blocking.filter(domain__in=suffixes).values("rule"),
            retired_at=None,
        )
    }
    refused = {}
    for version in blocking.filter(domain__in=suffixes):
        why = domains.suffix_refusal(
            version.spec,
            confirmed=confirmed,
            superuser=author.is_superuser,
            before=after.get(version.rule_id),
        )
        if why:
            refused[version.rule_id] = why
    return refused


def _restore(edit: Edit, rules: RuleQuerySet) -> None:
    names = edit.fields.split()
    if names:
        before = _versions(edit, after=False).filter(rule=OuterRef("pk"))
        rules.update(**{name: Subquery(before.values(name)) for name in names})
    else:
        # It made them.
        rules.retire()


def _why_left(
    rule: BlacklistedDomain, refused: dict[int, str], taken: set[tuple[int]]
) -> str:
    if rule.pk in refused:
        return refused[rule.pk]
    if (rule.pk,) in taken:
        return "Another rule stands in its place."
    if rule.retired_at is not None:
        return "It was deleted since."
    return "It was changed since."


_LABELS = {
    "domain": "domain",
    "include_subdomains": "scope",
    "action": "action",
    "reason": "reason",
    "note": "note",
    "expires_at": "expires",
    "review_at": "review",
    "retired_at": "deleted",
}


def _shown(version: RuleVersion | None, name: str) -> str:
    if version is None:
        return ""
    value = getattr(version, name)
    if name == "include_subdomains":
        return "and all below it" if value else "this host alone"
    if name.endswith("_at"):
        return f"{value:%Y-%m-%d %H:%M}" if value else ""
    if name == "reason":
        return str(BlacklistedDomain.Reason(value).label)
    return str(value)
