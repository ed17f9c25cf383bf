"""The conductor: claim feeds, fetch many at once, store them in one place.

    due feeds -> claimed, platform by platform -> [network thread: fetch, parse]
              -> this thread: store, one short transaction a feed -> an outcome

All work with the database is done in the caller's thread, all waiting for the
network in the event loop of another: so no transaction ever waits for a publisher,
and the ORM never runs inside a loop.
"""

import asyncio
import logging
import os
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random, SystemRandom
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp.abc import AbstractResolver
from django.conf import settings
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connection,
    transaction,
)
from django.db.models import Q
from django.utils import timezone

from blacklist import domains
from feeds import feedlists, fetching, parsing, politeness, storing
from feeds.fetching import Fetched, FetchError, NotModified
from feeds.models import Entry, Feed, HeldHost
from feeds.parsing import ParsedFeed, ParseError

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

JOBS = 100
# A loader that was killed keeps its feeds from others for so long.
LEASE = timedelta(seconds=30)
# With `follow`, new feeds are looked for so often.
LOOK_AGAIN_AFTER = timedelta(seconds=5)
# Feeds claimed in one go, but for those of one platform: they are claimed together.
CLAIM = 200
# How many of the last fetches tell whether the fault is ours.
FETCHES_TO_JUDGE = 40
# When the fault is ours, a feed is asked again after 10 to 20 minutes.
POSTPONED = timedelta(minutes=10)
TRIES = 3


# Outcomes


@dataclass(frozen=True)
class Outcome:
    """What became of one feed."""

    feed: Feed


@dataclass(frozen=True)
class Loaded(Outcome):
    """It was read; so many of its entries are new, so many changed."""

    new: int
    updated: int


@dataclass(frozen=True)
class Unchanged(Outcome):
    """It said that nothing is new (304)."""


@dataclass(frozen=True)
class Failed(Outcome):
    """It could not be had or not be read; `kind` is a word to count it under."""

    reason: str
    kind: str


@dataclass(frozen=True)
class Gone(Outcome):
    """It said that it is gone for good (410); it is not asked again."""

    reason: str


@dataclass(frozen=True)
class Held(Outcome):
    """Its host asked us to come back later (`Retry-After`)."""

    until: datetime


@dataclass(frozen=True)
class Postponed(Outcome):
    """The fault is ours, not the feed's: no network, or no means to read it."""

    reason: str


@dataclass(frozen=True)
class Busy(Outcome):
    """Another loader has it."""


# What the network thread hands back.


@dataclass(frozen=True)
class _Read:
    parsed: ParsedFeed
    fetched: Fetched


@dataclass(frozen=True)
class _Unreadable:
    reason: str


@dataclass(frozen=True)
class _Broken:
    error: BaseException


_Answer = _Read | _Unreadable | _Broken | NotModified | FetchError | politeness.Held


class CannotFetch(OSError):
    """An address that gave no body; the message is one plain line."""


# One address


def fetch(url: str) -> Fetched:
    """Get one address through the guard; raises CannotFetch."""
    answer = asyncio.run(_fetch(url))
    if not isinstance(answer, Fetched):
        raise CannotFetch(getattr(answer, "reason", "it has no content"))
    return answer


def fetch_bytes(url: str) -> bytes:
    """What stands at an address; raises CannotFetch (an OSError)."""
    return fetch(url).body


async def _fetch(url: str) -> Fetched | NotModified | FetchError:
    async with _fetcher() as fetcher:
        return await fetcher.get(url, accept="*/*")


def _fetcher(**seams: Any) -> fetching.Fetcher:
    return fetching.Fetcher(
        user_agent=fetching.user_agent(settings.VERSION, settings.CONTACT),
        allow_private=settings.FEEDS_ALLOW_PRIVATE_ADDRESSES,
        proxy=settings.FEEDS_HTTP_PROXY,
        **seams,
    )


def limits() -> politeness.Limits:
    """How politely the operator wants us to ask."""
    return politeness.Limits(
        host_interval=settings.FEEDS_HOST_INTERVAL,
        host_connections=settings.FEEDS_HOST_CONNECTIONS,
        platform_interval=settings.FEEDS_PLATFORM_INTERVAL,
        platform_connections=settings.FEEDS_PLATFORM_CONNECTIONS,
    )


def read_address(url: str) -> list[feedlists.Row]:
    """The feeds an address leads to: those of a list, a feed itself, or that of a
    site. Raises CannotFetch, and FeedListError when it is none of them."""
    fetched = fetch(url)
    if feedlists.is_feed(fetched.body):
        try:
            address = feedlists.address(fetched.permanent_url or url)
        except feedlists.BadAddress as error:
            return [feedlists.BadLine(url, str(error), line=1, source=url)]
        return [feedlists.FeedSpec(address, line=1, source=url)]
    if not feedlists.is_html(fetched.body):
        return feedlists.read(fetched.body, source=url)
    for found in parsing.find_feeds(
        fetched.body, url=fetched.url, content_type=fetched.content_type
    ):
        try:
            address = feedlists.address(found)
        except feedlists.BadAddress:
            continue
        return [feedlists.FeedSpec(address, line=1, source=url)]
    reason = "no feed found: the page names none"
    return [feedlists.BadLine(url, reason, line=1, source=url)]


# The network thread


class _Network:
    """An event loop in a thread of its own, with the sockets and the parsers."""

    def __init__(self, *, resolver: AbstractResolver | None) -> None:
        self._resolver = resolver
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, name="feeds-network", daemon=True
        )
        self._thread.start()
        self._ready.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[_Answer]] = set()
        self._turns = politeness.Turns(limits())
        async with (
            _fetcher(
                resolver=self._resolver,
                turn=self._turns.turn,
                heard=self._turns.heard,
            ) as self._fetcher,
            parsing.Parsers(os.cpu_count() or 1) as self._parsers,
        ):
            self._ready.set_result(None)
            await self._stop.wait()
            await self._cancel()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    def ask(
        self, feed: Feed, answers: "queue.SimpleQueue[tuple[int, _Answer]]"
    ) -> None:
        """Fetch and parse; the answer is put into `answers`."""
        self._loop.call_soon_threadsafe(
            self._start, feed.pk, feed.url, feed.etag, feed.last_modified, answers
        )

    def cancel(self) -> None:
        """Drop all that is under way; returns once it is."""
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result(10)

    def holds(self) -> dict[str, timedelta]:
        """Who asked us to come back later, and in how long."""
        return self._call(self._turns.holds)

    def hold(self, held: dict[str, timedelta]) -> None:
        """Take over what other processes were asked."""

        def hold() -> None:
            for name, length in held.items():
                self._turns.hold(name, length)

        self._call(hold)

    def _call(self, function: Callable[[], _Result]) -> _Result:
        async def call() -> _Result:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def _start(
        self,
        pk: int,
        url: str,
        etag: str,
        last_modified: str,
        answers: "queue.SimpleQueue[tuple[int, _Answer]]",
    ) -> None:
        task = self._loop.create_task(self._get(url, etag, last_modified))
        self._tasks.add(task)

        def done(task: asyncio.Task[_Answer]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                error = task.exception()
                answers.put((pk, _Broken(error) if error else task.result()))

        task.add_done_callback(done)

    async def _get(self, url: str, etag: str, last_modified: str) -> _Answer:
        try:
            answer = await self._fetcher.get(
                url, etag=etag, last_modified=last_modified
            )
        except politeness.Held as held:
            return held
        if not isinstance(answer, Fetched):
            return answer
        try:
            parsed = await self._parsers.parse(
                answer.body,
                url=answer.url,
                content_type=answer.content_type,
                now=timezone.now(),
            )
        except ParseError as error:
            return _Unreadable(str(error))
        return _Read(parsed, replace(answer, body=b""))

    async def _cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Who is next


class _Plan:
    """What waits to be asked, by platform: so that nobody waits for the turns of
    a platform that has thousands of feeds, and a platform is claimed as one."""

    def __init__(self) -> None:
        self._limits = limits()
        self._known: set[int] = set()
        self._waiting: dict[politeness.Platform, list[int]] = {}
        self._claimed: dict[politeness.Platform, deque[Feed]] = {}
        self._asked: Counter[politeness.Platform] = Counter()
        # Platforms with a claimed feed that may be asked now.
        self._ready: dict[politeness.Platform, None] = {}

    def add(self, feeds: Iterable[tuple[int, str]]) -> None:
        """Feeds (id, address) that wait to be claimed; those known stay."""
        for pk, url in feeds:
            if pk not in self._known:
                self._known.add(pk)
                self._waiting.setdefault(_platform(url), []).append(pk)
        # The largest first: they take longest, whatever else is done beside them.
        largest = sorted(self._waiting.items(), key=lambda item: -len(item[1]))
        self._waiting = dict(largest)

    def take(self) -> list[int]:
        """Whole platforms, to be claimed: about `CLAIM` feeds or one platform."""
        ids: list[int] = []
        for platform in list(self._waiting):
            if ids and len(ids) + len(self._waiting[platform]) > CLAIM:
                break
            ids += self._waiting.pop(platform)
        return ids

    def claimed(self, feeds: Iterable[Feed]) -> None:
        """These may be asked now."""
        for feed in feeds:
            platform = _platform(feed.url)
            self._claimed.setdefault(platform, deque()).append(feed)
            self._make_ready(platform)

    def next(self) -> Feed | None:
        """A feed whose platform has a connection free, platforms taking turns."""
        if not self._ready:
            return None
        # The one that waited longest: a dict keeps the order.
        platform = next(iter(self._ready))
        del self._ready[platform]
        feed = self._claimed[platform].popleft()
        self._asked[platform] += 1
        self._make_ready(platform)
        return feed

    def done(self, feed: Feed) -> None:
        """It was answered: its platform may be asked for the next one."""
        platform = _platform(feed.url)
        self._asked[platform] -= 1
        self._make_ready(platform)

    def forget(self, pk: int) -> None:
        """It may be added again."""
        self._known.discard(pk)

    def _make_ready(self, platform: politeness.Platform) -> None:
        connections = self._limits.of_platform(platform)[1]
        if self._claimed.get(platform):
            if self._asked[platform] < connections:
                self._ready.setdefault(platform)
        elif not self._asked[platform]:
            self._claimed.pop(platform, None)
            del self._asked[platform]


def _platform(url: str) -> politeness.Platform:
    return politeness.platform_of(domains.host_of(url) or "")


# Is it us?


class _Fault:
    """Remembers the last fetches, to tell a dead network from dead feeds."""

    def __init__(self) -> None:
        self._answered: deque[bool] = deque(maxlen=FETCHES_TO_JUDGE)
        self._said = False

    def count(self, *, answered: bool) -> None:
        self._answered.append(answered)

    def is_unknown(self) -> bool:
        """Whether too few were asked to tell, and not one of them answered."""
        return len(self._answered) < FETCHES_TO_JUDGE // 2 and not any(self._answered)

    def is_ours(self) -> bool:
        """Whether nearly nobody answers; says so in the log when that changes."""
        ours = politeness.our_fault(self._answered.count(False), len(self._answered))
        if ours and not self._said:
            logger.warning(
                "Hardly any site answers: the network here seems to be down. "
                "No feed counts as failing; trying again in some minutes."
            )
        elif self._said and not ours:
            logger.warning("Sites answer again.")
        self._said = ours
        return ours


# The conductor


Feeds = Callable[[], Iterable[tuple[int, str]]]


class Loader:
    """Loads feeds; use it as `with Loader() as loader`.

    One loader keeps its connections, its parsers and its manners (who was asked
    when) over many calls of `load`.
    """

    def __init__(
        self,
        *,
        jobs: int = JOBS,
        resolver: AbstractResolver | None = None,
        rng: Random | None = None,
        lease: timedelta = LEASE,
        patient: bool = False,
    ) -> None:
        """`patient`: while too few were asked to tell, and nobody answered, it may as
        well be the network here, and no feed fails."""
        self._jobs = jobs
        self._resolver = resolver
        self._rng = rng or SystemRandom()
        self._lease = lease
        self._patient = patient
        self._network: _Network | None = None
        self._fault = _Fault()
        self._held: dict[str, datetime] = {}
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._network is not None:
            self._network.close()

    def load(
        self,
        feeds: Feeds,
        *,
        everything: bool = False,
        follow: bool = False,
        tick: Callable[[], None] = lambda: None,
    ) -> Generator[Outcome, None, None]:
        """Fetch and store the feeds (id, address) that `feeds()` gives.

        Only those that are due, or `everything` that may be asked at all. With
        `follow`, `feeds` is asked again while others are under way. `tick` is
        called about every second; what it raises ends the run cleanly. A database
        error ends it too: what was claimed is free again, or soon is by itself.
        """
        plan = _Plan()
        plan.add(feeds())
        run = _Run(self, plan, everything=everything)
        try:
            asked_at = timezone.now()
            while run.more():
                tick()
                yield from run.step()
                if follow and timezone.now() - asked_at > LOOK_AGAIN_AFTER:
                    plan.add(feeds())
                    asked_at = timezone.now()
        finally:
            run.close()

    def network(self) -> _Network:
        # Only now: a loader with nothing to do costs no process and no thread.
        if self._network is None:
            self._network = _Network(resolver=self._resolver)
        return self._network

    def check(self) -> None:
        """Raises RuntimeError when the network thread died of a mistake of ours."""
        if self._network is not None and not self._network.alive():
            raise RuntimeError("The network thread has died; start again.")

    # Who asked us to come back later.

    def take_over_holds(self) -> None:
        now = timezone.now()
        rows = HeldHost.objects.filter(until__gt=now).values_list("host", "until")
        self._held = dict(rows)
        self.network().hold({host: until - now for host, until in self._held.items()})

    def keep_holds(self) -> None:
        now = timezone.now()
        new = {
            host: now + length
            for host, length in self.network().holds().items()
            if now + length > self._held.get(host, now) + timedelta(seconds=1)
        }
        HeldHost.objects.bulk_create(
            # In one order, so that two loaders never wait for each other.
            [HeldHost(host=host, until=until) for host, until in sorted(new.items())],
            update_conflicts=True,
            unique_fields=["host"],
            update_fields=["until"],
        )
        self._held |= new

    # What becomes of an answer.

    def settle(self, feed: Feed, answer: _Answer) -> Outcome | None:
        """Write down what came of a feed; None while it is open whose fault it is."""
        match answer:
            case _Read():
                self._fault.count(answered=True)
                return self._read(feed, answer)
            case NotModified():
                self._fault.count(answered=True)
                _write(feed, self._asked_well(feed, answer, ttl=None))
                self._follow(feed, answer)
                return Unchanged(feed)
            case _Unreadable():
                self._fault.count(answered=True)
                return self.fail(feed, answer.reason, "not a feed")
            case politeness.Held():
                return self._hold(feed, answer.remaining, str(answer))
            case _Broken():
                return self._broken(feed, answer.error)
            case FetchError():
                return self._error(feed, answer)

    def _error(self, feed: Feed, answer: FetchError) -> Outcome | None:
        if answer.refused:
            return self.fail(feed, answer.reason, "refused")
        self._fault.count(answered=answer.answered)
        if not answer.answered:
            return None
        if answer.gone:
            _write(
                feed,
                {
                    "next_fetch_at": None,
                    "last_fetched_at": timezone.now(),
                    "failures": feed.failures + 1,
                    "last_error": answer.reason,
                },
            )
            return Gone(feed, answer.reason)
        if answer.retry_after:
            self.keep_holds()
            return self._hold(feed, answer.retry_after, answer.reason)
        status = answer.status or 0
        kind = f"HTTP {status}" if status >= 400 else "broken answer"
        return self.fail(feed, answer.reason, kind)

    def unanswered(self, feed: Feed, reason: str) -> Outcome:
        """Write down a fetch without an answer, now that it is clear whose fault."""
        if self._fault.is_ours() or (self._patient and self._fault.is_unknown()):
            return self._postpone(feed, reason)
        return self.fail(feed, reason, "no answer")

    def _broken(self, feed: Feed, error: BaseException) -> Outcome:
        # Once, however many feeds it costs: the log is for what is new.
        if repr(error) != self._said:
            self._said = repr(error)
            logger.error("Feed %s: %r", feed.url, error, exc_info=error)
        # No memory, no process, no file handle left: nothing to do with the feed.
        if isinstance(error, OSError):
            return self._postpone(feed, str(error))
        return self.fail(feed, "a mistake of ours, see the log", "our mistake")

    def _postpone(self, feed: Feed, reason: str) -> Postponed:
        wait = POSTPONED * self._rng.uniform(1, 2)
        _write(feed, {"next_fetch_at": timezone.now() + wait})
        return Postponed(feed, reason)

    def fail(self, feed: Feed, reason: str, kind: str) -> Failed:
        now = timezone.now()
        failures = feed.failures + 1
        _write(
            feed,
            {
                "last_fetched_at": now,
                "next_fetch_at": politeness.backoff(failures, now, self._rng),
                "failures": failures,
                "last_error": reason,
            },
        )
        return Failed(feed, reason, kind)

    def _hold(self, feed: Feed, remaining: timedelta, reason: str) -> Held:
        until = timezone.now() + remaining
        _write(feed, {"next_fetch_at": until, "last_error": reason})
        return Held(feed, until)

    def _read(self, feed: Feed, answer: _Read) -> Outcome:
        try:
            stored = self._store(feed, answer)
        except (OperationalError, InterfaceError):
            raise
        # What a database refuses to hold (NUL, too long, ...) is this feed's own
        # failure; so is that somebody deleted it meanwhile.
        except (DatabaseError, Feed.DoesNotExist, ValueError) as error:
            logger.warning("Feed %s cannot be stored: %s", feed.url, error)
            return self.fail(feed, "its content cannot be stored", "not storable")
        self._follow(feed, answer.fetched)
        return Loaded(feed, stored.new, stored.updated)

    def _store(self, feed: Feed, answer: _Read) -> storing.Stored:
        for left in reversed(range(TRIES)):
            try:
                with transaction.atomic():
                    stored = storing.store(feed, answer.parsed, timezone.now())
                    ttl = answer.parsed.ttl
                    _write(feed, self._asked_well(feed, answer.fetched, ttl=ttl))
                    stored.tell()
                return stored
            # On PostgreSQL two feeds with the same posts may wait for each other.
            except OperationalError:
                if not left:
                    raise
        raise AssertionError

    def _asked_well(
        self, feed: Feed, answer: Fetched | NotModified, *, ttl: timedelta | None
    ) -> dict[str, object]:
        now = timezone.now()
        dates = Entry.objects.filter(feed=feed, published_at__isnull=False)
        newest = dates.order_by("-published_at").values_list("published_at", flat=True)
        move = politeness.moved(feed.moved_to, feed.moved_times, answer.permanent_url)
        return {
            "last_fetched_at": now,
            "next_fetch_at": politeness.next_fetch(
                now,
                newest=[date for date in newest[:10] if date],
                fresh_for=answer.fresh_for,
                ttl=ttl,
                rng=self._rng,
            ),
            "failures": 0,
            "last_error": "",
            "etag": answer.etag,
            "last_modified": answer.last_modified,
            "moved_to": move.to if len(move.to) <= feedlists.URL_LIMIT else "",
            "moved_times": move.times,
        }

    def _follow(self, feed: Feed, answer: Fetched | NotModified) -> None:
        move = politeness.moved(feed.moved_to, feed.moved_times, answer.permanent_url)
        if move.follow:
            try:
                address = feedlists.address(move.to)
            except feedlists.BadAddress:
                return
            storing.move(feed, address, now=timezone.now())


def _write(feed: Feed, values: dict[str, object]) -> None:
    if "last_error" in values:
        reason = str(values["last_error"])
        values["last_error"] = " ".join(reason.replace("\0", " ").split())[:500]
    row = Feed.objects.filter(pk=feed.pk)
    # What came from an address that an operator has changed meanwhile says nothing
    # of the new one.
    if not row.filter(url=feed.url).update(claimed_until=None, **values):
        row.update(claimed_until=None)


@transaction.atomic
def _claim_until(ids: list[int], until: datetime | None) -> None:
    feeds = Feed.objects.filter(pk__in=ids)
    storing.lock(feeds)
    feeds.update(claimed_until=until)


class _Run:
    """One call of `Loader.load`: what it has claimed, and what is still open."""

    def __init__(self, loader: Loader, plan: _Plan, *, everything: bool) -> None:
        self._loader, self._plan, self._everything = loader, plan, everything
        self._answers: queue.SimpleQueue[tuple[int, _Answer]] = queue.SimpleQueue()
        self._claimed: dict[int, Feed] = {}
        self._asked: set[int] = set()
        # No answer, and it is not clear yet whose fault that is.
        self._unanswered: list[tuple[Feed, str]] = []
        # Feeds another loader has, and until when it may be dead for all we know.
        self._busy: dict[int, datetime] = {}
        self._renewed_at = timezone.now()
        self._started = False

    def more(self) -> bool:
        """Ask for as much as is allowed; False when all is done."""
        while len(self._asked) < self._loader._jobs:
            feed = self._plan.next()
            if feed is not None:
                self._asked.add(feed.pk)
                self._loader.network().ask(feed, self._answers)
            elif not self._claim(self._plan.take()):
                break
        return bool(self._asked or self._unanswered or self._busy)

    def step(self) -> Iterator[Outcome]:
        """Wait for one answer, at most a second, and settle what can be settled."""
        yield from self._settle_one()
        self._renew()
        if len(self._unanswered) >= FETCHES_TO_JUDGE // 2 or not self._asked:
            yield from self._settle_unanswered()
        if not self._asked and self._busy:
            yield from self._try_busy()

    def close(self) -> None:
        """Free what was claimed and not settled."""
        if self._asked:
            self._loader.network().cancel()
        for chunk in storing.chunks(self._claimed):
            _claim_until(chunk, None)

    def _claim(self, ids: list[int]) -> bool:
        if ids and not self._started:
            self._loader.take_over_holds()
            self._started = True
        for chunk in storing.chunks(ids):
            feeds = self._claim_chunk(chunk)
            self._claimed |= {feed.pk: feed for feed in feeds}
            self._plan.claimed(feeds)
            self._note_busy(set(chunk) - {feed.pk for feed in feeds})
        return bool(ids)

    @transaction.atomic
    def _claim_chunk(self, ids: list[int]) -> list[Feed]:
        now = timezone.now()
        feeds = Feed.objects.may_be_asked(now, due=not self._everything)
        feeds = feeds.filter(
            Q(claimed_until=None) | Q(claimed_until__lte=now), pk__in=ids
        )
        if connection.features.has_select_for_update_skip_locked:
            feeds = feeds.select_for_update(skip_locked=True)
        claimed = list(feeds)
        Feed.objects.filter(pk__in=[feed.pk for feed in claimed]).update(
            claimed_until=now + self._loader._lease
        )
        return claimed

    def _note_busy(self, ids: set[int]) -> None:
        now = timezone.now()
        feeds = Feed.objects.may_be_asked(now, due=not self._everything)
        busy = set(
            feeds.filter(pk__in=ids, claimed_until__gt=now).values_list("pk", flat=True)
        )
        for pk in ids - busy:
            self._busy.pop(pk, None)
            self._plan.forget(pk)
        for pk in busy:
            self._busy.setdefault(pk, now + self._loader._lease)

    def _renew(self) -> None:
        now = timezone.now()
        if now - self._renewed_at < self._loader._lease / 3:
            return
        self._renewed_at = now
        for chunk in storing.chunks(list(self._claimed)):
            _claim_until(chunk, now + self._loader._lease)

    def _settle_one(self) -> Iterator[Outcome]:
        wait = 1 if self._asked or self._busy else 0
        try:
            pk, answer = self._answers.get(timeout=wait)
        except queue.Empty:
            self._loader.check()
            return
        feed = self._claimed[pk]
        self._asked.discard(pk)
        self._plan.done(feed)
        outcome = self._loader.settle(feed, answer)
        if outcome is None and isinstance(answer, FetchError):
            self._unanswered.append((feed, answer.reason))
        elif outcome is not None:
            self._forget(feed)
            yield outcome

    def _settle_unanswered(self) -> Iterator[Outcome]:
        while self._unanswered:
            feed, reason = self._unanswered.pop()
            outcome = self._loader.unanswered(feed, reason)
            self._forget(feed)
            yield outcome

    def _forget(self, feed: Feed) -> None:
        del self._claimed[feed.pk]
        self._plan.forget(feed.pk)

    def _try_busy(self) -> Iterator[Outcome]:
        # Whoever had them may have been killed: its claim then ends by itself.
        now = timezone.now()
        self._claim(list(self._busy))
        for pk in self._claimed:
            self._busy.pop(pk, None)
        over = [
            pk for pk, end in self._busy.items() if end + timedelta(seconds=1) < now
        ]
        for feed in Feed.objects.filter(pk__in=over):
            yield Busy(feed)
        for pk in over:
            del self._busy[pk]
