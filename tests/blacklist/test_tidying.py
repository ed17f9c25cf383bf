"""Rules that change nothing are found, and none that changes something."""

from datetime import UTC, datetime, timedelta

import pytest

from blacklist import cache, domains, tidying
from blacklist.models import BlacklistedDomain

pytestmark = pytest.mark.django_db

rules = BlacklistedDomain.objects
SOON = datetime(2100, 1, 1, tzinfo=UTC)
LATER = SOON + timedelta(days=1)
PAST = datetime(2000, 1, 1, tzinfo=UTC)


def add(typed, origin="", expires_at=None):
    spec = domains.parse_rule(typed)
    return rules.create(
        domain=spec.domain,
        include_subdomains=spec.include_subdomains,
        action=spec.action,
        origin=origin,
        expires_at=expires_at,
    )


def shown(ids):
    return sorted(str(rule) for rule in rules.filter(pk__in=ids))


def found():
    cache.refresh()
    return tidying.idle()


@pytest.mark.parametrize(
    ("there", "redundant"),
    [
        ("a.net x.a.net", "x.a.net"),
        ("a.net y.x.a.net", "y.x.a.net"),
        ("a.net =a.net", "=a.net"),
        ("a.net =x.a.net", "=x.a.net"),
        ("@@a.net @@x.a.net", "@@x.a.net"),
        ("a.net @@x.a.net y.x.a.net", ""),  # the exception is nearer
        ("a.net @@x.a.net @@y.x.a.net", "@@y.x.a.net"),
        ("a.net @@x.a.net", ""),
        ("a.net @@=a.net", ""),
        ("=a.net x.a.net", ""),  # for that host alone
        ("=a.net a.net", "=a.net"),
        ("a.net xa.net", ""),  # at dots only
        ("x.a.net", ""),
    ],
)
def test_a_rule_that_a_wider_one_covers_is_redundant(there, redundant):
    for typed in there.split():
        add(typed)
    assert shown(found().redundant) == redundant.split()


@pytest.mark.parametrize(
    ("wider", "own", "redundant"),
    [
        (None, SOON, True),
        (LATER, SOON, True),
        (SOON, SOON, True),
        (SOON, LATER, False),
        (SOON, None, False),
        (PAST, None, False),
        (None, PAST, False),  # has expired: that is another list
    ],
)
def test_the_wider_one_must_last_as_long(wider, own, redundant):
    add("a.net", expires_at=wider)
    rule = add("x.a.net", expires_at=own)
    assert (rule.pk in found().redundant) == redundant


def test_of_one_name_and_scope_the_weaker_ones_are_shadowed():
    weakest = add("a.net", origin="import:1")
    allows = add("@@a.net", origin="import:2")
    strongest = add("a.net")
    alone = add("@@=a.net", origin="import:1")
    assert found().shadowed == {weakest.pk, allows.pk}
    strongest.delete()
    assert found().shadowed == {weakest.pk}
    allows.expires_at = PAST
    allows.save()
    assert not found().shadowed
    assert alone.pk not in found().redundant


def test_of_two_imports_that_say_the_same_the_first_stands():
    add("a.net", origin="import:1")
    second = add("a.net", origin="import:2")
    assert found().shadowed == {second.pk}


def test_it_is_found_once_for_a_revision(django_assert_num_queries):
    add("a.net")
    assert not found().redundant
    with django_assert_num_queries(0):
        tidying.idle()
    rule = add("x.a.net")
    assert found().redundant == {rule.pk}


def test_a_rule_that_is_redundant_can_go_and_nothing_changes():
    hosts = ["a.net", "x.a.net", "y.x.a.net", "z.y.x.a.net", "b.net"]
    for typed in [*hosts[:2], "@@y.x.a.net", "@@=y.x.a.net", *hosts[3:]]:
        add(typed)
        add(typed, origin="import:1")
    before = [cache.refresh().blocks(host) for host in hosts]
    rules.filter(pk__in=found().shadowed).retire()
    rules.filter(pk__in=found().redundant).retire()
    assert rules.count() == 4
    assert [cache.refresh().blocks(host) for host in hosts] == before


def test_more_names_than_a_statement_has_parameters():
    add("a.net")
    BlacklistedDomain.everything.stage({"domain": f"d{n}.a.net"} for n in range(70_000))
    BlacklistedDomain.everything.update(retired_at=None)
    assert len(found().redundant) == 70_000
