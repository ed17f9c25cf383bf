"""The network thread: an event loop of its own, with all sockets and all parsers.

What it is asked and what it has to say are messages, so that the thread that works
with the database never waits for a publisher, nor this one for the database.
"""

import asyncio
import ctypes
import gc
import os
import queue
import resource
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeVar

from aiohttp.abc import AbstractResolver
from django.conf import settings
from django.utils import timezone

from feeds import fetching, niceness, parsing, politeness
from feeds.fetching import Fetched, FetchError, NotModified
from feeds.parsing import ParsedFeed, ParseError

_Result = TypeVar("_Result")

# Bytes of all bodies that are held at once, and of those what every fetch is sure of.
ROOM, ROOM_OF_A_FETCH = 32 * 1024 * 1024, 16 * 1024
# Seconds that a redirect waits for a platform that another loader has.
PATIENCE = 10.0


def limits() -> politeness.Limits:
    """How politely the operator wants us to ask."""
    return politeness.Limits(
        host_interval=settings.FEEDS_HOST_INTERVAL,
        host_connections=settings.FEEDS_HOST_CONNECTIONS,
        platform_interval=settings.FEEDS_PLATFORM_INTERVAL,
        platform_connections=settings.FEEDS_PLATFORM_CONNECTIONS,
    )


@dataclass(frozen=True)
class Address:
    """What is asked for; `key` is whoever asks."""

    key: int
    url: str
    etag: str = ""
    last_modified: str = ""
    parse: bool = True  # else the body is what is wanted


# What it says.


@dataclass(frozen=True)
class Read:
    """A feed that could be read; the body is no longer in `fetched`."""

    parsed: ParsedFeed
    fetched: Fetched


@dataclass(frozen=True)
class Unreadable:
    """An answer that is no feed."""

    reason: str


@dataclass(frozen=True)
class Taken:
    """A redirect led to a platform that another loader is asking."""

    reason: str


@dataclass(frozen=True)
class Broken:
    """A mistake of ours, or nothing left to work with (OSError)."""

    error: BaseException


Answer = (
    Read
    | Unreadable
    | Taken
    | Broken
    | Fetched
    | NotModified
    | FetchError
    | politeness.Held
)


@dataclass(frozen=True)
class Answered:
    """The one answer to an `Address`."""

    key: int
    answer: Answer


@dataclass(frozen=True)
class Wanted:
    """A redirect leads to a platform that is not ours, and waits until it is; said
    every second."""

    platform: str


@dataclass(frozen=True)
class LetGo:
    """Nothing more is asked of this platform."""

    platform: str


Message = Answered | Wanted | LetGo


class _TakenError(Exception):
    pass


class Network:
    """Asks what it is given, of the platforms it may ask; says what came of it.

    All methods may be called from another thread; they do not wait for the network.
    """

    def __init__(
        self,
        messages: "queue.SimpleQueue[Message]",
        *,
        resolver: AbstractResolver | None = None,
        caps: fetching.Caps | None = None,
    ) -> None:
        self._messages = messages
        self._resolver = resolver
        self._caps = caps
        # Platforms we may ask, those of them to be let go once nobody uses them,
        # and how many do.
        self._ours: set[str] = set()
        self._ending: set[str] = set()
        self._users: Counter[str] = Counter()
        # Platforms that a redirect waits for, and when we last said so.
        self._wanted: dict[str, float] = {}
        self._until = 0.0
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, name="feeds-network", daemon=True
        )
        self._thread.start()
        self._ready.result()

    # From outside.

    def check(self) -> None:
        """Raises RuntimeError when the thread died of a mistake of ours."""
        if not self._thread.is_alive():
            raise RuntimeError("The network thread has died; start again.")

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    def ask(self, addresses: Iterable[Address]) -> None:
        """Fetch these; each gets one `Answered`."""
        self._loop.call_soon_threadsafe(self._start, list(addresses))

    def cancel(self) -> None:
        """Drop all that is under way; returns once it is."""
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result(10)

    def own(self, platforms: Iterable[str]) -> None:
        """These may be asked, too."""
        self._loop.call_soon_threadsafe(self._own, list(platforms))

    def keep(self, until: float) -> None:
        """All that are ours may be asked until then (`time.monotonic`)."""

        def keep() -> None:
            self._until = until

        self._loop.call_soon_threadsafe(keep)

    def end(self, platforms: Iterable[str]) -> None:
        """Ask nothing more of these than is under way; each then gets a `LetGo`."""
        self._loop.call_soon_threadsafe(self._end, list(platforms))

    def lose(self, platforms: Iterable[str]) -> None:
        """These are ours no more."""
        names = set(platforms)

        def lose() -> None:
            self._ours -= names
            self._ending -= names

        self._loop.call_soon_threadsafe(lose)

    def holds(self) -> dict[str, timedelta]:
        """Who asked us to come back later, and in how long."""
        return self._call(self._turns.holds)

    def hold(self, held: dict[str, timedelta]) -> None:
        """Take over what other loaders were asked."""

        def hold() -> None:
            for name, length in held.items():
                self._turns.hold(name, length)

        self._loop.call_soon_threadsafe(hold)

    def _call(self, function: Callable[[], _Result]) -> _Result:
        async def call() -> _Result:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    # Inside.

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _main(self) -> None:
        # And the parsers: whoever reads or votes goes first. The thread that writes
        # does not give way, since others wait for the lock it holds.
        niceness.slow_thread()
        _open_many_files()
        _return_memory()
        # What is there by now stays. Without it the collector looks at what is new
        # more often, and finds sooner what failures left behind.
        gc.freeze()
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = politeness.Turns(limits())
        self._room = fetching.Room(ROOM)
        async with (
            fetching.Fetcher(
                user_agent=fetching.user_agent(settings.VERSION, settings.CONTACT),
                allow_private=settings.FEEDS_ALLOW_PRIVATE_ADDRESSES,
                proxy=settings.FEEDS_HTTP_PROXY,
                resolver=self._resolver,
                turn=self._turn,
                heard=self._turns.heard,
                caps=self._caps,
            ) as self._fetcher,
            parsing.Parsers(os.cpu_count() or 1) as self._parsers,
        ):
            self._ready.set_result(None)
            await self._stop.wait()
            await self._cancel()

    def _start(self, addresses: list[Address]) -> None:
        for address in addresses:
            task = self._loop.create_task(self._answer(address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, address: Address) -> None:
        answer: Answer
        try:
            answer = await self._get(address)
        except politeness.Held as held:
            answer = held
        except _TakenError as taken:
            answer = Taken(str(taken))
        except ParseError as error:
            answer = Unreadable(str(error))
        # Else whoever asked would wait for ever.
        except Exception as error:  # noqa: BLE001
            answer = Broken(error)
        self._messages.put(Answered(address.key, answer))

    async def _get(self, address: Address) -> Answer:
        async with self._room.share(ROOM_OF_A_FETCH) as share:
            answer = await self._fetcher.get(
                address.url,
                etag=address.etag,
                last_modified=address.last_modified,
                accept=fetching.ACCEPT_FEEDS if address.parse else "*/*",
                share=share,
            )
            if not isinstance(answer, Fetched) or not address.parse:
                return answer
            parsed = await self._parsers.parse(
                answer.body,
                url=answer.url,
                content_type=answer.content_type,
                now=timezone.now(),
            )
            return Read(parsed, replace(answer, body=b""))

    async def _cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Whose turn it is, and whether we may ask at all.

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[Callable[[], None]]:
        platform = politeness.platform_of(host).name
        # Before anything else: now it is not let go any more.
        self._users[platform] += 1
        try:
            while True:
                await self._borrow(platform)
                async with self._turns.turn(host) as sent:
                    if self._may_ask(platform):
                        yield sent
                        return
                # Our claims have not been renewed in time: others may take over.
                await asyncio.sleep(0.05)
        finally:
            self._users[platform] -= 1
            self._let_go_unused(platform)

    async def _borrow(self, platform: str) -> None:
        if platform in self._ours:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                while platform not in self._ours:
                    self._want(platform)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise _TakenError(f"another loader is asking {platform}") from None

    def _want(self, platform: str) -> None:
        now = self._loop.time()
        if self._wanted.get(platform, 0.0) <= now - 1:
            self._wanted[platform] = now
            self._messages.put(Wanted(platform))

    def _may_ask(self, platform: str) -> bool:
        return platform in self._ours and self._loop.time() < self._until

    def _own(self, platforms: list[str]) -> None:
        self._ours.update(platforms)
        self._ending.difference_update(platforms)
        for platform in platforms:
            self._wanted.pop(platform, None)

    def _end(self, platforms: list[str]) -> None:
        self._ending.update(platforms)
        for platform in platforms:
            self._let_go_unused(platform)

    def _let_go_unused(self, platform: str) -> None:
        if self._users[platform] > 0:
            return
        del self._users[platform]
        if platform in self._ending:
            self._ending.discard(platform)
            self._ours.discard(platform)
            self._messages.put(LetGo(platform))


def _return_memory() -> None:
    # glibc takes a large block that was freed for a reason to keep the next ones, in
    # heaps that other blocks then hold open: a fifth more memory, beside hostile
    # feeds. Fixed values switch that off.
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for setting, value in _MALLOC.items():
            mallopt(setting, value)


# M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX of glibc's malloc.h.
_MALLOC: Final = {-1: 128 * 1024, -3: 128 * 1024, -8: 2}


def _open_many_files() -> None:
    # Every request is an open file, and 1,024 is what many systems begin with.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
