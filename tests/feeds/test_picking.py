"""The random choice from a real database, and the JSON of an entry."""

import multiprocessing
import os
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import orjson
import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from blacklist import cache
from blacklist.domains import RuleSpec
from blacklist.models import BlacklistedDomain
from feeds import building, feedback, picking, rendering
from feeds.builder import Builder
from feeds.models import Category, Entry, PoolState
from feeds.picking import PickRequest
from tests import processes
from tests.feeds.rows import block, entry_number, feed_number
from tests.serving import test_database_url

NOW = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
TOKEN = "a-token-of-22-letters_"


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    picking.stop()


@pytest.fixture(params=["rendered", "by query"])
def both_ways(request, settings):
    """Entries rendered ahead, and looked up for each answer."""
    settings.RENDERED_ENTRIES = 200_000 if request.param == "rendered" else 0


def pick(seed=1, **request):
    answer = picking.pick(PickRequest(**request), rng=Random(seed), now=NOW)
    return orjson.loads(answer)


def ids(**request):
    return {entry["id"] for entry in pick(**{"count": 20, **request})["results"]}


# An Entry


@pytest.mark.django_db
def test_an_entry_is_what_the_api_promises(both_ways):
    feed = feed_number(
        host="www.bücher.example".encode("idna").decode(),
        title="Ex",
        site_url="https://www.xn--bcher-kva.example/",
        category=Category.objects.create(slug="art", name="Art"),
        language="de",
    )
    entry = entry_number(
        feed,
        title='"my_vote":null & <b>',
        author="Ann",
        excerpt="Text",
        language="en",
        published_at=datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        checked_at=datetime(2026, 11, 22, 1, 0, tzinfo=UTC),
        up=2,
        down=1,
        score=2 / 3,
    )
    expected = {
        "id": entry.pk,
        "url": entry.url,
        "title": '"my_vote":null & <b>',
        "author": "Ann",
        "excerpt": "Text",
        "published_at": "2026-01-02T03:04:05Z",
        "language": "en",
        "domain": "bücher.example",
        "feed": {
            "id": feed.pk,
            "title": "Ex",
            "site_url": "https://www.xn--bcher-kva.example/",
            "category": "art",
        },
        "up": 2,
        "down": 1,
        "score": 0.6667,
        "my_vote": None,
        "link": {"state": "alive", "checked_at": "2026-11-22T01:00:00Z"},
    }
    answer = picking.pick(PickRequest())
    whole = {"results": [expected], "pool": {"eligible": 1, "exhausted": False}}
    # Compared as text: the order of the keys is part of it.
    assert answer == orjson.dumps(whole)
    row = Entry.objects.values_list(*rendering.ENTRY_FIELDS).get()
    assert orjson.dumps(rendering.entry_json(row)) == orjson.dumps(expected)
    voted = {**expected, "my_vote": 0}
    assert pick(token=TOKEN)["results"] == [voted]
    assert rendering.entry_json(row, 0) == voted


@pytest.mark.django_db
def test_what_an_entry_does_not_have(both_ways):
    entry_number(feed_number(language="fr"))
    (entry,) = pick()["results"]
    assert entry["language"] == "fr"
    assert entry["published_at"] is None
    assert entry["feed"]["category"] is None
    assert entry["link"] == {"state": "unknown", "checked_at": None}


def test_a_dead_link_is_called_dead():
    row = dict.fromkeys(rendering.ENTRY_FIELDS, "") | {
        "score": 0.5,
        "published_at": None,
    }
    row |= {"host": "a.example", "dead_since": NOW, "checked_at": NOW}
    link = rendering.entry_json(list(row.values()))["link"]
    assert link == {"state": "dead", "checked_at": "2026-11-23T12:00:30Z"}


@pytest.mark.parametrize(
    ("title", "excerpt", "shown"),
    [
        ("Title", "Text", "Title"),
        ("", "A short text.", "A short text."),
        ("", "word " * 30, "word " * 15 + "word…"),
        ("", "word " * 15 + "words " * 9, "word " * 14 + "word…"),
        ("", "字 " + "字" * 198, "字 " + "字" * 77 + "…"),
        ("", "字" * 200, "字" * 79 + "…"),
        ("", "", "https://site1.example/1"),
    ],
)
@pytest.mark.django_db
def test_an_untitled_post_is_called_by_its_text_or_address(title, excerpt, shown):
    entry_number(feed_number(), title=title, excerpt=excerpt)
    assert pick()["results"][0]["title"] == shown


# Who may be drawn


@pytest.mark.django_db
def test_only_what_is_eligible_is_drawn(both_ways):
    feed = feed_number()
    good = entry_number(feed)
    entry_number(feed, 2, hidden=True)
    entry_number(feed, 3, dead_since=NOW)
    entry_number(feed_number(2, active=False))
    feed_number(3)
    assert pick(count=5) == {
        "results": [rendering.entry_json(_row(good))],
        "pool": {"eligible": 1, "exhausted": True},
    }


def _row(entry):
    return Entry.objects.values_list(*rendering.ENTRY_FIELDS).get(pk=entry.pk)


@pytest.mark.django_db
@pytest.mark.parametrize("request_", [{}, {"category": "art"}, {"max_age_days": 3}])
def test_an_empty_pool_is_an_empty_answer(request_):
    empty = {"results": [], "pool": {"eligible": 0, "exhausted": True}}
    assert pick(**request_) == empty


@pytest.mark.django_db
def test_the_pool_counts_what_the_filters_leave_before_exclude(both_ways):
    category = Category.objects.create(slug="art", name="Art")
    feed = feed_number(category=category)
    entries = [entry_number(feed, number) for number in range(3)]
    entry_number(feed_number(2))
    out = frozenset({entries[0].pk, 12_345})
    answer = pick(count=2, category="art", exclude=out)
    assert answer["pool"] == {"eligible": 3, "exhausted": False}
    assert {e["id"] for e in answer["results"]} == {e.pk for e in entries[1:]}
    answer = pick(count=3, category="art", exclude=out)
    assert answer["pool"] == {"eligible": 3, "exhausted": True}
    assert len(answer["results"]) == 2


@pytest.mark.django_db
def test_the_filters(both_ways):
    art = feed_number(
        1, category=Category.objects.create(slug="art", name="Art"), language="en"
    )
    plain = feed_number(2, language="de-AT")
    day = timedelta(days=1)
    new = entry_number(art, 1, published_at=NOW - 2 * day, language="fr")
    old = entry_number(art, 2, published_at=NOW - 9 * day)
    undated = entry_number(plain, 1)
    ahead = entry_number(plain, 2, published_at=NOW + day)
    assert ids() == {new.pk, old.pk, undated.pk, ahead.pk}
    assert ids(category="art") == {new.pk, old.pk}
    assert ids(category="none") == set()
    # An entry that names no language has its feed's.
    assert ids(language="en") == {old.pk}
    assert ids(language="DE") == {undated.pk, ahead.pk}
    assert ids(language="fr", category="art") == {new.pk}
    assert ids(feed=plain.pk) == {undated.pk, ahead.pk}
    assert ids(feed=plain.pk, category="art") == set()
    assert ids(feed=2**63) == set()
    assert ids(max_age_days=2) == {new.pk, ahead.pk}
    assert ids(max_age_days=1) == {ahead.pk}
    assert ids(max_age_days=10**12) == {new.pk, old.pk, ahead.pk}
    assert ids(max_age_days=9, feed=art.pk, language="en") == {old.pk}


@pytest.mark.django_db
def test_votes_weigh_by_the_law(both_ways):
    """Numbers worked out by hand: P = 0.6, feeds 0.7 and 0.5, entries as below."""
    PoolState.objects.create(pk=1, up=25, down=15)
    liked, plain = feed_number(1, up=8, down=2), feed_number(2, up=4, down=6)
    first = entry_number(liked, 1, up=5)
    second = entry_number(liked, 2)
    third = entry_number(plain, 1)
    feeds = {1: (0.7 / 0.6) ** 2, 2: (0.5 / 0.6) ** 2}
    of_first, of_second = (0.85 / 0.6) ** 2, (0.7 / 0.6) ** 2
    share = feeds[1] / sum(feeds.values())
    expected = {
        first.pk: share * of_first / (of_first + of_second),
        second.pk: share * of_second / (of_first + of_second),
        third.pk: 1 - share,
    }
    rng, draws = Random(11), 4_000
    view = picking.current().view(cache.current(), picking.Filter())
    drawn = Counter(
        view.pool.ids[place] for _ in range(draws) for place in view.choose(1, (), rng)
    )
    chi_square = sum(
        (drawn[pk] - part * draws) ** 2 / (part * draws)
        for pk, part in expected.items()
    )
    assert chi_square < 13.82  # 2 degrees of freedom, 99.9 %


# The blacklist


@pytest.mark.django_db
def test_a_rule_hides_at_once_and_gives_back_at_once(both_ways):
    feed = feed_number(1, host="blog.bad.example")
    entries = {entry_number(feed).pk, entry_number(feed, 2, host="good.example").pk}
    other = feed_number(2)
    stays = entry_number(other)
    guest = entry_number(other, 2, host="bad.example")
    everything = {*entries, stays.pk, guest.pk}
    assert ids() == everything
    rule = BlacklistedDomain.objects.create(domain="bad.example")
    # The site of the first feed, and an entry elsewhere.
    assert ids() == {stays.pk}
    assert pick(feed=feed.pk)["pool"] == {"eligible": 0, "exhausted": True}
    assert picking.status().entries == picking.status().feeds == 1
    rule.delete()
    assert ids() == everything


@pytest.mark.django_db
def test_impact_says_what_rules_would_hide():
    categories = [Category.objects.create(slug=s, name=s) for s in ("art", "food")]
    one = feed_number(1, host="one.example", category=categories[0])
    two = feed_number(2, host="two.example", category=categories[1])
    entry_number(one, 1)
    entry_number(one, 2, host="sub.one.example")
    entry_number(two, 1)
    entry_number(two, 2, host="sub.one.example")
    entry_number(two, 3, host="one.example")

    def impact(*rules):
        found = picking.impact([RuleSpec(*rule) for rule in rules])
        return found.feeds, found.entries, round(found.share, 2), found.emptied

    assert impact() == (0, 0, 0, ())
    assert impact(("one.example",)) == (1, 4, 0.8, ("art",))
    assert impact(("one.example", False)) == (1, 3, 0.6, ("art",))
    assert impact(("sub.one.example",)) == (0, 2, 0.4, ())
    assert impact(("two.example",)) == (1, 3, 0.6, ("food",))
    assert impact(("one.example",), ("two.example",)) == (2, 5, 1, ("art", "food"))
    assert impact(("xample",)) == (0, 0, 0, ())
    # Exceptions, among them and of today.
    allow = ("sub.one.example", True, "allow")
    assert impact(("two.example",), allow) == (1, 3, 0.6, ("food",))
    assert impact(("one.example",), allow) == (1, 3, 0.6, ("art",))
    assert impact(("one.example", True), ("one.example", True, "allow"))[1] == 0
    BlacklistedDomain.objects.create(domain="sub.one.example", action="allow")
    assert impact(("one.example",)) == (1, 3, 0.6, ("art",))
    assert impact(("sub.one.example", False))[1] == 2
    # What is hidden now would not be hidden by them.
    BlacklistedDomain.objects.create(domain="one.example", include_subdomains=False)
    assert impact(("one.example", False)) == (0, 0, 0, ())
    assert impact(("two.example",)) == (1, 2, 1, ("food",))


@pytest.mark.django_db
def test_removal_says_what_would_be_shown_again():
    category = Category.objects.create(slug="art", name="art")
    for number, host in enumerate(("one.example", "two.example", "six.example")):
        feed = feed_number(number, host=host, category=category)
        entry_number(feed, number * 10)
        entry_number(feed, number * 10 + 1, host=f"sub.{host}")
    rules = BlacklistedDomain.objects

    def removal(origin="import:1"):
        found = picking.removal(origin)
        return found.feeds, found.entries, found.hidden

    assert removal() == (0, 0, 0)
    rules.create(domain="one.example", origin="import:1")
    rules.create(domain="sub.two.example", origin="import:1")
    assert removal() == (1, 3, 0)
    assert removal("import:2") == (0, 0, 0)
    # What another one blocks stays hidden, unless that has expired.
    rules.create(domain="sub.two.example", origin="import:2")
    assert removal() == (1, 2, 0)
    past = timezone.now() - timedelta(days=1)
    rules.create(domain="one.example", expires_at=past)
    assert removal() == (1, 2, 0)
    # What only an exception of it lets through would go.
    rules.create(domain="six.example")
    rules.create(domain="six.example", include_subdomains=False, origin="import:3")
    rules.create(domain="sub.six.example", action="allow", origin="import:4")
    assert removal("import:4") == (0, 0, 0)
    rules.filter(domain="six.example").delete()
    rules.create(domain="six.example", origin="import:4")
    rules.create(
        domain="six.example",
        include_subdomains=False,
        action="allow",
        origin="import:4",
    )
    rules.create(domain="six.example", origin="import:5")
    assert removal("import:4") == (0, 0, 2)


@pytest.mark.django_db
def test_impact_on_an_empty_pool():
    assert picking.impact([RuleSpec("one.example")]).share == 0


@pytest.mark.django_db
def test_categories_count_what_may_be_drawn():
    art = Category.objects.create(slug="art", name="Art")
    Category.objects.create(slug="empty", name="Empty")
    feeds = [feed_number(1, category=art), feed_number(2, category=art), feed_number(3)]
    for feed in feeds:
        entry_number(feed, 1)
        entry_number(feed, 2, host="bad.example")
    assert picking.eligible_by_category() == {"art": 4}
    BlacklistedDomain.objects.create(domain="bad.example")
    assert picking.eligible_by_category() == {"art": 2}


# What it costs


@pytest.fixture
def three_entries(db):
    feed = feed_number()
    return [entry_number(feed, number) for number in range(3)]


def test_the_plain_call_asks_the_database_nothing(
    three_entries, django_assert_num_queries
):
    picking.pick(PickRequest())
    with django_assert_num_queries(0):
        picking.pick(PickRequest(count=3))
        picking.pick(PickRequest(language="en", max_age_days=3, category="art"))
    with django_assert_num_queries(1):
        picking.pick(PickRequest(count=3, token=TOKEN))


def test_above_the_limit_the_entries_of_an_answer_are_one_query(
    three_entries, settings, django_assert_num_queries
):
    settings.RENDERED_ENTRIES = 2
    picking.pick(PickRequest())
    with django_assert_num_queries(1):
        assert len(pick(count=3)["results"]) == 3
    with django_assert_num_queries(2):
        pick(count=3, token=TOKEN)
    with django_assert_num_queries(0):
        pick(category="art")


def test_up_to_the_limit_entries_are_rendered_ahead(
    three_entries, settings, django_assert_num_queries
):
    settings.RENDERED_ENTRIES = 3
    picking.pick(PickRequest())
    with django_assert_num_queries(0):
        picking.pick(PickRequest())


def test_an_entry_deleted_since_is_missing_and_said_to_be(three_entries, settings):
    settings.RENDERED_ENTRIES = 0
    pick()
    three_entries[0].delete()
    answer = pick(count=3)
    assert len(answer["results"]) == 2
    assert answer["pool"]["exhausted"]


def test_the_views_of_a_snapshot_are_kept(three_entries, monkeypatch):
    made = []
    view = picking.Pool.view
    monkeypatch.setattr(
        picking.Pool, "view", lambda *args: made.append(args) or view(*args)
    )
    for _ in range(3):
        pick(), pick(language="en"), pick(language="EN"), pick(max_age_days=1)
    assert len(made) == 3
    # An age limit is by the minute.
    for seconds in (0, 29, 30):
        now = NOW + timedelta(seconds=seconds)
        picking.pick(PickRequest(max_age_days=2), now=now)
    assert len(made) == 5
    # One feed, and more filters than are kept, push out nothing that others need.
    for number in range(100):
        pick(feed=number)
    pick(language="en")
    assert len(made) == 105
    for number in range(100):
        pick(category=str(number))
    pick()
    assert len(made) == 205
    BlacklistedDomain.objects.create(domain="bad.example")
    pick(), pick()
    assert len(made) == 206


def test_of_the_views_those_last_asked_for_are_kept(three_entries, monkeypatch):
    monkeypatch.setattr(picking, "_VIEWS", 3)
    made = []
    view = picking.Pool.view
    monkeypatch.setattr(
        picking.Pool, "view", lambda *args: made.append(args[2]) or view(*args)
    )
    for days in (1, 2, 3, 1, 4, 1, 3, 2):
        pick(max_age_days=days)
    asked = [(NOW.replace(second=0) - timedelta(days=d)) for d in (1, 2, 3, 4, 2)]
    assert [f.since for f in made[1:]] == [int(when.timestamp()) for when in asked]


def test_large_views_leave_room_for_fewer(three_entries, monkeypatch):
    for number in range(2, 12):
        entry_number(feed_number(number), language="de", published_at=NOW)
    made = []
    view = picking.Pool.view
    monkeypatch.setattr(
        picking.Pool, "view", lambda *args: made.append(args[2]) or view(*args)
    )
    # There is room for one of 10 feeds, each a weight and a number, not for two.
    monkeypatch.setattr(picking, "_VIEW_NUMBERS", 30)
    for _ in range(2):
        pick(language="de"), pick(language="de")
        pick(max_age_days=9), pick(max_age_days=9)
    assert [f.language for f in made] == ["", "de", "", "de", ""]


@pytest.mark.parametrize("edited", [False, True])
def test_a_new_snapshot_asks_only_for_the_hosts_that_are_new(
    three_entries, edited, monkeypatch
):
    block("bad.example")
    entry_number(feed_number(2, host="bad.example"))
    assert len(ids()) == 3
    entry_number(feed_number(3, host="sub.bad.example"))
    entry_number(feed_number(4))
    if edited:
        block("site1.example")
    asked = []
    blocks = cache.Rules.blocks
    monkeypatch.setattr(
        cache.Rules, "blocks", lambda rules, h: asked.append(h) or blocks(rules, h)
    )
    picking.refresh()
    new = ["sub.bad.example", "site4.example"]
    assert asked == (["site1.example", "bad.example", *new] if edited else new)
    assert len(ids()) == (1 if edited else 4)


# Own votes


def test_a_token_shows_its_own_votes(three_entries, both_ways):
    for entry, value in zip(three_entries[:2], (1, -1), strict=True):
        feedback.vote(entry.pk, token=TOKEN, network="n", value=value, now=NOW)
    shown = pick(count=3, token=TOKEN)["results"]
    assert {e["id"]: e["my_vote"] for e in shown} == {
        entry.pk: value for entry, value in zip(three_entries, (1, -1, 0), strict=True)
    }
    assert {e["my_vote"] for e in pick(count=3)["results"]} == {None}


def test_no_two_workers_draw_alike():
    drawn = set()
    for _ in range(3):
        # As gunicorn makes them: by fork, from one and the same parent.
        with multiprocessing.get_context("fork").Pool(1) as worker:
            drawn.add(worker.apply(_drawn_next))
    assert len(drawn) == 3


def _drawn_next():
    return picking._RNG.random()


# How fresh it is


def follow_after(seconds, monkeypatch):
    """What the thread does when this much time has passed since the last build."""
    monkeypatch.setattr(picking._held, "built_at", time.monotonic() - seconds)
    picking._held.follow()


def test_the_snapshot_follows_a_vote(three_entries, monkeypatch):
    pick()
    feedback.vote(three_entries[0].pk, token=TOKEN, network="n", value=1, now=NOW)
    follow_after(40, monkeypatch)
    shown = {e["id"]: e["up"] for e in pick(count=3)["results"]}
    assert shown[three_entries[0].pk] == 1


def test_the_snapshot_follows_a_change_of_the_pool(three_entries, monkeypatch):
    pick()
    Entry.objects.filter(pk=three_entries[0].pk).update(hidden=True)
    PoolState.touch()
    follow_after(40, monkeypatch)
    assert ids() == {entry.pk for entry in three_entries[1:]}


def test_without_a_change_nothing_is_built_for_ten_minutes(three_entries, monkeypatch):
    PoolState.touch()
    snapshot = picking.current()
    follow_after(590, monkeypatch)
    assert picking.current() is snapshot
    follow_after(601, monkeypatch)
    assert picking.current() is not snapshot


def test_a_site_that_is_voted_on_all_the_time_is_not_built_all_the_time(
    three_entries, monkeypatch
):
    snapshot = picking.current()
    monkeypatch.setattr(picking._held, "build_took", 3.0)
    PoolState.touch()
    follow_after(29, monkeypatch)
    assert picking.current() is snapshot
    follow_after(31, monkeypatch)
    assert picking.current() is not snapshot
    snapshot = picking.current()
    # However long a build takes, random follows within a minute.
    monkeypatch.setattr(picking._held, "build_took", 30.0)
    PoolState.touch()
    follow_after(41, monkeypatch)
    assert picking.current() is not snapshot


def test_what_changes_while_it_is_built_is_built_again(three_entries, monkeypatch):
    feeds = building._feeds
    monkeypatch.setattr(building, "_feeds", lambda: [PoolState.touch(), *feeds()][1:])
    snapshot = picking.refresh()
    monkeypatch.undo()
    follow_after(40, monkeypatch)
    assert picking.current() is not snapshot


def test_status_says_what_is_held_and_how_old_it_is(three_entries, monkeypatch):
    assert picking.status().loaded is False
    picking.refresh()
    status = picking.status()
    assert (status.entries, status.feeds, status.loaded) == (3, 1, True)
    assert 0 <= status.age_seconds < 30
    monkeypatch.setattr(picking._held, "right_at", time.monotonic() - 100)
    assert 100 <= picking.status().age_seconds < 130
    # Found to be right again, though nothing was built.
    picking._held.follow()
    assert picking.status().age_seconds < 30
    PoolState.touch()
    monkeypatch.setattr(picking._held, "right_at", time.monotonic() - 100)
    monkeypatch.setattr(picking._held, "build_took", 100.0)
    picking._held.follow()
    assert picking.status().age_seconds >= 100


def test_status_asks_the_database_nothing(three_entries, django_assert_num_queries):
    cache.refresh()
    with django_assert_num_queries(0):
        picking.status()
    picking.refresh()
    with django_assert_num_queries(0):
        picking.status()


# The thread


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not come in time"
        time.sleep(0.01)


@pytest.mark.django_db(transaction=True)
def test_a_thread_keeps_the_snapshot_right(monkeypatch):
    monkeypatch.setattr(picking, "TICK", 0.02)
    monkeypatch.setenv("DATABASE_URL", test_database_url())
    before = processes.descendants(os.getpid())
    entry = entry_number(feed_number())
    picking.start()
    thread = picking._keeper
    picking.start()
    assert picking._keeper is thread
    wait_until(lambda: picking.status().loaded)
    assert processes.descendants(os.getpid()) == before
    entry_number(entry.feed, 2)
    PoolState.touch()
    wait_until(lambda: picking.status().entries == 2)
    # All but the first are built by another process, so that the threads here go on.
    assert len(processes.descendants(os.getpid()) - before) == 1
    picking.stop()
    assert not thread.is_alive()
    wait_until(lambda: not processes.descendants(os.getpid()) - before)
    picking.start()
    assert picking._keeper is not thread


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_starts_takes_what_another_had_built(monkeypatch):
    monkeypatch.setattr(picking, "TICK", 0.02)
    monkeypatch.setenv("DATABASE_URL", test_database_url())
    entry_number(feed_number())
    with Builder() as other:
        built = other.build()
        picking.start()
        wait_until(lambda: picking.status().loaded)
        assert picking.current().began == built.began
        # It counts as being as old as it is.
        assert picking._held.built_at == built.ended
    picking.stop()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("rendered", "builders"), [(0, 1), (1, 0)])
def test_a_large_pool_is_never_read_by_a_worker_itself(
    rendered, builders, settings, monkeypatch
):
    settings.RENDERED_ENTRIES = rendered
    monkeypatch.setenv("RENDERED_ENTRIES", str(rendered))
    monkeypatch.setenv("DATABASE_URL", test_database_url())
    before = processes.descendants(os.getpid())
    entry_number(feed_number())
    picking.start()
    wait_until(lambda: picking.status().loaded)
    assert len(processes.descendants(os.getpid()) - before) == builders
    picking.stop()
    wait_until(lambda: not processes.descendants(os.getpid()) - before)


@pytest.mark.django_db(transaction=True)
def test_the_thread_survives_errors_and_logs_them_once(monkeypatch, caplog):
    monkeypatch.setattr(picking, "TICK", 0.02)
    asked = []

    def broken():
        asked.append(1)
        raise DatabaseError("no")

    monkeypatch.setattr(building, "_state", broken)
    picking.start()
    wait_until(lambda: len(asked) > 3)
    assert caplog.text.count("The pool in memory stays as it was.") == 1
    monkeypatch.undo()
    wait_until(lambda: picking.status().loaded)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_the_thread_gives_its_connection_back(monkeypatch):
    monkeypatch.setattr(picking, "TICK", 0.02)
    rested = threading.Event()
    in_use = []

    def close():
        closing()
        in_use.append(connection.connection)
        rested.set()

    closing = picking.close_old_connections
    monkeypatch.setattr(picking, "close_old_connections", close)
    picking.start()
    assert rested.wait(20)
    assert in_use[0] is None


@pytest.mark.django_db(transaction=True)
def test_first_requests_at_once_build_once(monkeypatch):
    entry_number(feed_number())
    built, state = [], building._state
    barrier = threading.Barrier(5)

    def counted():
        built.append(1)
        return state()

    def ask():
        barrier.wait(20)
        try:
            found.append(pick()["pool"]["eligible"])
        finally:
            connection.close()

    found = []
    monkeypatch.setattr(building, "_state", counted)
    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 5
    assert len(built) == 1
