"""work: what recurs, and how it ends."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

import blacklist.cache
from blacklist import subscriptions
from blacklist.models import BlacklistedDomain, Subscription
from feeds import feedback, storing
from feeds.feedlists import FeedSpec
from feeds.models import (
    DailySalt,
    Entry,
    Feed,
    HeldHost,
    PlatformClaim,
    PoolState,
)
from feedsite.management.commands import work
from tests.feeds.internet import Answer, rss2

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def net(net, settings):
    settings.FEEDS_HTTP_PROXY = net.proxy
    return net


def add(*urls):
    storing.add_feeds(map(FeedSpec, urls), now=timezone.now())


def test_it_fetches_what_is_due(net, caplog):
    add(net.url("/rss2.xml"), net.url("/atom.xml"))
    Feed.objects.filter(url=net.url("/atom.xml")).update(
        next_fetch_at=timezone.now() + timedelta(hours=1)
    )
    with caplog.at_level(logging.INFO):
        call_command("work", once=True)
        call_command("work", once=True)
    assert [request.path for request in net.requests] == ["/rss2.xml"]
    assert [record.message for record in caplog.records] == ["Feeds: 1 loaded."]


def test_it_forgets_what_has_had_its_time(net):
    now = timezone.now()
    DailySalt.objects.create(day=(now - timedelta(days=4)).date(), salt=b"x")
    HeldHost.objects.create(host="a.example", until=now - timedelta(seconds=1))
    HeldHost.objects.create(host="b.example", until=now + timedelta(hours=1))
    PlatformClaim.objects.create(platform="c.example", until=now - timedelta(1))
    PlatformClaim.objects.create(platform="d.example", until=now + timedelta(1))
    old = BlacklistedDomain.objects.create(domain="old.example")
    BlacklistedDomain.objects.filter(pk=old.pk).update(
        retired_at=now - timedelta(days=91)
    )
    session = SessionStore()
    session["x"] = 1
    session.save()
    Session.objects.update(expire_date=now - timedelta(days=1))
    call_command("work", once=True)
    assert not DailySalt.objects.exists()
    assert [held.host for held in HeldHost.objects.all()] == ["b.example"]
    assert [claim.platform for claim in PlatformClaim.objects.all()] == ["d.example"]
    assert not BlacklistedDomain._base_manager.filter(pk=old.pk).exists()
    assert not Session.objects.exists()


def test_it_writes_scores_and_hits_down(net):
    add(net.url("/rss2.xml"))
    rule = BlacklistedDomain.objects.create(domain="blog.example")
    blacklist.cache.refresh()
    call_command("work", once=True)
    call_command("work", once=True)
    assert BlacklistedDomain.objects.with_hits().get(pk=rule.pk).hits == 3
    PoolState.touch(up=10)
    call_command("work", once=True)
    # P = 15/20, and no votes of their own.
    assert set(Entry.objects.values_list("score", flat=True)) == {0.75}


def test_it_looks_at_subscriptions(net):
    net.serve("/list", b"bad.example\n", host="lists.example")
    address = net.url("/list", host="lists.example")
    subscription = Subscription.objects.create(address=address)
    call_command("work", once=True)
    subscription.refresh_from_db()
    assert subscriptions.agree(subscription, subscription.preview["digest"])
    call_command("work", once=True)
    call_command("work", once=True)
    assert [rule.domain for rule in BlacklistedDomain.objects.all()] == ["bad.example"]
    assert len(net.requests) == 2


def test_a_failing_database_is_one_line_and_no_end(net, caplog, monkeypatch):
    def fail(*args):
        raise OperationalError("database is locked\nreally")

    add(net.url("/rss2.xml"))
    with monkeypatch.context() as patch:
        patch.setattr(feedback, "forget_old", fail)
        patch.setattr(storing, "store", fail)
        call_command("work", once=True)
    told = [record.message for record in caplog.records]
    assert any("database is locked really. Trying again." in line for line in told)
    assert all("\n" not in line for line in told)
    Feed.objects.update(next_fetch_at=timezone.now())
    call_command("work", once=True)
    assert Entry.objects.count() == 3


def test_a_database_that_is_down_for_long_is_not_told_again(caplog):
    def fail():
        raise OperationalError("down")

    command = work.Command()
    command.complained = False
    for _ in range(3):
        assert not command._attempt("fetch feeds", fail)
        # It had no hits to write down, so it asked nothing.
        assert command._attempt("write down hits", blacklist.cache.flush_hits)
    assert command._attempt("fetch feeds", Feed.objects.exists)
    assert command._attempt("fetch feeds", Feed.objects.exists)
    assert [record.message for record in caplog.records] == [
        "Cannot fetch feeds: down. Trying again.",
        "The database answers again.",
    ]


def test_a_chore_that_failed_is_tried_again_soon(monkeypatch):
    chore = work.Chore("x", work.DAY, lambda: 1 / 0)
    command = work.Command()
    command.chores, command.complained = [chore], False
    monkeypatch.setattr(command, "_attempt", lambda name, do: False)
    command._do_chores()
    assert 0 < chore.next_at - time.monotonic() <= work.MINUTE


def test_a_long_chore_does_one_part_while_feeds_are_claimed(monkeypatch):
    done = []

    def parts():
        for number in range(5):
            done.append(number)
            yield number

    command = work.Command()
    command.chores, command.complained = [work.Chore("x", work.DAY, parts)], False
    for expected in (1, 2):
        command._do_chores()
        assert len(done) == expected
    command._do_chores(whole=True)
    assert done == [0, 1, 2, 3, 4]
    command._do_chores()
    assert len(done) == 5


# As a process


@contextmanager
def working(net, **more) -> Iterator[subprocess.Popen[str]]:
    url = f"sqlite:///{connection.settings_dict['NAME']}"
    if connection.vendor == "postgresql":
        given = connection.settings_dict
        place = f"{given['USER']}@{given['HOST']}:{given['PORT']}"
        url = f"postgres://{place}/{given['NAME']}"
    process = subprocess.Popen(
        [sys.executable, "manage.py", "work"],
        env=os.environ
        | {
            "DATABASE_URL": url,
            "FEEDS_ALLOW_PRIVATE_ADDRESSES": "true",
            "FEEDS_HTTP_PROXY": net.proxy if net else "",
            "FEEDS_HOST_INTERVAL": "0",
            "FEEDS_PLATFORM_INTERVAL": "0",
        }
        | more,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_frees_its_claims(net, number):
    net.serve("/slow.xml", Answer(rss2(), delay=60))
    add(net.url("/slow.xml"), net.url("/rss2.xml"))
    with working(net) as process:
        wait_for(lambda: net.asked("/slow.xml") and Entry.objects.exists())
        process.send_signal(number)
        started = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert process.returncode == 0
    assert "Traceback" not in err
    assert not PlatformClaim.objects.exclude(holder="").exists()
    assert Feed.objects.filter(failures=0).count() == 2


def test_a_list_that_does_not_come_holds_nothing_up(net):
    net.serve("/list", Answer(b"bad.example", delay=60), host="lists.example")
    address = net.url("/list", host="lists.example")
    Subscription.objects.create(address=address)
    with working(net) as process:
        wait_for(lambda: net.asked("/list"))
        assert not Subscription.objects.due(timezone.now()).exists()
        add(net.url("/rss2.xml"))
        wait_for(Entry.objects.exists, 15)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert process.returncode == 0
    assert "Traceback" not in err
    # Whoever works next looks at it at once.
    assert Subscription.objects.due(timezone.now()).exists()


def test_a_feed_added_while_it_works_is_fetched_soon(net):
    net.serve("/slow.xml", Answer(rss2(), delay=60))
    add(net.url("/slow.xml"))
    with working(net):
        wait_for(lambda: net.asked("/slow.xml"))
        add(net.url("/rss2.xml", host="late.example"))
        wait_for(Entry.objects.exists, 15)


def test_what_an_operator_wants_does_not_wait_for_its_platform(net):
    hosts = [f"blog{number}.platform.example" for number in range(40)]
    for host in hosts:
        net.serve("/feed", rss2(1, host), host=host)
    add(*(f"http://{host}/feed" for host in hosts))
    with working(net, FEEDS_PLATFORM_INTERVAL="1"):
        wait_for(lambda: net.requests)
        now = timezone.now()
        last = Feed.objects.filter(url__contains="blog39.")
        last.update(fetch_wanted_at=now, next_fetch_at=now)
        wait_for(lambda: last.get().fetch_wanted_at is None, 20)
    assert "blog39.platform.example" in [request.host for request in net.requests]
    assert len(net.requests) < 25


def test_without_a_network_it_is_quiet_and_no_feed_fails(settings):
    add(*(f"http://blog{number}.invalid/feed" for number in range(40)))
    with working(None) as process:
        before = timezone.now()
        wait_for(lambda: not Feed.objects.filter(next_fetch_at__lt=before).exists(), 60)
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert not Feed.objects.exclude(failures=0).exists()
    assert len(err.strip().splitlines()) == 2  # the reason, and "Stopped."


def test_several_share_the_work(net):
    hosts = [f"blog{number}.example" for number in range(30)]
    for host in hosts:
        net.serve("/feed", Answer(rss2(1, host), delay=0.1), host=host)
    with working(net), working(net):
        add(*(f"http://{host}/feed" for host in hosts))
        wait_for(lambda: Entry.objects.count() == 30)
    assert len(net.requests) == 30
