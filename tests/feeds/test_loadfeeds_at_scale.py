"""loadfeeds on a list of the real one's shape, a fifth of its hosts hostile.

The same, on the whole list and measured: benchmarks/loadfeeds.py.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from django.db.models import Count

from feeds.models import Entry, Feed, PlatformClaim
from feeds.politeness import Limits
from tests import processes
from tests.feeds import manners
from tests.feeds.big_internet import BigInternet, over_http
from tests.feeds.publishers import SHARED_POST, Habits
from tests.serving import ROOT, clean_environ, test_database_url

pytestmark = pytest.mark.django_db(transaction=True)

FEEDS = 300
# Without those that take up all the time they are given: that they get no more of
# it has tests of its own.
HABITS = Habits(
    entries=3, size=1500, faulty=0.2, costly=False, odd=0.2, latency=0.05, jitter=0.1
)
# Far above what a busy machine smears, as far below the defaults as time allows.
PAUSES = {"FEEDS_HOST_INTERVAL": 0.4, "FEEDS_PLATFORM_INTERVAL": 0.2}
LIMITS = Limits(host_interval=0.4, platform_interval=0.2)
NO_PAUSES = {"FEEDS_HOST_INTERVAL": 0, "FEEDS_PLATFORM_INTERVAL": 0}


@pytest.fixture
def addresses():
    name = os.environ.get("FEEDSITE_FEED_LIST")
    if not name:
        pytest.skip("FEEDSITE_FEED_LIST names no feed list (the Small Web's)")
    lines = Path(name).read_text().split()
    return [over_http(lines[n * len(lines) // FEEDS]) for n in range(FEEDS)]


@pytest.fixture
def given(tmp_path):
    """A file with these addresses."""

    def write(addresses):
        path = tmp_path / "list.txt"
        path.write_text("\n".join(addresses))
        return path

    return write


def start(net, *arguments, **environ):
    return subprocess.Popen(
        [sys.executable, ROOT / "manage.py", "loadfeeds", *map(str, arguments)],
        cwd=ROOT,
        env=clean_environ(
            DATABASE_URL=test_database_url(), FEEDS_HTTP_PROXY=net.proxy, **environ
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def load(net, *arguments, **environ):
    """Run it to its end; gives what was asked meanwhile."""
    net.take_log()
    process = start(net, "--no-progress", *arguments, **environ)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return net.take_log()


def test_every_good_feed_comes_in_and_no_hostile_one_does_harm(addresses, given):
    def good(host):
        return not HABITS.fault_of(host)

    with BigInternet(HABITS) as net:
        logs = [
            load(net, given(addresses), **PAUSES),
            load(net, "--all", **PAUSES),
            load(net, **PAUSES),
        ]
    feeds = Feed.objects.annotate(count=Count("entries"))
    counts = {feed.url: feed.count for feed in feeds if good(manners.host_of(feed.url))}
    assert len(counts) > 0.7 * FEEDS
    assert set(counts.values()) == {HABITS.entries}, counts
    assert [log.canary + log.local_targets() for log in logs] == [0, 0, 0]
    for log in logs[:2]:
        assert [kind.too_many for kind in manners.judge(log, LIMITS)] == [0, 0]
    assert logs[1].count(304, good) >= 0.95 * len(counts)
    assert logs[2].requests == []


def test_no_host_and_no_platform_is_asked_too_soon(given):
    habits = replace(HABITS, faulty=0.5)
    hosts = [f"blog-{n}.platform-{n % 12}.example" for n in range(36)]
    with BigInternet(habits) as net:
        log = load(net, given(f"http://{host}/feed" for host in hosts), **PAUSES)
    of_hosts, of_platforms = manners.judge(log, LIMITS)
    assert (of_hosts.violations, of_platforms.violations) == (0, 0)
    assert max(log.times_asked().values()) == 1


def test_killed_at_any_moment_it_loses_and_doubles_nothing(given):
    habits = Habits(
        entries=5, size=1500, shared_post=True, growing=True, latency=0.2, jitter=0.2
    )
    with BigInternet(habits) as net:
        path = given(f"http://host-{n}.example/feed.xml" for n in range(FEEDS // 3))
        for after in (0, 20, 60):
            process = start(net, path, "--all", **NO_PAUSES)
            asked = 0
            while asked < after and process.poll() is None:
                time.sleep(0.02)
                asked += len(net.take_log().requests)
            assert process.poll() is None
            family = processes.family(process.pid)
            process.kill()
            process.communicate()
            assert not processes.still_there(family, patience=5)
            # As they end by themselves after a while.
            PlatformClaim.objects.all().delete()
        load(net, path, "--all", **NO_PAUSES)
        newest = net.newest_posts()
    wanted = {f"http://{key}/{n}" for key in newest for n in range(1, newest[key] + 1)}
    found = sorted(Entry.objects.values_list("url", flat=True))
    assert len(newest) == FEEDS // 3
    assert found == sorted({SHARED_POST, *wanted})
