"""From due feeds to rows, over a real network of one's own."""

import itertools
import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.utils import timezone

from feeds import asking, feedback, loading, storing
from feeds.feedlists import BadLine, FeedListError, FeedSpec
from feeds.loading import (
    Failed,
    Gone,
    Held,
    Left,
    Loaded,
    Loader,
    Postponed,
    Unchanged,
)
from feeds.models import Entry, Feed, HeldHost, PlatformClaim, PoolState
from tests.feeds.internet import Answer, atom, conditional, redirect, rss2
from tests.feeds.rows import entry_number

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def net(net, settings):
    settings.FEEDS_HOST_CONNECTIONS = settings.FEEDS_PLATFORM_CONNECTIONS = 50
    return net


@pytest.fixture
def loader():
    with Loader(rng=Random(1), lease=timedelta(seconds=1)) as loader:
        yield loader


def add(*urls):
    storing.add_feeds([FeedSpec(url) for url in urls], now=timezone.now())
    return [Feed.objects.get(identity=storing.feed_identity(url)) for url in urls]


def feeds():
    return Feed.objects.order_by("pk").values_list("pk", "url")


def run(loader, **options):
    return list(loader.load(feeds, **options))


def claimed():
    """The platforms that some loader has."""
    rows = PlatformClaim.objects.exclude(holder="").order_by("platform")
    return list(rows.values_list("platform", flat=True))


def claim(platform, seconds, holder="another"):
    until = timezone.now() + timedelta(seconds=seconds)
    PlatformClaim.objects.create(platform=platform, holder=holder, until=until)


def load_one(loader, **options):
    (outcome,) = run(loader, **options)
    return outcome, Feed.objects.get(pk=outcome.feed.pk)


FORMATS = [
    "/rss090.xml",
    "/rss091.xml",
    "/rss092.xml",
    "/rss1.xml",
    "/rss2.xml",
    "/atom.xml",
    "/feed.json",
    "/gzip.xml",
    "/br.xml",
    "/302.xml",
]


@pytest.mark.parametrize("path", FORMATS)
def test_every_format_comes_in(net, loader, path):
    add(net.url(path))
    Feed.objects.update(failures=2, last_error="an old one")
    before = timezone.now()
    outcome, feed = load_one(loader)
    assert (type(outcome), outcome.new) == (Loaded, 3)
    assert set(Entry.objects.values_list("url", "title")) == {
        (f"https://blog.example/posts/{n}", f"Post {n} of blog.example")
        for n in (1, 2, 3)
    }
    assert (feed.failures, feed.last_error) == (0, "")
    assert claimed() == []
    assert before <= feed.last_fetched_at
    assert timedelta(minutes=59) < feed.next_fetch_at - before <= timedelta(hours=25)
    assert feed.host == "blog.example"


def test_what_is_not_due_is_not_fetched(net, loader):
    add(net.url("/rss2.xml"))
    run(loader)
    assert [type(outcome) for outcome in run(loader)] == [Left]
    assert len(net.asked("/rss2.xml")) == 1
    assert len(run(loader, everything=True)) == 1


def test_validators_are_sent_and_kept(net, loader):
    add(net.url("/conditional.xml"))
    run(loader)
    for _ in range(2):
        outcome, feed = load_one(loader, everything=True)
        assert type(outcome) is Unchanged
        assert (feed.etag, feed.last_modified[:3]) == ('"one"', "Mon")
    assert net.asked("/conditional.xml")[-1].headers["if-none-match"] == '"one"'


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("/nothing.xml", "HTTP 404", "404"),
        ("/page.html", "not a feed", ""),
        ("/garbage.xml", "not a feed", ""),
        ("/empty.xml", "not a feed", ""),
        ("/loop.xml", "broken answer", "redirect"),
        ("/to-file.xml", "not allowed", "file"),
    ],
)
def test_a_broken_feed_backs_off(net, loader, path, kind, reason):
    add(net.url(path))
    Feed.objects.update(failures=2)
    outcome, feed = load_one(loader)
    assert type(outcome) is Failed
    assert reason in outcome.reason
    assert feed.failures == 3
    assert feed.last_error == outcome.reason
    assert (
        timedelta(hours=6) < feed.next_fetch_at - timezone.now() < timedelta(hours=10)
    )
    if kind:
        assert outcome.kind == kind


def test_a_feed_that_is_gone_is_not_asked_again(net, loader):
    add(net.url("/gone.xml"))
    outcome, feed = load_one(loader)
    assert type(outcome) is Gone
    assert "410" in feed.last_error
    assert feed.next_fetch_at is None
    assert [type(outcome) for outcome in run(loader, everything=True)] == [Left]


def test_retry_after_holds_the_host_for_everybody(net, loader):
    add(net.url("/busy.xml"), net.url("/rss2.xml"))
    net.serve("/rss2.xml", Answer(b"", status=503, headers=(("Retry-After", "120"),)))
    assert {type(outcome) for outcome in run(loader)} == {Held}
    assert HeldHost.objects.get().host == "127.0.0.1"
    remaining = HeldHost.objects.get().until - timezone.now()
    assert timedelta(seconds=100) < remaining < timedelta(seconds=125)
    assert set(Feed.objects.values_list("failures", flat=True)) == {0}
    asked = len(net.requests)
    add(net.url("/atom.xml"))
    with Loader() as other:
        assert {type(outcome) for outcome in run(other, everything=True)} == {Held}
    assert len(net.requests) == asked


def test_a_hold_ends(net, loader):
    add(net.url("/rss2.xml"))
    HeldHost.objects.create(host="127.0.0.1", until=timezone.now())
    assert type(load_one(loader)[0]) is Loaded


def test_a_move_is_followed_after_three_fetches(net, loader):
    net.serve("/old.xml", redirect("/rss2.xml", 301))
    add(net.url("/old.xml"))
    for expected in ("/old.xml", "/old.xml", "/rss2.xml"):
        _, feed = load_one(loader, everything=True)
        assert feed.url == net.url(expected)
    assert feed.identity == storing.feed_identity(feed.url)
    assert feed.entries.count() == 3


def test_a_move_to_a_known_feed_is_one_feed(net, loader):
    net.serve("/old.xml", redirect("/rss2.xml", 308))
    old, new = add(net.url("/old.xml"), net.url("/rss2.xml"))
    for _ in range(3):
        run(loader, everything=True)
    old.refresh_from_db()
    assert not old.active
    assert new.entries.count() == 3
    outcomes = {outcome.feed: type(outcome) for outcome in run(loader, everything=True)}
    assert outcomes == {old: Left, new: Loaded}


def test_the_guard_is_closed_by_default(net, loader, settings):
    settings.FEEDS_ALLOW_PRIVATE_ADDRESSES = False
    hosts = ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "[::ffff:127.0.0.1]", "0"]
    add(*(net.url("/rss2.xml", host=host) for host in hosts))
    outcomes = run(loader)
    assert Counter(outcome.kind for outcome in outcomes) == {
        "not allowed": len(outcomes)
    }
    assert len(outcomes) >= 3  # the spellings of one address are one feed
    assert net.connections == 0


def test_entries_of_many_feeds(net, settings):
    hosts = [f"blog{number}.example" for number in range(40)]
    for host in hosts:
        net.serve("/feed", atom(5, host), host=host)
    add(*(net.url("/feed", host=host) for host in hosts))
    with Loader(jobs=7, resolver=net.resolver) as loader:
        outcomes = run(loader)
    assert Counter(map(type, outcomes)) == {Loaded: 40}
    assert Entry.objects.count() == 200
    assert claimed() == []


def test_a_platform_with_many_feeds_holds_up_nobody(net, settings):
    settings.FEEDS_PLATFORM_CONNECTIONS = 2
    names = [f"{name}.platform.example" for name in "abcdefgh"] + ["other.example"]
    for name in names:
        net.serve("/feed", Answer(rss2(1, name), delay=0.05), host=name)
    add(*(net.url("/feed", host=name) for name in names))
    with Loader(jobs=3, resolver=net.resolver) as loader:
        assert len(run(loader)) == len(names)
    # Three may be asked at a time, two of the platform: the third is the other.
    assert "other.example" in [request.host for request in net.requests[:3]]


def test_what_is_left_to_wait_for_can_be_told(net, settings):
    settings.FEEDS_PLATFORM_INTERVAL = 0.5
    names = [f"{name}.platform.example" for name in "abcde"] + ["other.example"]
    for name in names:
        net.serve("/feed", rss2(1, name), host=name)
    add(*(net.url("/feed", host=name) for name in names))
    told = []
    with Loader(resolver=net.resolver) as loader:
        for _ in loader.load(feeds):
            told.append(loader.waiting())
    (one,) = told[0]
    assert one.platform == "platform.example"
    assert one.seconds == pytest.approx(one.feeds * 0.5)
    left = [sum(one.feeds for one in waiting) for waiting in told]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0


# Whose fault it is


def unreachable(count):
    return [f"http://blog{number}.example:9/feed" for number in range(count)]


class NoNames:
    """A resolver without a network."""

    async def resolve(self, host, port=0, family=0):
        raise OSError("no such name")

    async def close(self):
        pass


def test_a_dead_network_is_no_fault_of_the_feeds(net, caplog):
    add(*unreachable(25))
    before = timezone.now()
    with Loader(resolver=NoNames()) as loader, caplog.at_level(logging.INFO):
        outcomes = run(loader)
        run(loader, everything=True)
    assert Counter(map(type, outcomes)) == {Postponed: 25}
    assert not Feed.objects.exclude(failures=0).exists()
    assert all("not its fault" in feed.last_error for feed in Feed.objects.all())
    for feed in Feed.objects.all():
        moved = feed.next_fetch_at - before
        assert timedelta(minutes=9) < moved < timedelta(minutes=21)
    assert len(caplog.records) == 1


def test_a_dead_site_among_few_is_its_own_fault(net):
    add(*unreachable(19))
    with Loader(resolver=NoNames()) as loader:
        outcomes = run(loader)
    assert {(type(outcome), outcome.kind) for outcome in outcomes} == {
        (Failed, "no answer")
    }
    assert Feed.objects.filter(failures=1).count() == 19


def test_a_patient_loader_blames_nobody_while_nobody_has_answered(net):
    add(*unreachable(19))
    with Loader(resolver=NoNames(), patient=True) as loader:
        assert Counter(map(type, run(loader))) == {Postponed: 19}
    assert not Feed.objects.exclude(failures=0).exists()


def test_a_patient_loader_blames_a_dead_site_once_another_answered(net):
    net.serve("/feed", rss2(1, "good"), host="good.example")
    net.resolver.names["good.example"] = ["127.0.0.1"]
    net.resolver.default = [""]
    with Loader(resolver=net.resolver, patient=True) as loader:
        add(net.url("/feed", host="good.example"))
        run(loader)
        add(*unreachable(1))
        assert Counter(map(type, run(loader))) == {Failed: 1, Left: 1}


def test_nobody_is_said_to_answer_before_somebody_did(caplog):
    fault = loading._Fault()
    with caplog.at_level(logging.INFO):
        numbers = [fault.ask() for _ in range(30)]
        for number in numbers:
            fault.hear(number, answered=False)
        assert fault.judge(15, patient=False)
        # Too few to tell stand around this one.
        assert not fault.judge(45, patient=False)
        assert fault.judge(15, patient=False)
    assert len(caplog.records) == 1


def test_dead_sites_among_good_ones_are_their_own_fault(net):
    good = [f"good{number}.example" for number in range(30)]
    for host in good:
        net.serve("/feed", rss2(1, host), host=host)
        net.resolver.names[host] = ["127.0.0.1"]
    net.resolver.default = [""]
    add(*(net.url("/feed", host=host) for host in good), *unreachable(10))
    with Loader(resolver=net.resolver) as loader:
        outcomes = run(loader)
    assert Counter(map(type, outcomes)) == {Loaded: 30, Failed: 10}


# Claims


def test_a_platform_another_loader_has_is_left_to_it(net, loader):
    (feed,) = add(net.url("/rss2.xml"))
    claim("127.0.0.1", 3600)
    assert run(loader) == [Left(feed, "another loader is asking 127.0.0.1")]
    assert net.requests == []


def test_a_claim_of_the_dead_ends_by_itself(net, loader):
    add(net.url("/rss2.xml"))
    claim("127.0.0.1", 0.5)
    assert type(load_one(loader)[0]) is Loaded


def test_a_platform_given_back_is_not_asked_at_once(net, settings):
    settings.FEEDS_PLATFORM_INTERVAL = 1.5
    add(net.url("/rss2.xml"), net.url("/atom.xml"))
    for path in ("/rss2.xml", "/atom.xml"):
        with Loader() as loader:
            rows = Feed.objects.filter(url=net.url(path)).values_list("pk", "url")
            (outcome,) = loader.load(rows.all)
            assert type(outcome) is Loaded
    first, second = net.requests
    assert second.at - first.at > 1.4


def test_two_loaders_fetch_nothing_twice(net):
    names = [f"blog{number}.example" for number in range(60)]
    for name in names:
        net.serve("/feed", Answer(rss2(1, name), delay=0.02), host=name)
    add(*(net.url("/feed", host=name) for name in names))
    outcomes = []

    def load():
        with Loader(jobs=2, resolver=net.resolver) as loader:
            outcomes.extend(loader.load(feeds, everything=True))
        connection.close()

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(net.requests) == 60
    assert Counter(map(type, outcomes)) == {Loaded: 60, Left: 60}


def test_two_loaders_never_ask_a_platform_together(net, settings):
    settings.FEEDS_PLATFORM_CONNECTIONS = 1
    names = [f"{letter}.platform.example" for letter in "abcdefgh"]
    for name in names:
        net.serve("/feed", Answer(rss2(1, name), delay=0.05), host=name)
    add(*(net.url("/feed", host=name) for name in names))

    def load(pks):
        with Loader(resolver=net.resolver) as loader:
            some = Feed.objects.filter(pk__in=pks).values_list("pk", "url")
            outcomes = list(loader.load(lambda: some))
        connection.close()
        return outcomes

    pks = list(Feed.objects.values_list("pk", flat=True))
    with ThreadPoolExecutor(2) as pool:
        outcomes = [*itertools.chain(*pool.map(load, [pks[:4], pks[4:]]))]
    assert Counter(map(type, outcomes)) == {Loaded: 8}
    times = sorted((request.at, request.host) for request in net.requests)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(times)]
    assert min(gaps) > 0.045


def test_a_redirect_to_a_platform_of_another_loader_is_put_off(
    net, loader, monkeypatch
):
    monkeypatch.setattr(asking, "PATIENCE", 0.3)
    net.serve("/moved.xml", redirect(net.url("/rss2.xml", host="there.example")))
    add(net.url("/moved.xml"))
    claim("there.example", 3600)
    outcome, feed = load_one(loader)
    assert type(outcome) is Postponed
    assert outcome.reason == "another loader is asking there.example"
    assert (feed.failures, feed.last_fetched_at) == (0, None)
    assert feed.last_error == f"put off, not its fault: {outcome.reason}"


def test_a_redirect_waits_for_a_platform_that_is_soon_free(net):
    net.serve("/moved.xml", redirect(net.url("/rss2.xml", host="there.example")))
    add(net.url("/moved.xml"))
    claim("there.example", 0.5)
    with Loader(resolver=net.resolver) as loader:
        assert type(load_one(loader)[0]) is Loaded
    assert claimed() == []


def test_who_lost_a_platform_asks_it_no_more(net, settings):
    settings.FEEDS_PLATFORM_CONNECTIONS = 1
    net.serve("/slow.xml", Answer(rss2(), delay=1))
    add(net.url("/slow.xml"), net.url("/atom.xml"))

    def steal():
        rows = PlatformClaim.objects.exclude(holder="another")
        if net.requests:
            rows.update(holder="another", until=timezone.now() + timedelta(hours=1))

    with Loader(lease=timedelta(seconds=1)) as loader:
        outcomes = run(loader, tick=steal)
    assert [type(outcome) for outcome in outcomes] == [Loaded, Left]
    assert len(net.requests) == 1


def test_nothing_is_asked_while_claims_cannot_be_renewed(net, monkeypatch):
    net.serve("/slow.xml", Answer(rss2(), delay=0.4))
    add(net.url("/slow.xml"), net.url("/next.xml", host="next.example"))
    asked = []

    def stall():
        # The database is slow for longer than half of the lease.
        if net.requests and not asked:
            asked.append(len(net.requests))
            time.sleep(0.8)
            asked.append(len(net.requests))

    net.serve(
        "/next.xml", Answer(status=302, headers=(("Location", "/rss2.xml"),), delay=0.6)
    )
    with Loader(lease=timedelta(seconds=1), resolver=net.resolver) as loader:
        outcomes = run(loader, tick=stall)
    assert {type(outcome) for outcome in outcomes} == {Loaded}
    assert asked == [2, 2]


def test_what_an_operator_wants_goes_first(net, settings):
    settings.FEEDS_PLATFORM_CONNECTIONS = 1
    names = [f"{letter}.platform.example" for letter in "abcdefgh"]
    for name in names:
        net.serve("/feed", rss2(1, name), host=name)
    rows = add(*(net.url("/feed", host=name) for name in names))
    with Loader(resolver=net.resolver) as loader:
        run(loader, wanted=lambda: [rows[4].pk, rows[6].pk])
    assert [request.host[0] for request in net.requests] == list("geabcdfh")


@pytest.mark.postgresql
def test_a_vote_waits_for_no_feed_of_many_things_to_write(net, loader, monkeypatch):
    """What a loader and a vote both lock, both lock in one order."""
    (feed,) = add(net.url("/rss2.xml"))
    entry = entry_number(feed)
    record, tallies, pool = storing.record, [], ThreadPoolExecutor(1)

    def vote():
        try:
            return feedback.vote(
                entry.pk, token="t" * 22, network="n", value=1, now=timezone.now()
            )
        finally:
            connection.close()

    def vote_and_record(*args):
        # The loader is in the middle of its transaction.
        tallies.append(pool.submit(vote).result(timeout=5))
        record(*args)

    monkeypatch.setattr(storing, "record", vote_and_record)
    # Known already, so that nothing of the feed's own row is to be said.
    texts = {"title": "a", "description": "b", "language": "c", "site_url": "d"}
    Feed.objects.update(**texts)
    with pool:
        assert type(load_one(loader)[0]) is Loaded
    assert [tally.up for tally in tallies] == [1]
    assert PoolState.objects.get().up == 1


@pytest.mark.parametrize(
    "answer",
    [
        conditional(rss2()),
        Answer(status=410),
        Answer(status=404),
        Answer(b"", status=503, headers=(("Retry-After", "120"),)),
        redirect("/atom.xml", 301),
    ],
)
def test_an_address_corrected_meanwhile_is_a_new_feed(net, loader, monkeypatch, answer):
    net.serve("/old.xml", answer)
    (feed,) = add(net.url("/old.xml"))
    Feed.objects.update(moved_to=net.url("/atom.xml"), moved_times=2)
    corrected, now = net.url("/rss2.xml"), timezone.now()
    settle = loader.settle

    def correct_and_settle(*args):
        Feed.objects.update(url=corrected, next_fetch_at=now, etag="")
        return settle(*args)

    monkeypatch.setattr(loader, "settle", correct_and_settle)
    _, feed = load_one(loader)
    assert (feed.url, feed.next_fetch_at) == (corrected, now)
    assert (feed.etag, feed.failures, feed.last_error) == ("", 0, "")


def test_claims_are_renewed_while_the_network_is_slow(net, loader):
    net.serve("/slow.xml", Answer(rss2(), delay=2))
    add(net.url("/slow.xml"))
    seen = set()

    def tick():
        seen.update(PlatformClaim.objects.values_list("until", flat=True))

    assert type(run(loader, tick=tick)[0]) is Loaded
    assert len(seen) > 2


def test_what_stops_a_run_frees_its_claims(net, loader):
    net.serve("/slow.xml", Answer(rss2(), delay=30))
    add(net.url("/slow.xml"), net.url("/rss2.xml"))
    outcomes = loader.load(feeds)
    assert type(next(outcomes)) is Loaded
    outcomes.close()
    assert claimed() == []
    # And the loader is as good as new.
    Feed.objects.filter(url=net.url("/slow.xml")).delete()
    assert len(run(loader, everything=True)) == 1


def test_a_database_error_ends_the_run(net, loader, monkeypatch):
    def fail(*args):
        raise OperationalError("database is locked")

    add(net.url("/rss2.xml"))
    monkeypatch.setattr(storing, "store", fail)
    with pytest.raises(OperationalError):
        run(loader)
    assert claimed() == []
    assert Feed.objects.get().failures == 0


@pytest.mark.parametrize("error", [ValueError("NUL"), IntegrityError("no such feed")])
def test_what_cannot_be_stored_is_one_feeds_own_failure(
    net, loader, monkeypatch, error
):
    store = storing.store

    def fail(batch, now):
        if any(incoming.feed == bad for incoming in batch):
            raise error
        return store(batch, now)

    good, bad = add(net.url("/rss2.xml"), net.url("/atom.xml"))
    monkeypatch.setattr(storing, "store", fail)
    outcomes = {outcome.feed: outcome for outcome in run(loader)}
    assert outcomes[bad].kind == "not storable"
    assert type(outcomes[good]) is Loaded
    assert Feed.objects.filter(failures=1).get() == bad


def test_a_feed_deleted_meanwhile_costs_nobody_else(net, loader, monkeypatch):
    store = storing.store

    def delete_and_store(batch, now):
        Feed.objects.filter(url=net.url("/atom.xml")).delete()
        return store(batch, now)

    net.serve("/atom.xml", atom(3, "other.example"))
    add(net.url("/rss2.xml"), net.url("/atom.xml"))
    monkeypatch.setattr(storing, "store", delete_and_store)
    assert Counter(map(type, run(loader))) == {Loaded: 1, Failed: 1}
    assert Entry.objects.count() == 3


def test_a_mistake_of_ours_costs_one_feed(net, loader, monkeypatch, caplog):
    async def fail(*args, **options):
        raise RuntimeError("a mistake")

    add(net.url("/rss2.xml"), net.url("/nothing.xml"))
    monkeypatch.setattr(loading.parsing.Parsers, "parse", fail)
    kinds = {outcome.kind for outcome in run(loader)}
    assert kinds == {"our mistake", "HTTP 404"}
    assert "a mistake" in caplog.text


def test_no_means_to_read_a_feed_is_not_its_fault(net, loader, monkeypatch, caplog):
    async def fail(*args, **options):
        raise OSError("no more processes")

    add(net.url("/rss2.xml"), net.url("/atom.xml"))
    monkeypatch.setattr(loading.parsing.Parsers, "parse", fail)
    assert {type(outcome) for outcome in run(loader)} == {Postponed}
    assert set(Feed.objects.values_list("failures", flat=True)) == {0}
    assert len(caplog.records) == 1


def test_feeds_that_come_up_meanwhile_are_loaded_too(net, loader, monkeypatch):
    net.serve("/slow.xml", Answer(rss2(), delay=1))
    add(net.url("/slow.xml"))
    given = [list(feeds())]
    (late,) = add(net.url("/atom.xml"))

    def source():
        due = Feed.objects.may_be_asked(timezone.now()).values_list("pk", "url")
        return given.pop() if given else due

    monkeypatch.setattr(loading, "LOOK_AGAIN_AFTER", timedelta(0))
    outcomes = list(loader.load(source, follow=True))
    assert late in [outcome.feed for outcome in outcomes]


# One address


def read_address(url):
    with Loader() as loader:
        return loader.read_address(url)


def test_a_site_leads_to_its_feed(net):
    url = net.url("/")
    assert read_address(url) == [FeedSpec(net.url("/atom.xml"), line=1, source=url)]


def test_a_page_without_a_feed_is_a_row(net):
    (row,) = read_address(net.url("/page.html"))
    assert isinstance(row, BadLine)
    assert "no feed found" in row.reason


@pytest.mark.parametrize("path", ["/rss2.xml", "/feed.json", "/atom.xml", "/302.xml"])
def test_a_feed_is_itself(net, path):
    (row,) = read_address(net.url(path))
    assert row.url == net.url(path)


def test_an_address_of_a_list_is_read(net):
    net.serve("/list", b"https://a.example/feed\nhttps://b.example/feed\n")
    rows = read_address(net.url("/list"))
    assert [row.line for row in rows] == [1, 2]


def test_an_address_of_neither_says_so(net):
    net.serve("/list", b"\x00\xff\x00")
    with pytest.raises(FeedListError):
        read_address(net.url("/list"))


def test_an_address_that_cannot_be_fetched_says_why(net, settings):
    with pytest.raises(loading.CannotFetch, match="404"):
        loading.fetch_bytes(net.url("/nothing"))
    settings.FEEDS_ALLOW_PRIVATE_ADDRESSES = False
    with pytest.raises(OSError, match="127"):
        loading.fetch_bytes(net.url("/rss2.xml"))


def test_the_bytes_of_an_address(net):
    net.serve("/x", b"bytes")
    assert loading.fetch_bytes(net.url("/x")) == b"bytes"
    assert net.asked("/x")[0].headers["user-agent"].startswith("feedsite/")
