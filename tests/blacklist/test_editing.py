"""Edits of rules are kept with what was before, and undone rule by rule."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F

from blacklist import cache, editing
from blacklist.models import (
    KEEP_EDITS,
    BlacklistedDomain,
    Edit,
    Revision,
    RuleVersion,
    forget_old,
)

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
everything = BlacklistedDomain.everything
# To the microsecond, which an undo must not lose.
NOON = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def author():
    return User.objects.create(username="operator", is_staff=True)


@pytest.fixture
def root():
    return User.objects.create(username="root", is_superuser=True)


def state(rule):
    rule = everything.get(pk=rule.pk)
    return {name: getattr(rule, name) for name in RuleVersion.STATE}


def told(versions):
    return [
        [(field.name, field.was, field.became) for field in change.fields]
        for change in editing.changes(versions)
    ]


def history(rule):
    return told(RuleVersion.objects.filter(rule=rule))


def add(domain="example.com", *, author, **fields):
    rule = BlacklistedDomain(domain=domain, **fields)
    return rule, editing.create(rule, author=author)


def test_what_was_done_to_a_rule_is_told_field_by_field(author):
    rule, _ = add(author=author, note="why")
    editing.change(rule, author=author, reason="spam", note="why", expires_at=NOON)
    editing.retire(rules.all(), author=author)
    deleted, changed, made = history(rule)
    assert changed == [("reason", "other", "spam"), ("expires", "", "2026-11-01 12:00")]
    assert [name for name, was, became in deleted] == ["deleted"]
    assert made == [
        ("domain", "", "example.com"),
        ("scope", "", "and all below it"),
        ("action", "", "block"),
        ("reason", "", "other"),
        ("note", "", "why"),
    ]
    edits = Edit.objects.order_by("pk").values_list("what", "rules", "author")
    assert list(edits) == [
        ("Added: example.com", 1, author.pk),
        ("Changed: example.com", 1, author.pk),
        ("Deleted: example.com", 1, author.pk),
    ]
    assert rule.created_by == author


def test_an_edit_that_changes_nothing_is_none(author):
    rule, _ = add(author=author, reason="spam")
    before = Revision.current()
    edit = editing.change(rule, author=author, reason="spam", expires_at=None)
    assert (edit.pk, edit.rules) == (None, 0)
    assert Edit.objects.count() == 1
    assert Revision.current() == before


def test_of_many_only_those_that_change_are_kept(author):
    add("a.net", author=author, reason="spam")
    b, _ = add("b.net", author=author)
    edit = editing.update(rules.all(), what="Set", author=author, reason="spam")
    assert edit.rules == 1
    assert [v.rule_id for v in RuleVersion.objects.filter(edit=edit)] == [b.pk, b.pk]


def test_many_rules_are_one_edit_in_few_queries(author, django_assert_max_num_queries):
    rules.bulk_create([BlacklistedDomain(domain=f"d{n}.net") for n in range(3000)])
    with django_assert_max_num_queries(12):
        edit = editing.update(rules.all(), what="Set", author=author, note="all")
    assert edit.rules == 3000
    with django_assert_max_num_queries(25):
        undone = editing.undo(edit, author=author)
    assert (undone.edit.rules, undone.left_count) == (3000, 0)
    assert rules.filter(note="").count() == 3000


def test_what_fails_leaves_no_edit(author):
    add("a.net", author=author)
    rule, _ = add("b.net", author=author)
    before = Edit.objects.count(), RuleVersion.objects.count(), Revision.current()
    with pytest.raises(IntegrityError), transaction.atomic():
        editing.change(rule, author=author, domain="a.net")
    with pytest.raises(IntegrityError), transaction.atomic():
        add("a.net", author=author)
    after = Edit.objects.count(), RuleVersion.objects.count(), Revision.current()
    assert after == before


@pytest.mark.parametrize(
    "values",
    [
        {"reason": "spam", "note": "x", "review_at": NOON},
        {"expires_at": NOON + timedelta(days=1)},
        {"expires_at": None},
        {"action": "allow", "include_subdomains": False},
        {"domain": "other.net"},
        {"retired_at": NOON},
    ],
)
def test_an_undo_restores_a_rule_exactly_and_can_be_undone(author, values):
    rule, _ = add(author=author, reason="nsfw", expires_at=NOON)
    before = state(rule)
    edit = editing.change(rule, author=author, **values)
    after = state(rule)
    assert after != before
    undone = editing.undo(edit, author=author)
    assert (undone.edit.rules, undone.left) == (1, [])
    assert undone.edit.undoes == edit
    assert state(rule) == before
    assert undone.edit.what == f"Undid edit {edit.pk} ({edit.what})"
    editing.undo(undone.edit, author=author)
    assert state(rule) == after


def test_an_undo_counts_at_once_also_for_the_name_that_went(author):
    rule, _ = add("a.net", author=author)
    edit = editing.change(rule, author=author, domain="b.net")
    cache.refresh()
    editing.undo(edit, author=author)
    now = cache.refresh()
    assert now.blocks("a.net")
    assert not now.blocks("b.net")


def test_undoing_an_addition_takes_the_rule_away_and_back(author):
    rule, edit = add(author=author)
    undone = editing.undo(edit, author=author)
    assert not rules.exists()
    editing.undo(undone.edit, author=author)
    assert rules.get().pk == rule.pk


def test_each_rule_gets_back_its_own(author):
    a, _ = add("a.net", author=author, expires_at=NOON)
    b, _ = add("b.net", author=author, expires_at=NOON + timedelta(days=5))
    before = state(a), state(b)
    edit = editing.update(
        rules.all(),
        what="Extended",
        author=author,
        expires_at=F("expires_at") + timedelta(days=90),
    )
    assert state(b)["expires_at"] == NOON + timedelta(days=95)
    editing.undo(edit, author=author)
    assert (state(a), state(b)) == before


def test_a_rule_changed_since_is_left_and_named(author):
    a, _ = add("a.net", author=author)
    b, _ = add("b.net", author=author)
    edit = editing.update(rules.all(), what="Set", author=author, reason="spam")
    editing.change(b, author=author, note="mine")
    undone = editing.undo(edit, author=author)
    assert state(a)["reason"] == "other"
    assert (state(b)["reason"], state(b)["note"]) == ("spam", "mine")
    assert [(str(left.rule), left.why) for left in undone.left] == [
        ("b.net", "It was changed since.")
    ]
    # Once that is undone too, it is what the edit made of it.
    editing.undo(Edit.objects.get(what="Changed: b.net"), author=author)
    assert editing.undo(edit, author=author).edit.rules == 1
    assert state(b)["reason"] == "other"


def test_twice_undone_is_undone_once(author):
    _, edit = add(author=author)
    editing.undo(edit, author=author)
    again = editing.undo(edit, author=author)
    assert (again.edit.pk, again.left_count) == (None, 1)


@pytest.mark.parametrize(
    "twin", [{}, {"include_subdomains": False}, {"origin": "import:1"}]
)
def test_a_deleted_rule_stays_so_where_its_twin_was_made_meanwhile(author, twin):
    rule, _ = add(author=author)
    edit = editing.retire(rules.all(), author=author)
    rules.create(domain="example.com", **twin)
    undone = editing.undo(edit, author=author)
    back = bool(twin)
    assert undone.edit.rules == back
    assert rules.filter(pk=rule.pk).exists() == back
    assert [left.why for left in undone.left] == (
        [] if back else ["Another rule stands in its place."]
    )


def test_the_first_of_many_left_are_named(author):
    rules.bulk_create([BlacklistedDomain(domain=f"d{n}.net") for n in range(30)])
    edit = editing.update(rules.all(), what="Set", author=author, note="all")
    editing.update(rules.all(), what="Set", author=author, note="again")
    undone = editing.undo(edit, author=author)
    assert (len(undone.left), undone.left_count) == (20, 30)


@pytest.mark.parametrize(
    ("domain", "who", "confirmed", "back"),
    [
        ("site.github.io", "author", False, True),
        ("github.io", "author", False, False),
        ("github.io", "author", True, True),
        ("co.uk", "author", True, False),
        ("co.uk", "root", False, False),
        ("co.uk", "root", True, True),
    ],
)
def test_no_public_suffix_is_blocked_again_by_a_slip(
    author, root, domain, who, confirmed, back
):
    add(domain, author=root)
    edit = editing.retire(rules.all(), author=root)
    user = {"author": author, "root": root}[who]
    undone = editing.undo(edit, author=user, suffixes_confirmed=confirmed)
    assert rules.exists() == back
    assert ["strangers" in left.why for left in undone.left] == [True] * (not back)


def test_a_suffix_that_blocks_anyway_is_not_asked_for(author):
    add("co.uk", author=author)
    edit = editing.update(rules.all(), what="Set", author=author, note="x")
    assert editing.undo(edit, author=author).edit.rules == 1


def test_edits_and_what_they_may_bring_back_are_kept_for_90_days(author):
    rule, _ = add(author=author)
    kept, _ = add("kept.net", author=author)
    editing.retire(rules.filter(pk=rule.pk), author=author)
    now = NOON + timedelta(days=365)
    everything.filter(pk=rule.pk).update(retired_at=now - timedelta(days=100))
    Edit.objects.update(made_at=now - KEEP_EDITS + timedelta(hours=1))
    forget_old(now)
    assert everything.filter(pk=rule.pk).exists()
    assert Edit.objects.count() == 3
    forget_old(now + timedelta(hours=2))
    assert list(everything.all()) == [kept]
    assert not Edit.objects.exists()
    assert not RuleVersion.objects.exists()


def test_an_edit_shows_what_and_when(author):
    edit = Edit(what="Set", made_at=NOON)
    assert str(edit) == "Set (2026-11-01 12:00)"
    assert str(RuleVersion(domain="a.net", include_subdomains=False)) == "=a.net"


@pytest.mark.django_db(transaction=True)
def test_the_author_may_go(author):
    _, edit = add(author=author)
    author.delete()
    edit.refresh_from_db()
    assert edit.author is None
