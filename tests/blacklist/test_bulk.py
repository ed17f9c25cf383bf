"""Very many rows at once, on both databases."""

from datetime import UTC, datetime

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from blacklist import bulk
from blacklist.models import BlacklistedDomain
from feeds.models import Category, Feed, PlatformClaim
from tests.feeds.rows import make_feed

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def claims(*names):
    return [{"platform": name, "until": NOON} for name in names]


def test_rows_are_inserted_as_their_fields_say():
    assert bulk.insert(claims("a", "b%s'"), PlatformClaim).execute() == 2
    rows = PlatformClaim.objects.order_by("platform")
    assert list(rows.values_list("platform", "holder", "until")) == [
        ("a", "", NOON),
        ("b%s'", "", NOON),
    ]


def test_an_instance_is_a_row():
    bulk.insert(
        [vars(PlatformClaim(platform="a", until=NOON))], PlatformClaim
    ).execute()
    assert PlatformClaim.objects.get().until == NOON


def test_a_field_of_our_own_is_asked():
    with pytest.raises(ValidationError):
        bulk.insert([vars(BlacklistedDomain(domain="com"))], BlacklistedDomain)


def test_no_rows_are_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert bulk.insert([], PlatformClaim).execute() == 0


def test_rows_that_are_there_are_left_alone_if_one_says_so():
    bulk.insert(claims("a"), PlatformClaim).execute()
    again = claims("a", "b")
    again[0]["holder"] = "another"
    with pytest.raises(IntegrityError), transaction.atomic():
        bulk.insert(again, PlatformClaim).execute()
    assert bulk.insert(again, PlatformClaim, ignore_conflicts=True).execute() == 1
    assert PlatformClaim.objects.filter(holder="").count() == 2


def test_rows_are_updated_where_they_still_match():
    one, other = make_feed("one.example"), make_feed("other.example")
    Feed.objects.filter(pk=other.pk).update(url="https://corrected.example/")
    for feed in (one, other):
        feed.failures, feed.last_fetched_at, feed.title = 3, NOON, "unsaid"
    names = ["failures", "last_fetched_at"]
    update = bulk.update([one, other], Feed, names, match=["pk", "url"])
    assert update.execute() == 1
    one.refresh_from_db()
    other.refresh_from_db()
    assert (one.failures, one.last_fetched_at, one.title) == (3, NOON, "one.example")
    assert (other.failures, other.last_fetched_at) == (0, None)


def test_what_is_set_meanwhile_stays():
    feed = make_feed(title="", language="", site_url="")
    Feed.objects.update(title="Mine")
    feed.title, feed.language, feed.host = "Theirs", "de", "theirs.example"
    names = ["title", "language", "host"]
    empty = {"title": "title", "language": "language", "host": "title"}
    bulk.update([feed], Feed, names, where_empty=empty).execute()
    feed.refresh_from_db()
    assert (feed.title, feed.language, feed.host) == ("Mine", "de", "blog.example")


def test_foreign_keys_go_by_their_column():
    category = Category.objects.create(slug="c", name="C")
    feed = make_feed()
    feed.category = category
    bulk.update([feed], Feed, ["category"]).execute()
    assert Feed.objects.get().category == category
