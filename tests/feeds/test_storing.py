"""Feeds and entries into rows: what is the same, what is new, what stays."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from django.db import connection, transaction

import blacklist.cache
from blacklist.models import BlacklistedDomain
from feeds import feedlists, hooks, storing
from feeds.feedlists import FeedSpec, PostSpec
from feeds.models import Category, Entry, Feed, PoolState
from feeds.parsing import ParsedEntry, ParsedFeed

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def post(number, **values):
    defaults = {
        "guid": f"guid-{number}",
        "url": f"https://blog.example/{number}",
        "title": f"Post {number}",
        "author": "",
        "excerpt": "",
        "published_at": None,
        "language": "",
    }
    return ParsedEntry(**defaults | values)


def parsed(*entries, **values):
    texts = {"title": "", "description": "", "site_url": "", "language": ""}
    return ParsedFeed(**texts | values, entries=entries, ttl=None)


def add(*urls, **values):
    storing.add_feeds([FeedSpec(url, **values) for url in urls], now=NOW)
    return Feed.objects.order_by("-pk")[0]


def store(feed, content):
    (stored,) = storing.store([storing.prepare(feed, content)], NOW)
    return stored


@pytest.fixture
def feed(db):
    return add("https://blog.example/feed")


# Identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://blog.example/feed", "https://blog.example/feed"),
        ("https://www.blog.example/feed", "https://blog.example/feed"),
        ("https://blog.example/feed/", "https://blog.example/feed"),
        ("https://blog.example", "https://BLOG.example/"),
        ("https://blog.example/feed#top", "https://blog.example/feed"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://[::ffff:8.8.8.8]/", "http://8.8.8.8/"),
    ],
)
def test_two_spellings_of_one_address(one, other):
    assert storing.feed_identity(one) == storing.feed_identity(other)
    assert storing.entry_identity(one) == storing.entry_identity(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://blog.example/feed", "https://blog.example/Feed"),
        ("https://blog.example/feed", "https://www2.blog.example/feed"),
        ("https://blog.example/feed", "https://blog.example:8080/feed"),
        ("https://blog.example/?p=1", "https://blog.example/?p=2"),
        ("https://blog.example/a/b", "https://blog.example/a//b"),
        ("https://blog.example/?utm=1", "https://blog.example/"),
        ("https://blog.example/?xutm_source=1", "https://blog.example/"),
        ("https://blog.example/?source=rssless&source=b", "https://blog.example/"),
    ],
)
def test_two_addresses(one, other):
    assert storing.feed_identity(one) != storing.feed_identity(other)
    assert storing.entry_identity(one) != storing.entry_identity(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "https://blog.example/1?utm_source=rss&utm_medium=x",
            "https://blog.example/1",
        ),
        ("https://blog.example/1?p=2&FBCLID=x", "https://blog.example/1?p=2"),
        ("https://blog.example/1/?gclid#comments", "https://blog.example/1"),
        ("https://blog.example/1?source=rss----ab--4", "https://blog.example/1?"),
    ],
)
def test_how_a_reader_came_is_no_part_of_a_post(one, other):
    assert storing.entry_identity(one) == storing.entry_identity(other)


def test_a_route_in_the_fragment_is_a_page_of_its_own():
    url = "https://blog.example/"
    assert storing.entry_identity(url + "#!/1") != storing.entry_identity(url + "#!/2")
    assert storing.entry_identity(url + "#one") == storing.entry_identity(url + "#two")


@pytest.mark.parametrize("url", ["", "javascript:x", "https://", "http://a..b/"])
def test_what_is_no_address_has_no_identity(url):
    assert storing.feed_identity(url) == storing.entry_identity(url) == ""


def test_an_ordinary_address_is_folded_as_the_parser_would(monkeypatch):
    rng = Random(20261128)
    pieces = [
        "a",
        "B",
        "-",
        ".",
        "..",
        "/",
        "//",
        "%2e",
        "%41",
        "?",
        "#",
        "&",
        "=",
        ":",
    ]
    pieces += [
        ";",
        "é",
        "'",
        '"',
        " ",
        "~",
        "xn--",
        "www.",
        "0x7f",
        "1",
        "\\",
        "@",
        "_",
    ]
    hosts = ["a.example", "www.a.example", "A.example", "xn--a.example", "1.2.3.4"]
    hosts += ["a-.example", "a..example", "a.example.", "a.1", "x" * 64 + ".example"]
    hosts += [".".join(["a" * 50] * 6) + ".example", "a_b.example", "a.example:80"]
    urls = [
        rng.choice(["http://", "https://", "HTTP://"])
        + rng.choice(hosts)
        + rng.choice(["/", "/", "", "?", "#"])
        + "".join(rng.choices(pieces, k=rng.randrange(7)))
        for _ in range(20_000)
    ]
    quick = [(storing.entry_identity(url), storing.feed_identity(url)) for url in urls]
    assert sum(bool(storing._ORDINARY.fullmatch(url)) for url in urls) > 500
    monkeypatch.setattr(storing, "_ORDINARY", re.compile("(?!)"))
    slow = [(storing.entry_identity(url), storing.feed_identity(url)) for url in urls]
    assert quick == slow


def test_the_real_list_has_78_duplicates():
    path = os.environ.get("FEEDSITE_FEED_LIST")
    if not path:
        pytest.skip("FEEDSITE_FEED_LIST names no feed list (the Small Web's)")
    rows = feedlists.read(Path(path).read_bytes(), source=path)
    assert len(rows) == 36_515
    assert len(rows) - len({storing.feed_identity(row.url) for row in rows}) == 78


# Feed lists


def test_a_feed_is_added_once(db):
    specs = [
        FeedSpec("https://blog.example/feed", title="A", site_url="https://a.example/"),
        FeedSpec("http://www.blog.example/feed/", title="B"),
        FeedSpec("https://other.example/feed"),
    ]
    first = storing.add_feeds(specs, now=NOW)
    assert (first.added, first.known) == (2, 0)
    again = storing.add_feeds(specs, now=NOW)
    assert (again.added, again.known) == (0, 2)
    assert list(Feed.objects.values_list("url", "title", "host", "next_fetch_at")) == [
        ("https://blog.example/feed", "A", "a.example", NOW),
        ("https://other.example/feed", "", "other.example", NOW),
    ]


def test_a_feed_is_added_once_over_many_transactions(db, django_assert_max_num_queries):
    urls = [f"https://blog.example/{number % 900}" for number in range(1200)]
    with django_assert_max_num_queries(60):
        added = storing.add_feeds(map(FeedSpec, urls), now=NOW)
    assert (added.added, added.known) == (900, 0)
    assert Feed.objects.count() == 900


def test_what_is_no_address_is_not_added(db):
    added = storing.add_feeds([FeedSpec("javascript:alert(1)")], now=NOW)
    assert (added.added, Feed.objects.count()) == (0, 0)


def test_markup_of_a_list_is_not_stored(db):
    markup = "<script>alert(1)</script>"
    posts = (PostSpec("https://blog.example/1", f"&lt;b&gt;{markup}One"),)
    feed = add("https://a.example/", title=f"{markup}A & B", category=f"{markup}C < D")
    storing.add_posts([FeedSpec(feed.url, posts=posts)], now=NOW)
    assert (feed.title, feed.category.name) == ("A & B", "C < D")
    assert Entry.objects.get().title == "One"
    # Nothing is left: then there is none.
    assert add("https://b.example/", category=markup).category is None


def test_a_known_feed_keeps_what_it_has(db):
    feed = add("https://blog.example/feed", title="Mine", category="Cooking")
    add("https://blog.example/feed", title="Theirs", category="Other")
    feed.refresh_from_db()
    assert (feed.title, feed.category.name) == ("Mine", "Cooking")
    assert Category.objects.count() == 1


def test_categories_are_found_again_by_name(db):
    Category.objects.create(slug="food", name="Cooking")
    add("https://a.example/", category="Cooking")
    add("https://b.example/", category="Life & Style")
    add("https://c.example/", category="日本")
    add("https://d.example/", category="")
    slugs = list(Feed.objects.values_list("category__slug", flat=True))
    assert slugs[:2] == ["food", "life-style"]
    assert slugs[2].startswith("category-")
    assert slugs[3] is None


# Entries


def test_entries_are_stored_once(feed):
    content = parsed(post(1), post(2))
    assert store(feed, content) == storing.Stored(2, 0)
    assert store(feed, content) == storing.Stored(0, 0)
    assert set(Entry.objects.values_list("title", flat=True)) == {"Post 1", "Post 2"}


def test_a_changed_title_changes_the_row_and_keeps_its_votes(feed):
    store(feed, parsed(post(1, excerpt="long")))
    Entry.objects.update(up=3, down=1, score=0.7, hidden=True)
    stored = store(feed, parsed(post(1, title="Better", author="Me")))
    assert stored == storing.Stored(0, 1)
    entry = Entry.objects.get()
    assert (entry.title, entry.author, entry.excerpt) == ("Better", "Me", "long")
    assert (entry.up, entry.down, entry.score, entry.hidden) == (3, 1, 0.7, True)


def test_a_post_that_moves_keeps_its_row(feed):
    store(feed, parsed(post(1)))
    before = Entry.objects.get()
    moved = post(1, url="https://new.example/one")
    assert store(feed, parsed(moved)) == storing.Stored(0, 1)
    entry = Entry.objects.get()
    assert (entry.pk, entry.url, entry.host) == (before.pk, moved.url, "new.example")
    assert entry.identity == storing.entry_identity(moved.url)


def test_posts_that_trade_places_stay_two(feed):
    store(feed, parsed(post(1)))
    content = parsed(
        post(1, url="https://blog.example/new"),
        post(2, url="https://blog.example/1"),
    )
    store(feed, content)
    assert dict(Entry.objects.values_list("url", "title")) == {
        "https://blog.example/new": "Post 1",
        "https://blog.example/1": "Post 2",
    }


def test_a_feed_that_gives_other_guids_brings_nothing_twice(feed):
    store(feed, parsed(post(1, guid="")))
    assert store(feed, parsed(post(1))) == storing.Stored(0, 1)
    assert store(feed, parsed(post(1))) == storing.Stored(0, 0)
    moved = post(1, url="https://blog.example/elsewhere")
    assert store(feed, parsed(moved)) == storing.Stored(0, 1)


def test_the_same_post_in_two_feeds_is_one_entry(feed):
    other = add("https://planet.example/feed")
    store(feed, parsed(post(1)))
    twin = post(9, url="http://www.blog.example/1/?utm_source=planet", title="Other")
    assert store(other, parsed(twin)) == storing.Stored(0, 0)
    entry = Entry.objects.get()
    assert (entry.feed, entry.title) == (feed, "Post 1")


def test_twins_within_a_feed_are_one_entry(feed):
    content = parsed(post(1), post(2, url="http://blog.example/1#top"), post(3))
    assert store(feed, content).new == 2


@pytest.mark.parametrize(("same", "entries"), [(1, 39), (2, 40)])
def test_colliding_guids_fall_back_to_links(feed, same, entries):
    # 40 posts: one guid too many is 2.5 % and a twin, two are 7.5 % and no guids.
    posts = [post(number) for number in range(40)]
    for number in range(1, same + same):
        posts[number] = post(number, guid="guid-0")
    store(feed, parsed(*posts))
    assert Entry.objects.count() == entries


def test_entries_without_a_host_are_left_out(feed):
    bad = [post(n, url=url) for n, url in enumerate(["", "https://a..b/", "data:x"])]
    assert store(feed, parsed(*bad, post(9))).new == 1


def test_dates(feed):
    published = NOW - timedelta(days=400)
    content = parsed(post(1, published_at=published), post(2), post(3))
    store(feed, content)
    one, two, three = (Entry.objects.get(title=f"Post {n}") for n in (1, 2, 3))
    assert (one.published_at, one.sort_at, one.created_at) == (
        published,
        published,
        NOW,
    )
    assert (two.published_at, two.sort_at) == (None, NOW)
    # The feed lists its newest first.
    assert two.pk > three.pk


def test_a_feed_without_titles_takes_none_back(feed):
    store(feed, parsed(post(1)))
    assert store(feed, parsed(post(1, title=""))).updated == 0
    assert Entry.objects.get().title == "Post 1"


def test_the_first_date_stays(feed):
    store(feed, parsed(post(1)))
    first = NOW - timedelta(days=3)
    assert store(feed, parsed(post(1, published_at=first))).updated == 1
    assert store(feed, parsed(post(1, published_at=NOW))).updated == 0
    assert store(feed, parsed(post(1))).updated == 0
    entry = Entry.objects.get()
    assert entry.published_at == entry.sort_at == first


def test_a_new_entry_is_scored_by_its_feed(feed):
    PoolState.touch(up=10, down=10)
    Feed.objects.update(up=10)
    store(feed, parsed(post(1)))
    # P = 15/30, F = (10 + 5) / (10 + 10)
    assert Entry.objects.get().score == 0.75


def test_a_feed_is_called_what_it_says_where_nobody_said_it(feed):
    said = parsed(title="Said", site_url="https://site.example/", language="de")
    store(feed, said)
    feed.refresh_from_db()
    assert (feed.title, feed.host, feed.language) == ("Said", "site.example", "de")
    store(feed, parsed(title="New", description="About"))
    feed.refresh_from_db()
    assert (feed.title, feed.description) == ("Said", "About")


def test_the_pool_is_told_of_changes_only(feed):
    def version():
        return PoolState.objects.values_list("version", flat=True).first() or 0

    for content, expected in (
        (parsed(), 0),
        (parsed(post(1)), 1),
        (parsed(post(1)), 1),
        (parsed(post(1, title="Other")), 2),
        (parsed(title="Said"), 3),
    ):
        storing.tell([store(feed, content)])
        assert version() == expected


def test_what_was_set_by_hand_meanwhile_stays(feed):
    # `feed` is as it was when it was claimed.
    Feed.objects.update(title="Mine", site_url="https://mine.example/", host="mine")
    said = parsed(title="Said", site_url="https://said.example/", language="de")
    assert store(feed, said).described
    feed.refresh_from_db()
    assert (feed.title, feed.host, feed.language) == ("Mine", "mine", "de")


def test_another_address_is_not_described_by_the_old_one(feed):
    Feed.objects.update(url="https://corrected.example/feed")
    store(feed, parsed(title="Said"))
    assert Feed.objects.get().title == ""


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_shifted_permalinks_follow_their_guids(feed, order):
    store(feed, parsed(post(3), post(2), post(1)))
    pks = dict(Entry.objects.values_list("title", "pk"))
    shifted = [post(n, url=f"https://blog.example/{n + 1}") for n in order]
    for updated in (3, 0):
        stored = store(feed, parsed(*shifted))
        assert (stored.new, stored.updated) == (0, updated)
    assert {
        (entry.pk, entry.title, entry.identity) for entry in Entry.objects.all()
    } == {
        (pks[entry.title], entry.title, storing.entry_identity(entry.url))
        for entry in shifted
    }


def test_entries_that_come_in_hidden_are_hits_once_committed(
    feed, django_capture_on_commit_callbacks
):
    BlacklistedDomain.objects.create(domain="dead.example")
    BlacklistedDomain.objects.create(domain="good.dead.example", action="allow")
    blacklist.cache.refresh()
    content = parsed(
        post(1, url="https://dead.example/1"),
        post(2, url="https://www.dead.example/2"),
        post(3, url="https://good.dead.example/3"),
        post(4),
    )
    # Rolled back, as before every retry: no hits.
    with transaction.atomic():
        store(feed, content)
        transaction.set_rollback(True)
    with django_capture_on_commit_callbacks() as hits_of:
        store(feed, content)
        store(feed, content)
    assert not blacklist.cache._hits
    for count in hits_of:
        count()
    blacklist.cache.flush_hits()
    hits = BlacklistedDomain.objects.with_hits().values_list("domain", "hits")
    assert dict(hits) == {"dead.example": 2, "good.dead.example": 0}


# Moves


def test_a_feed_that_moves_keeps_its_entries(feed):
    store(feed, parsed(post(1)))
    assert storing.move(feed, "https://new.example/feed", now=NOW)
    feed.refresh_from_db()
    assert (feed.url, feed.host) == ("https://new.example/feed", "new.example")
    assert storing.add_feeds([FeedSpec(feed.url)], now=NOW).known == 1
    assert feed.entries.count() == 1


def test_a_feed_moves_nowhere_strange(feed):
    assert not storing.move(feed, "javascript:alert(1)", now=NOW)
    feed.refresh_from_db()
    assert feed.url == "https://blog.example/feed"


def test_a_feed_that_moves_to_a_known_one_hands_over(feed):
    store(feed, parsed(post(1), post(2)))
    heir = add("https://new.example/feed")
    store(heir, parsed(post(2, url="https://new.example/2")))
    feed.entries.filter(title="Post 1").update(up=2, down=1)
    Feed.objects.filter(pk=feed.pk).update(up=2, down=1)
    Feed.objects.filter(pk=heir.pk).update(up=5)
    assert storing.move(feed, "http://new.example/feed/", now=NOW)
    feed.refresh_from_db()
    heir.refresh_from_db()
    assert (feed.active, feed.next_fetch_at, feed.up) == (False, None, 0)
    assert str(heir.pk) in feed.last_error
    assert (heir.entries.count(), heir.up, heir.down) == (3, 7, 1)
    # Old lists still find it known.
    assert storing.add_feeds([FeedSpec(feed.url)], now=NOW).known == 1


def test_a_feed_that_comes_back_is_awake_again(feed):
    there = add("https://there.example/feed")
    store(feed, parsed(post(1)))
    storing.move(feed, there.url, now=NOW)
    there.refresh_from_db()
    later = NOW + timedelta(days=1)
    assert storing.move(there, feed.url, now=later)
    feed.refresh_from_db()
    there.refresh_from_db()
    assert (feed.active, feed.next_fetch_at, feed.last_error) == (True, later, "")
    assert not there.active
    assert feed.entries.count() == 1


def test_a_paused_feed_wakes_nobody(feed):
    Feed.objects.update(active=False)
    there = add("https://there.example/feed")
    Feed.objects.update(active=False)
    storing.move(feed, there.url, now=NOW)
    assert not Feed.objects.active().exists()


@pytest.mark.parametrize("target", ["https://new.example/", "https://there.example/"])
def test_a_feed_with_a_new_address_does_not_follow_the_old_one(feed, target):
    add("https://there.example/")
    store(feed, parsed(post(1)))
    Feed.objects.filter(pk=feed.pk).update(url="https://corrected.example/feed")
    assert not storing.move(feed, target, now=NOW)
    feed.refresh_from_db()
    assert (feed.url, feed.active) == ("https://corrected.example/feed", True)
    assert feed.entries.count() == 1


# The starter set


def test_posts_of_a_list_come_in_short_transactions(feed, monkeypatch):
    monkeypatch.setattr(storing, "ROWS_A_TRANSACTION", 2)
    posts = tuple(PostSpec(f"https://blog.example/{n}", str(n)) for n in range(5))
    assert storing.add_posts([FeedSpec(feed.url, posts=posts)], now=NOW).new == 5
    # The newest stands first.
    assert list(Entry.objects.values_list("title", flat=True)) == list("43210")
    assert PoolState.objects.get().version == 3


def test_posts_of_a_list_are_entries(db):
    spec = FeedSpec(
        "https://blog.example/feed",
        title="Blog",
        category="programming",
        posts=(
            PostSpec("https://blog.example/1", "One", NOW - timedelta(days=9)),
            PostSpec("https://blog.example/2", "Two"),
        ),
    )
    storing.add_feeds([spec], now=NOW)
    assert storing.add_posts([spec], now=NOW) == storing.Stored(2, 0)
    assert storing.add_posts([spec], now=NOW) == storing.Stored(0, 0)
    # Then the feed itself is read, with guids, and dates for some.
    stored = store(
        Feed.objects.get(),
        parsed(
            post(3),
            post(2, url="http://www.blog.example/2/?utm_source=rss", published_at=NOW),
            post(1),
        ),
    )
    assert stored == storing.Stored(1, 2)
    dates = dict(Entry.objects.values_list("title", "published_at"))
    assert dates["Post 1"] == NOW - timedelta(days=9)
    assert dates["Post 2"] == NOW


def test_rows_fit_both_databases(feed):
    long = post(1, url="https://blog.example/" + "a" * 1979, title="ü" * 500)
    store(feed, parsed(long))
    assert connection.vendor in ("sqlite", "postgresql")
    assert Entry.objects.get().title == "ü" * 500


# Giving way


@pytest.fixture
def pauses(monkeypatch):
    """How long it gave way, instead of that."""
    monkeypatch.setattr(hooks, "is_crowded", lambda: True)
    return []


@pytest.fixture
def write_for(pauses, monkeypatch, db):
    """Write something that takes so many seconds."""

    def write_for(seconds):
        clock = SimpleNamespace(
            monotonic=iter((10.0, 10.0 + seconds)).__next__,
            sleep=lambda seconds: pauses.append(seconds),
        )
        monkeypatch.setattr(storing, "time", clock)
        with storing.giving_way():
            pass

    return write_for


def test_who_met_no_other_writer_does_not_pause(pauses, write_for, monkeypatch):
    monkeypatch.setattr(hooks, "is_crowded", lambda: False)
    write_for(0.3)
    assert pauses == []


def test_who_met_another_gives_way_for_as_long_as_it_wrote(pauses, write_for):
    write_for(0.3)
    assert pauses == [pytest.approx(0.3)]


def test_it_never_gives_way_for_more_than_a_second(pauses, write_for):
    write_for(30.0)
    assert pauses == [1.0]


def test_what_failed_is_rolled_back_and_does_not_pause(pauses, db):
    def fail():
        with storing.giving_way():
            add("https://blog.example/feed")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert not Feed.objects.exists()
    assert pauses == []
