"""Who may be asked when: the rules, under a clock that costs no time."""

import asyncio
import contextlib
import itertools
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from feeds import politeness
from feeds.politeness import Held, Limits, Platform, Turns, platform_of, rhythm

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Simulated(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next moment at which something happens."""

    class Selector(selectors.DefaultSelector):
        now = 1000.0

        def select(self, timeout: float | None = None) -> Any:
            assert timeout is not None, "everything waits for something else"
            self.now += timeout
            return super().select(0)

    def __init__(self) -> None:
        self.clock = self.Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def simulate(main: Callable[[Simulated], Coroutine[Any, Any, Any]]) -> Any:
    loop = Simulated()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()


class Crowd:
    """Many requests at once; remembers when each host was asked, and by how many."""

    def __init__(self, limits: Limits | None = None, takes: float = 0.1) -> None:
        self.limits, self.takes = limits, takes
        self.times: list[tuple[float, str]] = []
        self.open: list[str] = []
        self.most: dict[str, int] = {}

    def ask(self, hosts: list[str]) -> None:
        async def one(turns: Turns, loop: Simulated, host: str) -> None:
            async with turns.turn(host) as sent:
                sent()
                self.times.append((round(loop.time() - start, 6), host))
                self.open.append(host)
                for name in (host, platform_of(host).name):
                    now = sum(name in (h, platform_of(h).name) for h in self.open)
                    self.most[name] = max(self.most.get(name, 0), now)
                await asyncio.sleep(self.takes)
                self.open.remove(host)

        async def main(loop: Simulated) -> None:
            turns = Turns(self.limits, clock=loop.time)
            await asyncio.gather(*(one(turns, loop, host) for host in hosts))

        start = Simulated.Selector.now
        simulate(main)

    def of(self, host: str) -> list[float]:
        return [time for time, name in self.times if name == host]


# Platforms.


@pytest.mark.parametrize(
    ("host", "name", "shared"),
    [
        ("ann.bearblog.dev", "bearblog.dev", True),
        ("a.b.github.io", "github.io", True),
        ("ann.wordpress.com", "wordpress.com", False),
        ("WWW.BBC.co.uk.", "bbc.co.uk", False),
        ("example.com", "example.com", False),
        ("co.uk", "co.uk", False),
        ("localhost", "localhost", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("[2001:db8::1]", "[2001:db8::1]", False),
        ("", "", False),
    ],
)
def test_the_platform_of_a_host(host, name, shared):
    assert platform_of(host) == Platform(name, shared)


# Turns.


def test_a_host_is_asked_once_a_second_and_all_hosts_at_once():
    crowd = Crowd()
    crowd.ask(["a.example.com", "a.example.com", "a.example.com", "b.example.org"])
    assert crowd.of("a.example.com") == [0, 1, 2]
    assert crowd.of("b.example.org") == [0]


def test_a_slow_host_gets_two_connections():
    crowd = Crowd(takes=10)
    crowd.ask(["a.example.com"] * 4)
    assert crowd.of("a.example.com") == [0, 1, 10, 11]
    assert crowd.most["a.example.com"] == 2


def test_the_hosts_of_a_platform_count_as_one():
    crowd = Crowd(takes=10)
    crowd.ask([f"{name}.wordpress.com" for name in "abcd"])
    assert [time for time, _ in crowd.times] == [0, 1, 10, 11]
    assert crowd.most["wordpress.com"] == 2


def test_a_shared_platform_takes_more():
    crowd = Crowd(takes=10)
    crowd.ask([f"blog{number}.bearblog.dev" for number in range(10)])
    times = [time for time, _ in crowd.times]
    assert times == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 10, 10.2])
    assert crowd.most["bearblog.dev"] == 8


def test_one_host_of_a_platform_does_not_hold_up_the_others():
    crowd = Crowd()
    crowd.ask(["a.bearblog.dev"] * 3 + ["b.bearblog.dev"])
    assert crowd.of("b.bearblog.dev") == pytest.approx([0.2])
    assert crowd.of("a.bearblog.dev") == pytest.approx([0, 1, 2])


def test_waiting_for_the_platform_does_not_shorten_a_hosts_distance():
    crowd = Crowd(Limits(platform_interval=0.7, platform_connections=2))
    crowd.ask(["a.example.com", "b.example.com", "a.example.com", "b.example.com"])
    for host in ("a.example.com", "b.example.com"):
        first, second = crowd.of(host)
        assert second - first >= 1
    times = sorted(time for time, _ in crowd.times)
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.699


def test_the_distance_counts_from_when_a_request_is_on_its_way():
    times = []

    async def main(loop: Simulated) -> None:
        turns = Turns(clock=loop.time)

        async def ask(host: str, connects: float) -> None:
            async with turns.turn(host) as sent:
                await asyncio.sleep(connects)
                times.append(round(loop.time() - start, 6))
                sent()
                await asyncio.sleep(0.1)

        start = loop.time()
        await asyncio.gather(
            ask("a.example.com", 0.7), ask("a.example.com", 0), ask("b.example.com", 0)
        )

    simulate(main)
    assert times == [0.7, 1.7, 2.7]


def test_who_could_not_connect_delays_nobody():
    async def main(loop: Simulated) -> float:
        turns, start = Turns(clock=loop.time), loop.time()
        with contextlib.suppress(OSError):
            async with turns.turn("a.example.com"):
                await asyncio.sleep(0.2)
                raise OSError
        async with turns.turn("a.example.com"):
            return loop.time() - start

    assert simulate(main) == pytest.approx(0.2)


def test_limits_are_settings():
    crowd = Crowd(Limits(0, 3, 0, 50), takes=1)
    crowd.ask(["a.example.com"] * 6)
    assert crowd.of("a.example.com") == [0, 0, 0, 1, 1, 1]


def test_a_failed_request_gives_its_turn_back():
    async def main(loop: Simulated) -> None:
        turns = Turns(Limits(0, 1, 0, 1), clock=loop.time)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                async with turns.turn("a.example.com"):
                    raise ZeroDivisionError
        waiting = asyncio.ensure_future(turns.turn("a.example.com").__aenter__())
        await asyncio.sleep(1)
        assert waiting.done()

    simulate(main)


def test_who_gives_up_waiting_takes_nobodys_turn():
    async def main(loop: Simulated) -> None:
        turns = Turns(clock=loop.time)

        async def ask() -> float:
            async with turns.turn("a.example.com") as sent:
                sent()
                return loop.time() - Simulated.Selector.now

        tasks = [asyncio.ensure_future(ask()) for _ in range(3)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        assert await tasks[2] == pytest.approx(1)

    simulate(main)


def test_hosts_that_were_asked_long_ago_are_forgotten(monkeypatch):
    monkeypatch.setattr(Turns, "SWEEP", 10)

    async def main(loop: Simulated) -> None:
        turns = Turns(clock=loop.time)
        turns.hold("held.example.com", timedelta(seconds=2))
        turns.hold("long.example.com", timedelta(seconds=99))
        for number in range(9):
            async with turns.turn(f"host{number}.example{number}.com") as sent:
                sent()
        await asyncio.sleep(5)
        async with turns.turn("last.example.org") as sent:
            sent()
            assert len(turns._hosts) == 10
        assert set(turns._hosts) == {"last.example.org"}
        assert set(turns._platforms) == {"example.org"}
        assert set(turns._holds) == {"long.example.com"}

    simulate(main)


# Retry-After.


def held(turns: Turns, host: str) -> bool:
    return turns.held(host) is not None


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def turns(clock: list[float]) -> Turns:
    return Turns(clock=lambda: clock[0])


def test_a_host_that_says_so_is_left_alone_for_so_long(turns, clock):
    turns.heard("a.wordpress.com", timedelta(seconds=60))
    assert turns.held("a.wordpress.com") == timedelta(seconds=60)
    assert turns.holds() == {"a.wordpress.com": timedelta(seconds=60)}
    assert not held(turns, "b.wordpress.com")
    clock[0] += 60
    assert not held(turns, "a.wordpress.com")
    assert turns.holds() == {}


def test_a_shorter_hold_does_not_end_a_longer_one(turns):
    turns.hold("a.example.com", timedelta(seconds=60))
    turns.hold("a.example.com", timedelta(seconds=10))
    assert turns.held("a.example.com") == timedelta(seconds=60)


@pytest.mark.parametrize(
    ("answers", "platform"),
    [
        ("a!b!c!", True),
        ("a!b!", False),  # two hosts only
        ("a!a!a!b!", False),
        ("x.y.z.a!b!c!", False),  # half, not more than half
        ("x.y.a!b!c!", True),
        ("x." * 50 + "a!b!c!d!e!f!g!h!i!j!", False),  # of the last 20, half
        ("x." * 50 + "a!b!c!d!e!f!g!h!i!j!k!", True),
        ("a!b!c!"[:4] + "x." * 20 + "c!", False),  # forgotten after 20 answers
    ],
)
def test_a_platform_is_held_once_most_of_it_is_busy(turns, answers, platform):
    for host, busy in zip(answers[::2], answers[1::2], strict=True):
        wait = timedelta(seconds=60) if busy == "!" else None
        turns.heard(f"{host}.wordpress.com", wait)
    assert held(turns, "another.wordpress.com") == platform
    assert ("*.wordpress.com" in turns.holds()) == platform
    assert not held(turns, "another.example.com")


def test_only_the_platforms_heard_of_last_are_remembered(turns, monkeypatch):
    monkeypatch.setattr(Turns, "PLATFORMS", 2)
    for host in ("a.one.com", "a.two.com", "b.one.com", "a.three.com"):
        turns.heard(host, HOUR)
    for host in ("c.one.com", "b.two.com", "c.two.com"):
        turns.heard(host, HOUR)
    # The first two answers of two.com were heard, and forgotten for three.com.
    assert held(turns, "another.one.com")
    assert not held(turns, "another.two.com")


def test_a_kept_hold_of_a_platform_holds_again(turns):
    turns.hold("*.wordpress.com", timedelta(seconds=60))
    assert held(turns, "a.wordpress.com")


def test_who_already_waits_for_a_host_is_told_too():
    async def main(loop: Simulated) -> list[Any]:
        turns = Turns(clock=loop.time)

        async def ask() -> str:
            async with turns.turn("a.example.com") as sent:
                sent()
                await asyncio.sleep(0.1)
                turns.heard("a.example.com", timedelta(hours=1))
                return "asked"

        return await asyncio.gather(*(ask() for _ in range(3)), return_exceptions=True)

    first, *others = simulate(main)
    assert first == "asked"
    for error in others:
        assert isinstance(error, Held)
        assert error.host == "a.example.com"
        assert error.remaining > timedelta(minutes=59)


def test_nobody_waits_for_a_connection_to_a_held_host():
    async def main(loop: Simulated) -> None:
        turns = Turns(Limits(host_connections=1), clock=loop.time)
        async with turns.turn("a.example.com") as sent:
            sent()
            turns.heard("a.example.com", HOUR)
            with pytest.raises(Held):
                await turns.turn("a.example.com").__aenter__()

    simulate(main)


def test_a_host_in_use_is_not_forgotten(monkeypatch):
    monkeypatch.setattr(Turns, "SWEEP", 1)

    async def main(loop: Simulated) -> None:
        turns = Turns(Limits(host_connections=1), clock=loop.time)

        async def ask(host: str, takes: float) -> float:
            async with turns.turn(host) as sent:
                sent()
                started = loop.time()
                await asyncio.sleep(takes)
                return started

        first = asyncio.ensure_future(ask("a.example.com", 10))
        await asyncio.sleep(5)
        await ask("b.example.org", 0)
        second = asyncio.ensure_future(ask("a.example.com", 0))
        assert await second - await first == pytest.approx(10)

    simulate(main)


def test_a_held_host_is_refused_at_once(turns):
    async def ask() -> None:
        async with turns.turn("a.example.com") as sent:
            sent()
            pytest.fail("asked a host that is held")

    turns.hold("a.example.com", HOUR)
    with pytest.raises(Held, match=r"a\.example\.com asked us to wait 1:00:00"):
        asyncio.run(ask())


# Schedules.


def every(gap: timedelta, count: int = 10) -> list[datetime]:
    return [NOW - gap * number for number in range(count)]


def waits(wait: Callable[[Random], datetime]) -> list[float]:
    return [(wait(Random(seed)) - NOW) / HOUR for seed in range(500)]


@pytest.mark.parametrize(
    ("newest", "low", "high"),
    [
        ([], 20.4, 24),  # never posted
        (every(timedelta(minutes=1)), 1, 1.15),
        (every(10 * HOUR), 4.5 * 0.85, 4.5 * 1.15),
        (list(reversed(every(10 * HOUR))), 4.5 * 0.85, 4.5 * 1.15),
        (every(10 * HOUR, 100), 4.5 * 0.85, 4.5 * 1.15),  # only its last ten count
        (every(30 * DAY), 20.4, 24),
        ([NOW + DAY], 1, 1.15),
        ([NOW - timedelta(hours=8)], 4 * 0.85, 4 * 1.15),
        ([NOW - 4000 * DAY], 20.4, 24),
        ([date - 4000 * DAY for date in every(HOUR)], 20.4, 24),  # fell silent
    ],
)
def test_a_feed_is_asked_about_as_often_as_it_posts(newest, low, high):
    hours = waits(
        lambda rng: politeness.next_fetch(NOW, rhythm=rhythm(newest), rng=rng),
    )
    assert min(hours) >= low - 0.001
    assert max(hours) <= high + 0.001
    assert max(hours) - min(hours) > (high - low) * 0.9  # the jitter is there


@pytest.mark.parametrize("source", ["fresh_for", "ttl"])
@pytest.mark.parametrize(
    ("says", "low", "high"),
    [
        (timedelta(minutes=5), 1, 1.15),
        (6 * HOUR, 5.1, 6.9),
        (365 * DAY, 20.4, 24),
    ],
)
def test_what_a_feed_says_of_itself_counts(source, says, low, high):
    posts = rhythm(every(timedelta(minutes=1)))
    hours = waits(
        lambda rng: politeness.next_fetch(NOW, rhythm=posts, rng=rng, **{source: says})
    )
    assert low - 0.001 <= min(hours)
    assert max(hours) <= high + 0.001
    assert max(hours) > 1.1


@pytest.mark.parametrize(
    ("failures", "hours"), [(0, 2), (1, 2), (2, 4), (3, 8), (5, 32), (7, 128)]
)
def test_failures_back_off(failures, hours):
    found = waits(lambda rng: politeness.backoff(failures, NOW, rng))
    assert hours * 0.85 - 0.001 <= min(found)
    assert max(found) <= hours * 1.15 + 0.001


@pytest.mark.parametrize("failures", [8, 9, 1000, 10**9])
def test_a_feed_is_never_abandoned(failures):
    found = waits(lambda rng: politeness.backoff(failures, NOW, rng))
    assert 168 * 0.85 - 0.001 <= min(found) <= max(found) <= 168


@pytest.mark.parametrize(
    ("no_answer", "fetched", "ours"),
    [(0, 0, False), (19, 19, False), (20, 20, True), (10, 20, False), (11, 20, True)],
)
def test_when_nobody_answers_the_fault_is_ours(no_answer, fetched, ours):
    assert politeness.our_fault(no_answer, fetched) is ours


# Moving.


def test_a_feed_moves_after_three_fetches_that_agree():
    to, times, moves = "", 0, []
    for _ in range(3):
        to, times, follow = politeness.moved(to, times, "https://new.example/")
        moves.append(follow)
    assert moves == [False, False, True]
    assert to == "https://new.example/"


@pytest.mark.parametrize("between", [None, "", "https://wifi.example/"])
def test_one_that_disagrees_starts_the_count_again(between):
    to, times = "https://new.example/", 2
    to, times, _ = politeness.moved(to, times, between)
    assert politeness.moved(to, times, "https://new.example/") == (
        "https://new.example/",
        1,
        False,
    )
