"""The big internet and its measure of manners: what they say is so."""

import socket
import time
from dataclasses import replace

import pytest

from feeds.politeness import Limits
from tests.feeds import manners
from tests.feeds.big_internet import BigInternet, over_http
from tests.feeds.publishers import Habits

HABITS = Habits(faulty=0.2, odd=0.2)


def log_of(*starts, seconds=0.3, host="blog.example", **options):
    requests = [
        manners.Request(host, f"/{n}", start, start + seconds, 200)
        for n, start in enumerate(starts)
    ]
    return manners.Log(requests, **options)


def violations(log, limits=None):
    hosts, platforms = manners.judge(log, limits or Limits())
    return hosts.violations, platforms.violations


def test_a_host_asked_once_a_second_is_asked_politely():
    assert violations(log_of(10.0, 11.0, 12.0)) == (0, 0)


def test_a_host_asked_too_soon_is_noticed():
    assert violations(log_of(10.0, 10.9)) == (1, 1)


def test_what_the_measure_itself_was_late_for_is_not_held_against_anyone():
    assert violations(log_of(10.0, 10.9, lateness={100: 0.1})) == (0, 0)
    assert violations(log_of(10.0, 10.9, lateness={109: 0.1})) == (1, 1)


def test_too_many_connections_are_noticed():
    assert violations(log_of(10.0, 11.0, seconds=2.5)) == (0, 0)
    assert violations(log_of(10.0, 11.0, 12.0, seconds=2.5)) == (1, 1)


@pytest.mark.parametrize(
    ("platform", "apart", "too_close"),
    [("bearblog.dev", 0.2, 0), ("bearblog.dev", 0.1, 1), ("wordpress.com", 0.2, 1)],
)
def test_hosts_of_one_platform_count_together(platform, apart, too_close):
    one = log_of(10.0, host=f"one.{platform}")
    other = log_of(10.0 + apart, host=f"other.{platform}")
    log = manners.Log(one.requests + other.requests)
    assert violations(log) == (0, too_close)


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "[::1]", "localhost"])
def test_whoever_is_sent_to_this_machine_is_noticed(host):
    assert log_of(1.0, host=host).local_targets() == 1
    assert log_of(1.0, host=f"{host.strip('[]:')}.example").local_targets() == 0


def test_a_fifth_of_the_hosts_is_faulty_and_always_the_same():
    hosts = [f"host-{n}.example" for n in range(5000)]
    faulty = [host for host in hosts if HABITS.fault_of(host)]
    assert 900 < len(faulty) < 1100
    assert faulty == [host for host in hosts if replace(HABITS, odd=0).fault_of(host)]
    assert not any(Habits().fault_of(host) for host in hosts)


def test_https_is_asked_for_without_it():
    assert over_http("https://a.example/feed?x=1") == "http://a.example/feed?x=1"
    assert over_http("https://a.example:443/") == "http://a.example:443/"
    assert over_http("http://a.example:81/") == "http://a.example:81/"


def test_a_silent_host_notices_at_once_that_the_asker_has_gone():
    habits = Habits(faulty=1)
    names = (f"host-{n}.example" for n in range(10_000))
    silent = next(name for name in names if habits.fault_of(name) == "silent")
    with BigInternet(habits) as net:
        with socket.create_connection(("127.0.0.1", net.port)) as asker:
            asker.sendall(f"GET http://{silent}/ HTTP/1.1\r\n\r\n".encode())
            time.sleep(0.5)
        time.sleep(2)
        (request,) = net.take_log().requests
        # One that is still open would end now.
        assert request.end < time.monotonic() - 1
