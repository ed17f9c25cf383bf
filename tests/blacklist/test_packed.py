"""Rows read as few fat ones are the same rows."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import F, Value
from django.db.models.functions import Concat

from blacklist import packed
from blacklist.models import BlacklistedDomain

pytestmark = pytest.mark.django_db

NAMES = ["plain", "ümläut", "quo\"te'", "back\\slash", "new\nline", "食狮"]


@pytest.fixture
def users():
    zone = timezone(timedelta(hours=5))
    return [
        User.objects.create(
            username=name,
            is_active=number % 2 == 0,
            date_joined=datetime(2026, 1, 1, 5, 0, number, 999_999, tzinfo=zone),
        )
        for number, name in enumerate(NAMES)
    ]


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 5000])
def test_every_row_comes_once_whatever_the_size(users, size):
    chunks = list(packed.rows(User.objects.all(), "pk", "username", size=size))
    assert all(len(chunk) <= size for chunk in chunks)
    rows = [tuple(row) for chunk in chunks for row in chunk]
    assert rows == list(User.objects.order_by("pk").values_list("pk", "username"))


def test_times_come_as_seconds_and_booleans_as_truth(users):
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    (rows,) = packed.rows(User.objects.all(), "date_joined", "is_active", "last_login")
    assert rows == [[start + n, n % 2 == 0, None] for n in range(len(NAMES))]


def test_filters_relations_and_expressions_work(users):
    user = users[0]
    LogEntry.objects.create(user=user, action_flag=1, object_repr="x")
    seconds = int(user.date_joined.timestamp())
    entries = LogEntry.objects.filter(user__is_active=True)
    fields = ("user__date_joined", "user__pk", Concat(F("user__username"), Value("!")))
    assert list(packed.rows(entries, *fields)) == [[[seconds, user.pk, "plain!"]]]


def test_nothing_is_no_rows(users):
    nobody = User.objects.filter(username="nobody")
    assert list(packed.rows(nobody, "pk")) == []
    assert packed.once(nobody, "pk") == []


def test_a_thousand_rows_are_one_query(users, django_assert_num_queries):
    with django_assert_num_queries(1):
        (rows,) = packed.rows(User.objects.all(), "pk")
    with django_assert_num_queries(1):
        once = packed.once(User.objects.filter(is_active=True), "username")
    assert len(rows) == len(NAMES)
    assert sorted(once) == sorted([name] for name in NAMES[::2])


@pytest.mark.parametrize("size", [0, 1, 40_000])
def test_one_of_very_many_values(size):
    there = BlacklistedDomain.objects.create(domain="a.net")
    other = BlacklistedDomain.objects.create(domain="b.net")
    names = [f"d{n}.net" for n in range(size - 1)] + ["a.net"][:size]
    found = BlacklistedDomain.objects.filter(packed.Among("domain", names))
    assert list(found) == ([there] if size else [])
    by_key = BlacklistedDomain.objects.exclude(packed.Among("pk", [there.pk]))
    assert list(by_key) == [other]
