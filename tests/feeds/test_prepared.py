"""Statements compiled once."""

from datetime import date, datetime, timedelta
from itertools import count

import pytest
from django.db.models import F

from feeds import prepared
from feeds.models import DailySalt, Entry, Feed, NetworkCount
from tests.feeds.rows import NOON, entry_number, feed_number

pytestmark = pytest.mark.django_db


@pytest.fixture
def feed():
    return feed_number(up=3, down=4)


def test_a_query_is_made_once_and_has_the_values_of_each_call(feed):
    made = count()

    def make(pk, host):
        next(made)
        return Feed.objects.filter(host=host, pk=pk).values_list("up", "host")

    query = prepared.Select(make, int, str)
    other = feed_number(2)
    assert query.first(feed.pk, feed.host) == (3, feed.host)
    assert query.first(other.pk, other.host) == (0, other.host)
    assert query.first(feed.pk, other.host) is None
    assert next(made) == 1


def test_a_value_may_stand_in_a_query_twice_and_beside_others(feed):
    query = prepared.Select(
        lambda least: Feed.objects.filter(
            up__gte=least, down__gte=least, active=True
        ).values_list("pk"),
        int,
    )
    assert query.first(3) == (feed.pk,)
    assert query.first(4) is None


def test_a_number_that_no_column_holds_is_found_nowhere(feed):
    query = prepared.Select(
        lambda pk: Feed.objects.filter(pk=pk).values_list("host"), int
    )
    assert query.first(2**63 - 1) is None
    assert query.first(2**63) is None


def test_what_must_be_there_is_not_made_up_where_it_is_not(feed):
    query = prepared.Select(
        lambda pk: Feed.objects.filter(pk=pk).values_list("host"), int
    )
    assert query.one(feed.pk) == (feed.host,)
    with pytest.raises(LookupError):
        query.one(feed.pk + 1)


def test_a_day_is_a_value():
    query = prepared.Select(
        lambda day: DailySalt.objects.filter(day=day).values_list("salt"), date
    )
    DailySalt.objects.create(day=date(2026, 11, 23), salt=b"salt")
    (salt,) = query.first(date(2026, 11, 23))
    assert bytes(salt) == b"salt"
    assert query.first(date(2026, 11, 24)) is None


def test_an_update_says_how_many_rows_it_changed(feed):
    entry = entry_number(feed)
    add = prepared.Update(
        lambda pk, up, score: (
            Entry.objects.filter(pk=pk),
            {"up": F("up") + up, "score": score},
        ),
        *(int, int, float),
    )
    assert add.execute(entry.pk, 2, 0.25) == 1
    assert add.execute(entry.pk, -1, 0.75) == 1
    assert add.execute(entry.pk + 1, 1, 0.5) == 0
    entry.refresh_from_db()
    assert (entry.up, entry.score) == (1, 0.75)


def test_an_insert_does_nothing_where_there_is_such_a_row():
    add = prepared.Insert(
        lambda key, count, now: NetworkCount(key=key, count=count, created_at=now),
        *(str, int, datetime),
    )
    assert add.execute("a", 1, NOON) == 1
    assert add.execute("a", 2, NOON) == 0
    assert add.execute("b", 3, NOON + timedelta(days=1)) == 1
    assert list(NetworkCount.objects.values_list("key", "count", "created_at")) == [
        ("a", 1, NOON),
        ("b", 3, NOON + timedelta(days=1)),
    ]
