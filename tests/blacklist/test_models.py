"""Every change of a rule raises the revision; what goes stays as a retired row."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet

from blacklist import importing
from blacklist.models import (
    KEEP_HITS,
    KEEP_RETIRED,
    BlacklistedDomain,
    Hit,
    ImportBatch,
    Revision,
    forget_old,
)

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def new(domain="new.example.com", **fields):
    return BlacklistedDomain(domain=domain, **fields)


def old():
    return rules.get(domain="old.example.com")


def save_changed():
    rule = old()
    rule.note = "changed"
    rule.save()


def save_some_fields():
    rule = old()
    rule.note = "changed"
    rule.save(update_fields=["note"])


def bulk_update():
    rule = old()
    rule.note = "changed"
    rules.bulk_update([rule], ["note"])


def bulk_create_over():
    rules.bulk_create([new()], ignore_conflicts=True)


def import_a_list():
    importing.commit(importing.plan(b"new.example.com\n", source="list"))


def undo_an_import():
    batch = ImportBatch.objects.create(source="list")
    rules.filter(domain="old.example.com").update(origin=batch.origin)
    importing.undo(batch, author=None)


@pytest.mark.parametrize(
    "change",
    [
        lambda: new().save(),
        lambda: rules.create(domain="new.example.com"),
        lambda: rules.get_or_create(domain="new.example.com"),
        lambda: rules.update_or_create(domain="old.example.com", defaults={"note": ""}),
        save_changed,
        save_some_fields,
        lambda: rules.update(note="changed"),
        lambda: rules.filter(domain="old.example.com").update(note="changed"),
        lambda: BlacklistedDomain.everything.update(note="changed"),
        lambda: rules.bulk_create([new()]),
        bulk_create_over,
        bulk_update,
        lambda: old().delete(),
        lambda: rules.all().delete(),
        lambda: rules.all().retire(),
        import_a_list,
        undo_an_import,
        lambda: importing.add_by_hand(
            importing.plan(b"new.example.com", source="").new, author=None
        ),
    ],
)
def test_every_change_raises_the_revision_of_the_rows_it_touches(change):
    rules.create(domain="old.example.com")
    before = Revision.current()
    change()
    after = Revision.current()
    assert after > before
    assert BlacklistedDomain.everything.filter(revision=after).exists()


def test_reading_raises_nothing():
    rules.create(domain="old.example.com")
    before = Revision.current()
    list(rules.all())
    rules.get_or_create(domain="old.example.com")
    Hit.objects.create(rule=old(), day=NOW.date(), count=1)
    assert Revision.current() == before


def test_a_change_that_fails_raises_nothing():
    rules.create(domain="old.example.com")
    before = Revision.current()
    with pytest.raises(IntegrityError), transaction.atomic():
        rules.create(domain="old.example.com")
    assert Revision.current() == before


def test_there_is_a_revision_before_the_first_change():
    assert Revision.current() == 0


def test_what_is_deleted_is_retired_and_may_come_again():
    user = User.objects.create(username="operator")
    rule = rules.create(domain="example.com", created_by=user)
    assert rule.delete() == (1, {"blacklist.BlacklistedDomain": 1})
    assert not rules.exists()
    assert BlacklistedDomain.everything.get().retired_at is not None
    assert rule.delete()[0] == 0
    rules.create(domain="example.com")
    assert rules.count() == 1


def test_a_retired_rule_is_not_brought_back_by_an_edit_of_some_fields():
    rule = rules.create(domain="example.com")
    rules.all().delete()
    rule.note = "late"
    rule.save(update_fields=["note"])
    assert not rules.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"include_subdomains": False},
        {"origin": "import:1"},
        {"domain": "b.example.com"},
    ],
)
def test_a_rule_is_there_once_for_a_domain_scope_and_origin(other):
    rules.create(domain="example.com")
    rules.create(**{"domain": "example.com"} | other)
    with pytest.raises(IntegrityError), transaction.atomic():
        rules.create(**{"domain": "example.com", "action": "allow"} | other)


@pytest.mark.parametrize("domain", ["Example.com", "*.example.com", "com", "", "a b"])
def test_no_way_of_writing_stores_what_is_no_canonical_domain(domain):
    rule = rules.create(domain="example.com")
    for write in (
        lambda: rules.create(domain=domain),
        lambda: rules.bulk_create([new(domain)]),
        lambda: rules.stage([vars(new(domain))]),
        lambda: rules.update(domain=domain),
        lambda: rules.bulk_update(
            [BlacklistedDomain(pk=rule.pk, domain=domain)], ["domain"]
        ),
    ):
        with pytest.raises(ValidationError, match="not a domain"), transaction.atomic():
            write()
    assert list(rules.values_list("domain", flat=True)) == ["example.com"]
    assert not rules.filter(domain=domain)  # Asking for it is no error.


def test_what_is_staged_is_all_there_once_it_is_live():
    user = User.objects.create(username="operator")
    given = {
        "domain": "example.com",
        "include_subdomains": False,
        "action": "allow",
        "reason": "spam",
        "note": "100% 'quoted'",
        "source": "import",
        "origin": "import:1",
        "expires_at": NOW,
        "review_at": None,
        "created_at": NOW,
        "created_by_id": user.pk,
    }
    rules.stage([vars(BlacklistedDomain(**given)), vars(new())])
    assert not rules.exists()
    assert Revision.current() == 0
    BlacklistedDomain.everything.update(retired_at=None)
    rule = rules.get(domain="example.com")
    assert {name: getattr(rule, name) for name in given} == given
    assert rule.revision == rules.get(domain="new.example.com").revision == 1


def test_by_hand_beats_the_rest_then_allow_beats_block():
    for origin, action in [
        ("import:1", "block"),
        ("import:2", "allow"),
        ("", "block"),
    ]:
        rules.create(domain="example.com", origin=origin, action=action)
    found = [(rule.origin, rule.action) for rule in rules.by_precedence()]
    assert found == [("", "block"), ("import:2", "allow"), ("import:1", "block")]


def test_a_rule_is_in_force_until_it_expires():
    rules.create(domain="a.example.com", expires_at=NOW)
    rules.create(domain="b.example.com", expires_at=NOW + timedelta(seconds=1))
    rules.create(domain="c.example.com")
    found = rules.in_force(NOW).values_list("domain", flat=True)
    assert sorted(found) == ["b.example.com", "c.example.com"]


def test_hits_are_summed_over_all_days_or_since_one(django_assert_num_queries):
    rule = rules.create(domain="example.com")
    rules.create(domain="never.example.com")
    for days, count in ((0, 1), (5, 10), (50, 100)):
        day = NOW.date() - timedelta(days=days)
        Hit.objects.create(rule=rule, day=day, count=count)
    with django_assert_num_queries(1):
        found = {r.domain: r.hits for r in rules.with_hits()}
    assert found == {"example.com": 111, "never.example.com": 0}
    since = NOW.date() - timedelta(days=5)
    assert rules.with_hits(since).get(pk=rule.pk).hits == 11


def test_old_hits_and_long_retired_rules_are_forgotten():
    kept = rules.create(domain="kept.example.com")
    for domain, age in (("a.example.com", 1), ("b.example.com", -1)):
        rule = rules.create(domain=domain)
        Hit.objects.create(rule=rule, day=NOW.date())
        rule.retired_at = NOW - KEEP_RETIRED - timedelta(days=age)
        rule.save()
    Hit.objects.create(rule=kept, day=(NOW - KEEP_HITS).date())
    Hit.objects.create(rule=kept, day=(NOW - KEEP_HITS).date() - timedelta(days=1))
    before = Revision.current()
    assert forget_old(NOW) == 2
    assert {r.domain for r in BlacklistedDomain.everything.all()} == {
        "kept.example.com",
        "b.example.com",
    }
    assert Hit.objects.count() == 2
    assert Revision.current() == before


def test_two_may_forget_the_same_rows_at_once(monkeypatch):
    rule = rules.create(domain="example.com", retired_at=NOW - 2 * KEEP_RETIRED)
    delete = QuerySet.delete

    def second(rows):
        delete(rows)
        return delete(rows)

    monkeypatch.setattr(QuerySet, "delete", second)
    assert forget_old(NOW) == 0
    assert not BlacklistedDomain.everything.filter(pk=rule.pk)


def test_a_rule_shows_as_it_is_typed():
    assert str(new(include_subdomains=False, action="allow")) == "@@=new.example.com"
    assert str(Revision(number=7)) == "7"
    assert str(Hit(rule_id=1, day=NOW.date(), count=2)) == "1 on 2026-11-23: 2"
    assert str(ImportBatch(source="x", created_at=NOW)) == "x (2026-11-23 12:00)"


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql
def test_revisions_become_visible_in_their_order():
    """A later revision is never committed before an earlier one."""
    rules.create(domain="example.com")
    finished = threading.Event()

    def write():
        rules.create(domain="b.example.com")
        finished.set()
        connection.close()

    with transaction.atomic():
        rules.create(domain="a.example.com")
        thread = threading.Thread(target=write)
        thread.start()
        # It waits for the row of the revision, and so for us.
        assert not finished.wait(0.5)
    thread.join(10)
    numbers = dict(rules.values_list("domain", "revision"))
    assert numbers["a.example.com"] < numbers["b.example.com"]
