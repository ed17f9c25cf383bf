"""The conductor: claim platforms, ask for many feeds at once, store in one place.

    due feeds -> platforms claimed -> [network thread: fetch, parse]
              -> this thread: store, some feeds a short transaction -> outcomes

All work with the database is done in the caller's thread, all waiting for the
network in the event loop of another: so no transaction ever waits for a publisher,
and the ORM never runs inside a loop.
"""

import logging
import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random, SystemRandom
from types import TracebackType
from typing import Self

from aiohttp.abc import AbstractResolver
from django.db import (
    DatabaseError,
    Error,
    InterfaceError,
    OperationalError,
    connection,
)
from django.utils import timezone

from blacklist import domains
from feeds import asking, claiming, feedlists, fetching, parsing, politeness, storing
from feeds.fetching import Caps, Fetched, FetchError, NotModified
from feeds.models import Feed
from feeds.planning import Plan, Waiting
from feeds.politeness import Platform, Rhythm

logger = logging.getLogger(__name__)

# A request to a hostile host holds a tenth of a megabyte, bodies not counted.
JOBS = 300
# With `follow`, new feeds are looked for so often.
LOOK_AGAIN_AFTER = timedelta(seconds=5)
# Answers that are settled together: at most so many, or those of so many seconds
# while as many are under way. Each transaction has its price.
SETTLED_AT_ONCE = 100
COLLECTED_FOR = 0.1
# How many fetches, asked for just before and just after, tell whether the fault is
# ours.
FETCHES_TO_JUDGE = 40
# When the fault is ours, a feed is asked again after 10 to 20 minutes.
POSTPONED = timedelta(minutes=10)
TRIES = 3
# A list of hundreds of thousands of domains is larger than any feed.
LISTS = Caps(body=10 * 1024 * 1024)


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
    """No fault of the feed: no network, no means to read it, or another loader is
    where it leads."""

    reason: str


@dataclass(frozen=True)
class Left(Outcome):
    """It was not asked: another loader has it or had it, or it is due no more."""

    reason: str


# One address


class CannotFetch(OSError):
    """An address that gave no body; the message is one plain line.

    With `wait` it is not the address's fault, or it asked us to come back later.
    """

    def __init__(self, reason: str, wait: timedelta | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch_bytes(url: str) -> bytes:
    """What stands at an address; raises CannotFetch (an OSError)."""
    with Loader(caps=LISTS) as loader:
        return loader.fetch(url).body


def fetch_if_changed(url: str, etag: str, last_modified: str) -> Fetched | None:
    """What stands at an address, None if it is what it was; raises CannotFetch."""
    with Loader(caps=LISTS) as loader:
        answer = loader.ask(url, etag=etag, last_modified=last_modified)
    if isinstance(answer, NotModified):
        return None
    return _fetched(answer)


def _fetched(answer: asking.Answer) -> Fetched:
    match answer:
        case Fetched():
            return answer
        case politeness.Held():
            raise CannotFetch(str(answer), answer.remaining)
        case asking.Taken():
            raise CannotFetch(answer.reason, timedelta(minutes=1))
        case FetchError():
            reason = answer.reason
            if reason.endswith(fetching.NOT_PUBLIC):
                reason += " (FEEDS_ALLOW_PRIVATE_ADDRESSES=true would allow it)"
            raise CannotFetch(reason, answer.retry_after)
    raise CannotFetch(getattr(answer, "reason", str(answer)))


# Is it us?


class _Fault:
    """Tells a dead network from dead feeds: by what became of those that were asked
    for about the same time. Not of the last answers: at the end of a run only those
    are left that never answer."""

    def __init__(self) -> None:
        self._asked = 0
        self._open: set[int] = set()
        self._answered: dict[int, bool] = {}
        self._said = False

    def ask(self) -> int:
        """A number for a fetch that begins."""
        self._asked += 1
        self._open.add(self._asked)
        return self._asked

    def hear(self, number: int, *, answered: bool | None) -> None:
        """What became of it; None: it says nothing of the network."""
        self._open.discard(number)
        if answered is not None:
            self._answered[number] = answered
        oldest = min(self._open, default=self._asked) - FETCHES_TO_JUDGE
        while self._answered and (first := next(iter(self._answered))) < oldest:
            del self._answered[first]

    def judge(self, number: int, *, patient: bool) -> bool | None:
        """Whether it is our fault that this one had no answer; None: wait and see."""
        near = range(number - FETCHES_TO_JUDGE // 2, number + FETCHES_TO_JUDGE // 2)
        if not self._open.isdisjoint(near):
            return None
        told = [self._answered[one] for one in near if one in self._answered]
        ours = politeness.our_fault(told.count(False), len(told))
        if patient and len(told) < FETCHES_TO_JUDGE // 2:
            ours = not any(told)
        self._tell(ours and len(told) >= FETCHES_TO_JUDGE // 2, again=any(told))
        return ours

    def _tell(self, ours: bool, *, again: bool) -> None:
        if ours and not self._said:
            logger.warning(
                "Hardly any site answers: the network here seems to be down. "
                "No feed counts as failing; trying again in some minutes."
            )
        elif self._said and not ours and again:
            logger.info("Sites answer again.")
        self._said = ours or (self._said and not again)


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
        lease: timedelta = claiming.LEASE,
        patient: bool = False,
        caps: Caps | None = None,
    ) -> None:
        """`patient`: while too few were asked to tell, and nobody answered, it may as
        well be the network here, and no feed fails."""
        self.jobs = jobs
        self._limits = asking.limits()
        self._resolver = resolver
        self._caps = caps
        self._rng = rng or SystemRandom()
        self._patient = patient
        self._messages: queue.SimpleQueue[asking.Message] = queue.SimpleQueue()
        self._network: asking.Network | None = None
        self._claims = claiming.Claims(lease)
        self._renewed_at = float("-inf")
        self._plan = self._new_plan()
        self.fault = _Fault()
        # Platforms that another loader has, or had when it was killed.
        self.busy = 0
        self._let_go: list[str] = []
        self._held: dict[str, datetime] = {}
        self._held_at = float("-inf")
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
        wanted: Callable[[], Iterable[int]] = tuple,
        everything: bool = False,
        follow: bool = False,
        tick: Callable[[], None] = lambda: None,
    ) -> Generator[Outcome, None, None]:
        """Fetch and store the feeds (id, address) that `feeds()` gives.

        Only those that are due, or `everything` that may be asked at all; those of
        `wanted()` first. With `follow`, both are asked again while others are under
        way. `tick` is called about every second, and more often; what it raises ends
        the run cleanly. A database error ends it too: what was claimed is free again,
        or soon is by itself.
        """
        self._plan = plan = self._new_plan()
        run = _Run(self, plan, everything=everything)
        asked_at = None
        try:
            while True:
                now = timezone.now()
                if asked_at is None or (follow and now - asked_at > LOOK_AGAIN_AFTER):
                    plan.add(feeds())
                    plan.prefer(wanted())
                    asked_at = now
                if not run.more():
                    break
                tick()
                yield from run.step()
        except BaseException:
            # Where it was cut off in the middle of a statement, what is cleaned up on
            # that connection would fail, and hide why we end. Not closed if it is
            # good: what still reads from it would complain.
            if connection.connection is not None and not connection.is_usable():
                connection.close()
            with suppress(Error):
                self.stop_asking()
            raise
        self.stop_asking()

    def waiting(self) -> list[Waiting]:
        """What nobody asked yet, by platform, that which takes longest first."""
        return self._plan.waiting()

    def fetch(self, url: str) -> Fetched:
        """Get one address, as politely as all others; raises CannotFetch."""
        return _fetched(self.ask(url))

    def ask(
        self, url: str, *, etag: str = "", last_modified: str = ""
    ) -> asking.Answer:
        """What one address answers, asked as politely as all others."""
        self.keep_claims()
        self.take_over_holds()
        address = asking.Address(0, url, etag, last_modified, parse=False)
        self.network().ask([address])
        try:
            return self._wait_for_one()
        finally:
            self.stop_asking()

    def _wait_for_one(self) -> asking.Answer:
        while True:
            message = self.receive(min(1.0, self.lease / 8))
            if isinstance(message, asking.Answered):
                return message.answer
            if message is not None:
                self.attend(message)
            self.keep_claims()

    def read_address(self, url: str) -> list[feedlists.Row]:
        """The feeds an address leads to: those of a list, a feed itself, or that of a
        site. Raises CannotFetch, and FeedListError when it is none of them."""
        fetched = self.fetch(url)
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

    def network(self) -> asking.Network:
        # Only now: a loader with nothing to do costs no process and no thread.
        if self._network is None:
            self._network = asking.Network(
                self._messages, resolver=self._resolver, caps=self._caps
            )
        return self._network

    def _new_plan(self) -> Plan:
        return Plan(self._limits, _platform)

    # Claims.

    @property
    def lease(self) -> float:
        """Seconds."""
        return self._claims.lease.total_seconds()

    def claim(self, names: Sequence[str]) -> set[str]:
        """Claim platforms; those that are ours and may be asked now."""
        self.keep_claims()
        self.take_over_holds()
        mine = self._claims.take(names)
        self.network().own(mine)
        return mine

    def keep_claims(self) -> None:
        """Renew what we have in good time; what came too late is lost."""
        now = time.monotonic()
        if now - self._renewed_at < self.lease / 4:
            return
        lost = self._claims.renew()
        self._renewed_at = now
        self.network().lose(lost)
        self.network().keep(now + self.lease / 2)
        self._plan.lose(lost)

    # What the network has to say.

    def receive(self, seconds: float) -> asking.Message | None:
        """The next message, waited for at most so long."""
        try:
            return self._messages.get(timeout=seconds)
        except queue.Empty:
            self.network().check()
            return None

    def attend(self, message: asking.Wanted | asking.LetGo) -> None:
        """Lend it a platform, or take one back."""
        match message:
            case asking.Wanted(name):
                if self.claim([name]) and name not in self._plan:
                    self.network().end([name])
            case asking.LetGo(name):
                # Unless it came into the plan again meanwhile.
                if name not in self._plan:
                    self._let_go.append(name)

    def give_back_unused(self, finished: Sequence[str]) -> None:
        """Let others have what the network thread has let go of; and have it let go
        of the platforms nothing is left of."""
        if finished:
            self.network().end(finished)
        if self._let_go:
            names, self._let_go = self._let_go, []
            self._give_back(names)

    def stop_asking(self) -> None:
        """Drop all that is under way, and give all platforms back."""
        if self._network is None:
            return
        self._network.cancel()
        names = self._claims.names
        self._network.lose(names)
        self._let_go = []
        # Nothing of it concerns whoever comes next.
        while self.receive(0) is not None:
            pass
        self._give_back(names)

    def _give_back(self, names: Iterable[str]) -> None:
        # Not at once: they may have been asked just now.
        pauses = {}
        for name in names:
            interval, _ = self._limits.of_platform(politeness.platform_of(name))
            pause = max(interval, self._limits.host_interval)
            pauses[name] = timedelta(seconds=pause)
        self._claims.give_back(pauses)

    # Who asked us to come back later.

    def take_over_holds(self) -> None:
        if time.monotonic() - self._held_at < 1:
            return
        self._held_at, now = time.monotonic(), timezone.now()
        self._held = claiming.holds(now)
        self.network().hold({name: end - now for name, end in self._held.items()})

    def keep_holds(self) -> None:
        now = timezone.now()
        new = {
            name: now + length
            for name, length in self.network().holds().items()
            if now + length > self._held.get(name, now) + timedelta(seconds=1)
        }
        claiming.keep_holds(new)
        self._held |= new

    # What becomes of answers.

    def settle(
        self, answers: Iterable[tuple[Feed, asking.Answer]]
    ) -> Iterator[Outcome]:
        """Write down what came of feeds, but for those that nobody answered."""
        now = timezone.now()
        reads: list[tuple[Feed, asking.Read]] = []
        changes: list[_Change] = []
        for feed, answer in answers:
            if isinstance(answer, asking.Read):
                reads.append((feed, answer))
            else:
                changes.append(self._change(feed, answer, now))
        if any(isinstance(change.outcome, Held) for change in changes):
            self.keep_holds()
        yield from self.write(changes)
        for batch in _batches(reads):
            yield from self._store(batch)

    def write(self, changes: Sequence["_Change"]) -> Iterator[Outcome]:
        """Write down what became of feeds that brought nothing to store."""
        for chunk in storing.chunks(changes):
            with storing.giving_way():
                storing.record(change.feed for change in chunk)
            for change in chunk:
                self._follow(change)
                yield change.outcome

    def _change(self, feed: Feed, answer: asking.Answer, now: datetime) -> "_Change":
        match answer:
            case NotModified():
                after = self._asked_well(feed, answer, now, rhythm=_rhythm(feed))
                return _Change(after, Unchanged(after), answer.permanent_url)
            case asking.Unreadable():
                return self.failed(feed, answer.reason, "not a feed", now)
            case politeness.Held():
                return _held(feed, answer.remaining, str(answer), now)
            case asking.Taken():
                return self.postponed(feed, answer.reason, now)
            case asking.Broken():
                return self._broken(feed, answer.error, now)
            case FetchError():
                return self._error(feed, answer, now)
        raise AssertionError(answer)

    def _error(self, feed: Feed, answer: FetchError, now: datetime) -> "_Change":
        if answer.refused:
            return self.failed(feed, answer.reason, "not allowed", now)
        if answer.gone:
            after = _failing(feed, answer.reason, now)
            after.next_fetch_at = None
            return _Change(after, Gone(after, answer.reason))
        if answer.retry_after:
            return _held(feed, answer.retry_after, answer.reason, now)
        status = answer.status or 0
        kind = f"HTTP {status}" if status >= 400 else "broken answer"
        return self.failed(feed, answer.reason, kind, now)

    def unanswered(self, feed: Feed, number: int, reason: str) -> "_Change | None":
        """What becomes of a fetch without an answer; None: it is not clear yet."""
        ours = self.fault.judge(number, patient=self._patient)
        if ours is None:
            return None
        if ours:
            return self.postponed(feed, reason, timezone.now())
        return self.failed(feed, reason, "no answer", timezone.now())

    def _broken(self, feed: Feed, error: BaseException, now: datetime) -> "_Change":
        # Once, however many feeds it costs: the log is for what is new.
        if repr(error) != self._said:
            self._said = repr(error)
            logger.error("Feed %s: %r", feed.url, error, exc_info=error)
        # No memory, no process, no file handle left: nothing to do with the feed.
        if isinstance(error, OSError):
            return self.postponed(feed, str(error), now)
        return self.failed(feed, "a mistake of ours, see the log", "our mistake", now)

    def postponed(self, feed: Feed, reason: str, now: datetime) -> "_Change":
        after = copy(feed)
        after.next_fetch_at = now + POSTPONED * self._rng.uniform(1, 2)
        after.fetch_wanted_at = None
        after.last_error = _line(f"put off, not its fault: {reason}")
        return _Change(after, Postponed(after, reason))

    def failed(self, feed: Feed, reason: str, kind: str, now: datetime) -> "_Change":
        after = _failing(feed, reason, now)
        after.next_fetch_at = politeness.backoff(after.failures, now, self._rng)
        return _Change(after, Failed(after, reason, kind))

    def _store(self, batch: Sequence["_Incoming"]) -> Iterator[Outcome]:
        try:
            changes = self._store_at_once(batch)
        except (OperationalError, InterfaceError):
            raise
        # What a database refuses to hold (NUL, too long, ...) is one feed's own
        # failure; so is that somebody deleted it meanwhile.
        except (DatabaseError, ValueError) as error:
            if len(batch) > 1:
                for one in batch:
                    yield from self._store([one])
                return
            feed = batch[0].feed
            logger.warning("Feed %s cannot be stored: %s", feed.url, error)
            reason = "its content cannot be stored"
            failed = self.failed(feed, reason, "not storable", timezone.now())
            yield from self.write([failed])
            return
        for change in changes:
            self._follow(change)
            yield change.outcome

    def _store_at_once(self, batch: Sequence["_Incoming"]) -> list["_Change"]:
        for left in reversed(range(TRIES)):
            try:
                with storing.giving_way():
                    return self._stored(batch, timezone.now())
            # On PostgreSQL two loaders with the same posts may wait for each other.
            except OperationalError:
                if not left:
                    raise
        raise AssertionError

    def _stored(self, batch: Sequence["_Incoming"], now: datetime) -> list["_Change"]:
        stored = storing.store([one.prepared for one in batch], now)
        rhythms = storing.rhythms(
            one.feed.pk
            for one, done in zip(batch, stored, strict=True)
            if done.new or done.updated or not one.feed.recent_posts
        )
        changes = []
        for one, done in zip(batch, stored, strict=True):
            after = self._asked_well(
                one.feed,
                one.fetched,
                now,
                rhythm=rhythms.get(one.feed.pk) or _rhythm(one.feed),
                ttl=one.prepared.parsed.ttl,
            )
            outcome = Loaded(after, done.new, done.updated)
            changes.append(_Change(after, outcome, one.fetched.permanent_url))
        storing.record(change.feed for change in changes)
        storing.tell(stored)
        return changes

    def _asked_well(
        self,
        feed: Feed,
        answer: Fetched | NotModified,
        now: datetime,
        *,
        rhythm: Rhythm,
        ttl: timedelta | None = None,
    ) -> Feed:
        move = politeness.moved(feed.moved_to, feed.moved_times, answer.permanent_url)
        after = copy(feed)
        after.last_fetched_at = now
        after.next_fetch_at = politeness.next_fetch(
            now, rhythm=rhythm, fresh_for=answer.fresh_for, ttl=ttl, rng=self._rng
        )
        after.fetch_wanted_at = None
        after.failures, after.last_error = 0, ""
        after.etag, after.last_modified = answer.etag, answer.last_modified
        after.moved_to = move.to if len(move.to) <= feedlists.URL_LIMIT else ""
        after.moved_times = move.times
        after.recent_posts, after.recent_since = rhythm
        return after

    def _follow(self, change: "_Change") -> None:
        if change.permanent_url and change.feed.moved_times >= politeness.MOVED_AFTER:
            try:
                address = feedlists.address(change.permanent_url)
            except feedlists.BadAddress:
                return
            storing.move(change.feed, address, now=timezone.now())


@dataclass(frozen=True)
class _Change:
    """A feed's row as it is to be after a fetch, and what to say of it."""

    feed: Feed
    outcome: Outcome
    permanent_url: str | None = None


def _was_answered(answer: asking.Answer) -> bool | None:
    """By anybody at all, over the network."""
    match answer:
        case asking.Read() | asking.Unreadable() | NotModified():
            return True
        case FetchError(refused=False):
            return answer.answered
    return None


def _failing(feed: Feed, reason: str, now: datetime) -> Feed:
    after = copy(feed)
    after.last_fetched_at, after.fetch_wanted_at = now, None
    after.failures, after.last_error = feed.failures + 1, _line(reason)
    return after


def _held(feed: Feed, remaining: timedelta, reason: str, now: datetime) -> _Change:
    after = copy(feed)
    after.next_fetch_at, after.fetch_wanted_at = now + remaining, None
    after.last_error = _line(reason)
    return _Change(after, Held(after, now + remaining))


def _line(reason: str) -> str:
    return " ".join(reason.replace("\0", " ").split())[:500]


def _platform(url: str) -> Platform:
    return politeness.platform_of(domains.host_of(url) or "")


def _rhythm(feed: Feed) -> Rhythm:
    return Rhythm(feed.recent_posts, feed.recent_since)


@dataclass(frozen=True)
class _Incoming:
    """A feed that was read, ready to be stored."""

    feed: Feed
    fetched: Fetched
    prepared: storing.Incoming


def _batches(reads: Iterable[tuple[Feed, asking.Read]]) -> Iterator[list[_Incoming]]:
    """As many feeds at a time as bring no more than one transaction may write.

    One batch is made ready after the other is stored: meanwhile others may write.
    """
    batch: list[_Incoming] = []
    posts = 0
    for feed, read in reads:
        prepared = storing.prepare(feed, read.parsed)
        posts += len(prepared.posts)
        if batch and posts > storing.ROWS_A_TRANSACTION:
            yield batch
            batch, posts = [], len(prepared.posts)
        batch.append(_Incoming(feed, read.fetched, prepared))
    if batch:
        yield batch


class _Run:
    """One call of `Loader.load`: what was asked, and what is still open."""

    def __init__(self, loader: Loader, plan: Plan, *, everything: bool) -> None:
        self._loader, self._plan, self._everything = loader, plan, everything
        self._started = timezone.now()
        # With the number by which it is told whose fault it is.
        self._asked: dict[int, tuple[Feed, int]] = {}
        # No answer, and it is not clear yet whose fault that is.
        self._unanswered: list[tuple[Feed, int, str]] = []
        self._judged_at = 0.0
        # Platforms that could not be claimed, and how long we try: whoever has them
        # may have been killed, and its claim then ends by itself.
        self._busy: dict[str, float] = {}
        self._tried_at = 0.0
        # Feeds that were not asked, and why.
        self._left: list[tuple[int, str]] = []

    def more(self) -> bool:
        """Ask for as much as is allowed; False when all is done."""
        if self._plan:
            self._loader.keep_claims()
            self._claim()
            self._ask()
        return bool(self._plan or self._left)

    def step(self) -> Iterator[Outcome]:
        """Wait for answers, a second at most, and settle what can be settled."""
        answers = self._receive()
        yield from self._settle(answers)
        yield from self._settle_unanswered()
        self._give_up()
        yield from self._tell_left()
        self._loader.give_back_unused(self._plan.finished())

    def _claim(self) -> None:
        now = time.monotonic()
        if self._busy and now - self._tried_at >= 1:
            self._tried_at = now
            self._plan.put_back(self._busy)
        self._loader.busy = len(self._busy)
        names = self._plan.to_claim(self._loader.jobs - self._plan.claimed)
        if not names:
            return
        mine = self._loader.claim(names)
        self._plan.claim(mine)
        for name in mine:
            self._busy.pop(name, None)
        for name in set(names) - mine:
            self._busy.setdefault(name, now + self._loader.lease + 1)

    def _ask(self) -> None:
        free = self._loader.jobs - len(self._asked)
        for chunk in storing.chunks(self._plan.next(free, time.monotonic())):
            # Read only now: it may have been paused or corrected while it waited.
            feeds = Feed.objects.may_be_asked(
                timezone.now(), due=not self._everything
            ).filter(pk__in=chunk)
            if self._everything:
                feeds = feeds.exclude(last_fetched_at__gte=self._started)
            addresses = []
            for feed in feeds:
                self._asked[feed.pk] = feed, self._loader.fault.ask()
                addresses.append(
                    asking.Address(feed.pk, feed.url, feed.etag, feed.last_modified)
                )
            self._loader.network().ask(addresses)
            for pk in set(chunk) - self._asked.keys():
                self._plan.answered(pk, asked=False)
                self._plan.settled(pk)
                self._left.append((pk, "another loader had it, or it is not due now"))

    def _receive(self) -> list[tuple[Feed, int, asking.Answer]]:
        answers: list[tuple[Feed, int, asking.Answer]] = []
        message = self._loader.receive(self._patience())
        until = time.monotonic() + COLLECTED_FOR
        while message is not None:
            if isinstance(message, asking.Answered):
                answers.append((*self._asked.pop(message.key), message.answer))
            else:
                self._loader.attend(message)
            if len(answers) == SETTLED_AT_ONCE:
                break
            enough = len(self._asked) < SETTLED_AT_ONCE
            wait = 0 if enough else until - time.monotonic()
            message = self._loader.receive(max(wait, 0))
        return answers

    def _patience(self) -> float:
        if self._left:
            return 0.0
        # Claims are to be renewed in time.
        longest = min(1.0, self._loader.lease / 8)
        wait = self._plan.wait(time.monotonic())
        return longest if wait is None else min(wait, longest)

    def _settle(
        self, answers: Iterable[tuple[Feed, int, asking.Answer]]
    ) -> Iterator[Outcome]:
        told = []
        for feed, number, answer in answers:
            asked = not isinstance(answer, politeness.Held | asking.Taken)
            self._plan.answered(feed.pk, asked=asked)
            answered = _was_answered(answer)
            self._loader.fault.hear(number, answered=answered)
            if isinstance(answer, FetchError) and answered is False:
                self._unanswered.append((feed, number, answer.reason))
            else:
                told.append((feed, answer))
        yield from self._settled(self._loader.settle(told))

    def _settle_unanswered(self) -> Iterator[Outcome]:
        now = time.monotonic()
        if self._asked and now - self._judged_at < 0.25:
            return
        self._judged_at = now
        changes, open_still = [], []
        for feed, number, reason in self._unanswered:
            change = self._loader.unanswered(feed, number, reason)
            if change is None:
                open_still.append((feed, number, reason))
            else:
                changes.append(change)
        self._unanswered = open_still
        yield from self._settled(self._loader.write(changes))

    def _settled(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        for outcome in outcomes:
            self._plan.settled(outcome.feed.pk)
            yield outcome

    def _give_up(self) -> None:
        now = time.monotonic()
        if self._asked or self._unanswered:
            return
        for name in [name for name, end in self._busy.items() if end < now]:
            del self._busy[name]
            for pk in self._plan.give_up([name]):
                self._left.append((pk, f"another loader is asking {name}"))

    def _tell_left(self) -> Iterator[Outcome]:
        reasons, self._left = dict(self._left), []
        for chunk in storing.chunks(reasons):
            for feed in Feed.objects.filter(pk__in=chunk):
                yield Left(feed, reasons[feed.pk])
