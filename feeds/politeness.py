"""Who may be asked when, per host and per platform; clocks are parameters."""

import asyncio
import heapq
import ipaddress
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, lru_cache
from random import Random
from typing import NamedTuple

from publicsuffixlist import PublicSuffixList

OFTEN = timedelta(hours=1)  # at most once in it
SELDOM = timedelta(days=1)  # at least once in it
LONGEST_BACKOFF = timedelta(days=7)
JITTER = 0.15

MOVED_AFTER = 3

# `Retry-After` is taken for a whole platform only when so many of its hosts, and
# more than half of its last answers, sent one: one busy blog must not silence the
# thousands beside it.
PLATFORM_HOSTS = 3
PLATFORM_ANSWERS = 20


class Platform(NamedTuple):
    """Who runs a host: its registrable domain by ICANN suffixes only, so that all
    of bearblog.dev counts as one. `shared`: it lets others register below it (the
    private part of the Public Suffix List)."""

    name: str
    shared: bool


@cache
def _suffixes(only_icann: bool) -> PublicSuffixList:
    return PublicSuffixList(only_icann=only_icann)


@lru_cache(maxsize=16_384)
def platform_of(host: str) -> Platform:
    """The platform of a canonical host; an address is its own."""
    host = host.removesuffix(".").lower()
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = _suffixes(only_icann=True).privatesuffix(host) or host
        return Platform(
            name,
            shared=_suffixes(only_icann=False).publicsuffix(name) == name
            and _suffixes(only_icann=True).publicsuffix(name) != name,
        )
    return Platform(host, shared=False)


@dataclass(frozen=True)
class Limits:
    """Seconds between two requests and connections at a time; a platform's are by
    default 1 s and 2, or 0.2 s and 8 where it is shared."""

    host_interval: float = 1.0
    host_connections: int = 2
    platform_interval: float | None = None
    platform_connections: int | None = None

    def of_platform(self, platform: Platform) -> tuple[float, int]:
        """Interval and connections of this platform."""
        interval, connections = (0.2, 8) if platform.shared else (1.0, 2)
        if self.platform_interval is not None:
            interval = self.platform_interval
        if self.platform_connections is not None:
            connections = self.platform_connections
        return interval, connections


class Held(Exception):
    """This host said Retry-After: do not wait for it, come back later."""

    def __init__(self, host: str, remaining: timedelta) -> None:
        super().__init__(f"{host} asked us to wait {remaining}")
        self.host, self.remaining = host, remaining


@dataclass
class _Gate:
    """Lets through `connections` at a time and one in `interval`."""

    interval: float
    connections: int
    last: float = float("-inf")
    users: int = 0
    slots: asyncio.Semaphore = field(init=False)
    queue: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.connections)


class _Line:
    """Where a request stands first in its gates, until it is on its way."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._gates: list[_Gate] = []

    async def join(self, gate: _Gate) -> None:
        if gate.interval > 0:
            await gate.queue.acquire()
            self._gates.append(gate)

    def sent(self) -> None:
        for gate in self._gates:
            gate.last = self._clock()
        self.leave()

    def leave(self) -> None:
        for gate in self._gates:
            gate.queue.release()
        self._gates.clear()


class Turns:
    """Where every request waits until its host and its platform may be asked.

    For one event loop. `heard` is told of every answer; what it holds makes `turn`
    raise `Held`, for those already waiting too. A whole platform is held under the
    name `*.platform`.
    """

    SWEEP = 1024
    PLATFORMS = 10_000  # whose last answers are remembered

    def __init__(
        self, limits: Limits | None = None, *, clock: Callable[[], float] | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._clock = clock or time.monotonic
        self._hosts: dict[str, _Gate] = {}
        self._platforms: dict[str, _Gate] = {}
        self._holds: dict[str, float] = {}
        # Tuples: a deque a platform would be 20 MB for the real list.
        self._answers: dict[str, tuple[str | None, ...]] = {}
        self._taken = 0

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[Callable[[], None]]:
        """Wait, ask inside, and let the next one go; raises `Held`.

        Gives what is to be called when the request is on its way: the next one keeps
        its distance from then. Connecting takes its time, and a host sees requests,
        not turns.
        """
        platform = platform_of(host)
        gates = self._gate(host), self._platform_gate(platform)
        for gate in gates:
            gate.users += 1
        line = _Line(self._clock)
        try:
            async with AsyncExitStack() as slots:
                await self._wait(host, platform, *gates, slots, line)
                yield line.sent
        finally:
            line.leave()
            for gate in gates:
                gate.users -= 1
            self._sweep()

    async def _wait(
        self,
        host: str,
        platform: Platform,
        host_gate: _Gate,
        platform_gate: _Gate,
        slots: AsyncExitStack,
        line: "_Line",
    ) -> None:
        self._refuse_held(host, platform)
        await slots.enter_async_context(host_gate.slots)
        # In the host's line while waiting for the platform too: else that wait would
        # eat up the distance to the host's next request.
        await line.join(host_gate)
        await self._pause(host_gate)
        await slots.enter_async_context(platform_gate.slots)
        await line.join(platform_gate)
        await self._pause(platform_gate)
        self._refuse_held(host, platform)

    async def _pause(self, gate: _Gate) -> None:
        while (wait := gate.last + gate.interval - self._clock()) > 0:
            await asyncio.sleep(wait)

    def _gate(self, host: str) -> _Gate:
        if host not in self._hosts:
            self._hosts[host] = _Gate(
                self._limits.host_interval, self._limits.host_connections
            )
        return self._hosts[host]

    def _platform_gate(self, platform: Platform) -> _Gate:
        if platform.name not in self._platforms:
            limits = self._limits.of_platform(platform)
            self._platforms[platform.name] = _Gate(*limits)
        return self._platforms[platform.name]

    def _sweep(self) -> None:
        self._taken += 1
        if self._taken % self.SWEEP:
            return
        now = self._clock()
        for gates in (self._hosts, self._platforms):
            for name in [
                name
                for name, gate in gates.items()
                if not gate.users and gate.last + gate.interval <= now
            ]:
                del gates[name]
        self._holds = {name: end for name, end in self._holds.items() if end > now}

    # Retry-After.

    def heard(self, host: str, retry_after: timedelta | None) -> None:
        """An answer of `host` came, with or without a Retry-After (429 and 503)."""
        platform = platform_of(host)
        # Taken out and put back: so the first is the one heard of longest ago.
        answers = self._answers.pop(platform.name, ())
        answers = (*answers, host if retry_after else None)[-PLATFORM_ANSWERS:]
        self._answers[platform.name] = answers
        if len(self._answers) > self.PLATFORMS:
            del self._answers[next(iter(self._answers))]
        if not retry_after:
            return
        self.hold(host, retry_after)
        busy = [answer for answer in answers if answer is not None]
        if len(set(busy)) >= PLATFORM_HOSTS and len(busy) * 2 > len(answers):
            self.hold(f"*.{platform.name}", retry_after)

    def hold(self, name: str, length: timedelta) -> None:
        """Nothing of this host (or `*.platform`) is asked for so long."""
        end = self._clock() + length.total_seconds()
        self._holds[name] = max(end, self._holds.get(name, end))

    def held(self, host: str) -> timedelta | None:
        """How long nothing of this host may be asked for; None if it may now."""
        platform = platform_of(host)
        ends = (self._holds.get(name, 0.0) for name in (host, f"*.{platform.name}"))
        left = max(ends) - self._clock()
        return timedelta(seconds=left) if left > 0 else None

    def holds(self) -> dict[str, timedelta]:
        """All that is held now: to be kept, and shown to other processes."""
        now = self._clock()
        return {
            name: timedelta(seconds=end - now)
            for name, end in self._holds.items()
            if end > now
        }

    def _refuse_held(self, host: str, platform: Platform) -> None:
        if (left := self.held(host)) is not None:
            raise Held(host, left)


class Rhythm(NamedTuple):
    """How often a feed posts: its last so many dated posts (at most 10), and the
    date of the first of them."""

    posts: int
    since: datetime | None


RECENT = 10


def rhythm(dates: Iterable[datetime]) -> Rhythm:
    """That of a feed whose posts have these dates, in any order."""
    recent = heapq.nlargest(RECENT, dates)
    return Rhythm(len(recent), recent[-1] if recent else None)


def next_fetch(
    now: datetime,
    *,
    rhythm: Rhythm,
    fresh_for: timedelta | None = None,
    ttl: timedelta | None = None,
    rng: Random,
) -> datetime:
    """When to ask again a feed that answered: 1 h to 24 h, about half of the time
    between its last posts, not before what it said of itself (`Cache-Control`,
    `Expires`; `ttl`, `sy:updatePeriod`)."""
    wait = SELDOM
    if rhythm.since is not None:
        # Until now, so that a feed that fell silent is asked less and less often.
        wait = (now - rhythm.since) / rhythm.posts / 2
    wait = max(wait, fresh_for or OFTEN, ttl or OFTEN)
    return now + _jittered(wait, SELDOM, rng)


def backoff(failures: int, now: datetime, rng: Random) -> datetime:
    """When to ask again a feed that failed `failures` (1 and up) times in a row:
    2 h, 4 h, 8 h ... a week, for ever."""
    wait = OFTEN * 2 ** min(max(failures, 1), 8)
    return now + _jittered(wait, LONGEST_BACKOFF, rng)


def _jittered(wait: timedelta, longest: timedelta, rng: Random) -> timedelta:
    wait = min(max(wait, OFTEN), longest)
    return (
        rng.uniform(
            max((1 - JITTER) * wait, OFTEN) / OFTEN,
            min((1 + JITTER) * wait, longest) / OFTEN,
        )
        * OFTEN
    )


def our_fault(no_answer: int, fetched: int) -> bool:
    """Is our own network down? More than half of at least 20 fetches got no HTTP
    answer at all: then no feed is to blame."""
    return fetched >= 20 and no_answer * 2 > fetched


class Move(NamedTuple):
    """Where a feed says it moved, how often in a row, and whether to follow now."""

    to: str
    times: int
    follow: bool


def moved(to: str, times: int, permanent_url: str | None) -> Move:
    """What is remembered of a feed's move (`to`, `times`) after one more fetch.

    A permanent redirect is stored after three fetches that agree: a hotel's wifi
    says 301 as well.
    """
    if not permanent_url:
        return Move("", 0, follow=False)
    times = times + 1 if permanent_url == to else 1
    return Move(permanent_url, times, follow=times >= MOVED_AFTER)
