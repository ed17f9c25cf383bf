"""The weighted, feed-fair random choice, held in memory."""

import atexit
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import Random

import orjson
from django.db import close_old_connections, connection

from blacklist import cache, domains, hooks
from feeds import building, feedback, rendering
from feeds.builder import Builder
from feeds.models import Entry
from feeds.pool import Filter, Pool, View

logger = logging.getLogger(__name__)

# Seconds.
TICK = 2.0
REBUILD_AFTER = 600.0
# A site that is voted on all the time is not rebuilt all the time: random follows
# within 60 s, and between two builds a worker rests ten times as long as one takes.
_LONGEST_REST = 40.0
_REST_BUILDS = 10

# Of the views of a snapshot that are kept: numbers of some 8 bytes, and filters.
_VIEW_NUMBERS = 1_000_000
_VIEWS = 1_000
_ALL = Filter()

# Seeded by the system, and again in a child (below): no two workers draw alike.
_RNG = Random()  # noqa: S311 - what is drawn next is no secret


@dataclass(frozen=True, slots=True)
class PickRequest:
    """What a client asks for; an empty filter asks for nothing, and so leaves all."""

    count: int = 1
    exclude: frozenset[int] = frozenset()
    category: str = ""
    language: str = ""
    feed: int | None = None
    max_age_days: int | None = None
    token: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What may be drawn now, and how long ago that was last known to be so."""

    entries: int
    feeds: int
    age_seconds: float
    loaded: bool


class Snapshot:
    """The pool as it was read at one time; never changed, only replaced."""

    def __init__(self, built: building.Built) -> None:
        self.pool = built.pool
        self.version = built.version
        self.began = built.began
        self._rendered = built.rendered
        self._views: _Views | None = None
        self._lock = threading.Lock()

    def follow(self, before: "Snapshot", rules: cache.Rules) -> None:
        """Take over what the snapshot before knows of the blacklist."""
        version, views = rules.version, before._views
        if views is not None and views.version == version:
            known = dict(zip(before.pool.hosts(), views.blocked, strict=True))
            blocked = self.pool.blocked(rules.blocks, known)
            self._views = _Views(self.pool, blocked, version)

    def view(self, rules: cache.Rules, wanted: Filter) -> View:
        """What the filter and the rules leave; an edit of these counts at once."""
        # Read before any host is asked for: an edit meanwhile makes another one.
        version = rules.version
        views = self._views
        if views is None or views.version != version:
            with self._lock:
                views = self._views
                if views is None or views.version != version:
                    blocked = self.pool.blocked(rules.blocks)
                    views = self._views = _Views(self.pool, blocked, version)
        return views.get(wanted)

    @property
    def is_rendered(self) -> bool:
        """Whether its entries are held as JSON, not only where they are."""
        return bool(self._rendered.ends)

    def entries(self, places: Sequence[int]) -> list[bytes]:
        """The entries at these places of the pool, as JSON."""
        if self.is_rendered:
            return [self._rendered.at(place) for place in places]
        ids = [self.pool.ids[place] for place in places]
        rows = Entry.objects.filter(pk__in=ids).values_list(*rendering.ENTRY_FIELDS)
        found = {row[0]: rendering.entry_bytes(row) for row in rows}
        # One that was deleted since the snapshot is missing.
        return [found[pk] for pk in ids if pk in found]


class _Views:
    """The views of a snapshot under one version of the rules."""

    def __init__(self, pool: Pool, blocked: bytes, version: object) -> None:
        self.version = version
        self.blocked = blocked
        self._pool = pool
        # Kept for itself: no number of other filters pushes it out.
        self._all = pool.view(blocked, _ALL)
        # The one that was last asked for comes last.
        self._kept: dict[Filter, View] = {}
        self._room = _VIEW_NUMBERS
        self._lock = threading.Lock()

    def get(self, wanted: Filter) -> View:
        if wanted == _ALL:
            return self._all
        if wanted.feed is not None:
            # Soon looked at, and must not push out what took longer.
            return self._pool.view(self.blocked, wanted)
        with self._lock:
            view = self._kept.pop(wanted, None)
            if view is not None:
                self._kept[wanted] = view
                return view
        view = self._pool.view(self.blocked, wanted)
        with self._lock:
            self._keep(wanted, view)
        return view

    def _keep(self, wanted: Filter, view: View) -> None:
        if wanted in self._kept:
            return
        self._kept[wanted] = view
        self._room -= view.numbers()
        while len(self._kept) > 1 and (self._room < 0 or len(self._kept) > _VIEWS):
            oldest = next(iter(self._kept))
            self._room += self._kept.pop(oldest).numbers()


def pick(
    request: PickRequest, rng: Random = _RNG, now: datetime | None = None
) -> bytes:
    """The answer to a random call: drawn by the law, rendered as JSON.

    `eligible` counts what the filters and the blacklist leave, before `exclude`;
    `exhausted` says that fewer than `count` could be given.
    """
    snapshot = current()
    view = snapshot.view(cache.current(), _wanted(request, now))
    places = view.choose(request.count, request.exclude, rng)
    entries = snapshot.entries(places)
    if request.token:
        entries = _with_votes(entries, request.token)
    return b'{"results":[%b],"pool":{"eligible":%d,"exhausted":%b}}' % (
        b",".join(entries),
        view.size,
        b"true" if len(entries) < request.count else b"false",
    )


def is_in_memory() -> bool:
    """Whether a pick without a token asks the database nothing now."""
    snapshot = _held.snapshot
    return snapshot is not None and snapshot.is_rendered and cache.is_fresh()


def current() -> Snapshot:
    """This process's snapshot; built now if there is none yet."""
    return _held.snapshot or _held.build(only_if_missing=True)


def refresh() -> Snapshot:
    """A new snapshot, built now."""
    return _held.build()


def forget() -> None:
    """Start with nothing, as a new process does (tests, whose databases go)."""
    _held.__init__()  # type: ignore[misc]


def status() -> Status:
    """What may be drawn, without asking the database; zeros before the first build."""
    snapshot, age = _held.snapshot, time.monotonic() - _held.right_at
    if snapshot is None:
        return Status(0, 0, round(age, 3), loaded=False)
    view = snapshot.view(cache.current(), _ALL)
    return Status(view.size, len(view.feeds), round(age, 3), loaded=True)


def eligible_by_category() -> dict[str, int]:
    """How many entries of each category may be drawn, by its slug."""
    return _by_category(current().view(cache.current(), _ALL))


def impact(rules: Sequence[domains.RuleSpec]) -> hooks.Impact:
    """What of the pool would be hidden if these rules were added by hand."""
    now = cache.current()
    # Where one blocks and one allows the same, the exception decides: it comes last.
    added = {
        (rule.domain, rule.include_subdomains): rule
        for rule in sorted(rules, key=lambda rule: rule.action == domains.ALLOW)
    }
    return impact_of(lambda host: now.blocks(host) or _hides(added, host, now))


def impact_of(blocks: Callable[[str], bool]) -> hooks.Impact:
    """What of the pool would be hidden if from now on these hosts were blocked."""
    snapshot = _up_to_date()
    before = snapshot.view(cache.current(), _ALL)
    after = snapshot.pool.view(snapshot.pool.blocked(blocks), _ALL)
    hidden = before.size - after.size
    return hooks.Impact(
        feeds=len(before.feeds) - len(after.feeds),
        entries=hidden,
        share=hidden / before.size if before.size else 0.0,
        emptied=tuple(sorted(_by_category(before).keys() - _by_category(after))),
    )


def _up_to_date() -> Snapshot:
    # A process that does not keep its snapshot right may be asked once a day.
    kept = _keeper is not None and _keeper.is_alive()
    return current() if kept else Snapshot(building.build())


def removal(origin: str) -> hooks.Removal:
    """What of the pool would be shown again if the rules of an origin went."""
    now, pool = cache.current(), _up_to_date().pool
    decided = {host for host in pool.hosts() if now.verdict(host)}
    rest = cache.without(origin, decided)
    hides = pool.blocked(now.blocks)
    left = pool.blocked(
        lambda host: rest.blocks(host) if host in decided else now.blocks(host)
    )
    # What is hidden before and after: so that what goes does not hide what comes.
    both = bytes(one & other for one, other in zip(hides, left, strict=True))
    before, after, most = (pool.view(of, _ALL) for of in (hides, left, both))
    return hooks.Removal(
        feeds=len(most.feeds) - len(before.feeds),
        entries=most.size - before.size,
        hidden=most.size - after.size,
    )


def start() -> None:
    """Keep the snapshot right from now on, in a thread; call it after the fork."""
    global _keeper
    if _keeper is None or not _keeper.is_alive():
        _keeper = _Keeper()
        _keeper.start()


def stop() -> None:
    """End this process's thread."""
    global _keeper
    if _keeper is not None and _keeper.is_alive():
        _keeper.stop()
    _keeper = None


class _Held:
    """This process's snapshot, and when it was last what the database holds."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        # Seconds of the monotonic clock.
        self.right_at = self.built_at = time.monotonic()
        self.build_took = 0.0
        self.lock = threading.Lock()

    def build(
        self,
        build: Callable[[], building.Built] = building.build,
        *,
        only_if_missing: bool = False,
    ) -> Snapshot:
        with self.lock:
            if only_if_missing and self.snapshot is not None:
                return self.snapshot
            built = build()
            snapshot, rules = Snapshot(built), cache.current()
            # It looks at every host: not in the first request that draws from it.
            if self.snapshot is not None:
                snapshot.follow(self.snapshot, rules)
            snapshot.view(rules, _ALL)
            # A reader has the old one or the new one, never some of each.
            self.snapshot = snapshot
            self.right_at, self.built_at = built.began, built.ended
            self.build_took = built.ended - built.began
            return snapshot

    def follow(self, builder: Builder | None = None) -> None:
        """Build again if the pool has changed, or after a while in any case."""
        if self.snapshot is None:
            # Requests are waiting for it: a small one is read here before a builder
            # has started. A large one is read once for all, and not by each worker.
            large = builder and (builder.is_there() or not building.renders_ahead())
            build = builder.build if builder and large else building.build
            self.build(build, only_if_missing=True)
            return
        now = time.monotonic()
        age = now - self.built_at
        changed = self.snapshot.version != building.version()
        rest = min(_REST_BUILDS * self.build_took, _LONGEST_REST)
        if age >= REBUILD_AFTER or (changed and age >= rest):
            # What another worker had built since will do as well.
            newer = builder and partial(builder.build, self.snapshot.began)
            self.build(newer or building.build)
        elif not changed:
            self.right_at = now


class _Keeper(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="picking", daemon=True)
        self._stopped = threading.Event()
        self._builder = Builder()

    def stop(self) -> None:
        self._stopped.set()
        self._builder.close()
        self.join(timeout=5)
        # One that it was about to start.
        self._builder.close()

    def run(self) -> None:
        failing = False
        while not self._stopped.is_set():
            try:
                _held.follow(self._builder)
                failing = False
            except Exception:
                # Once, and not at every tick for as long as it lasts.
                if not failing and not self._stopped.is_set():
                    logger.exception("The pool in memory stays as it was.")
                failing = True
            finally:
                # PostgreSQL's pool gets its connection back; SQLite's stays open.
                close_old_connections()
            self._stopped.wait(TICK)
        connection.close()


_held = _Held()
_keeper: _Keeper | None = None


def _after_fork() -> None:
    # It may have been held by a thread that this process does not have.
    _held.lock = threading.Lock()
    _RNG.seed()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop)


def _with_votes(entries: list[bytes], token: str) -> list[bytes]:
    ids = [orjson.loads(entry)["id"] for entry in entries]
    votes = feedback.my_votes(ids, token)
    # A quote within a text is escaped: this can only be the key.
    return [
        entry.replace(b'"my_vote":null', b'"my_vote":%d' % votes[pk])
        for pk, entry in zip(ids, entries, strict=True)
    ]


def _wanted(request: PickRequest, now: datetime | None) -> Filter:
    since = None
    if request.max_age_days is not None:
        # By the minute, so that a filter's view serves more than one call.
        seconds = int((now or datetime.now(UTC)).timestamp())
        since = seconds // 60 * 60 - request.max_age_days * 86_400
    return Filter(
        category=request.category,
        # As the pool has them: one view of a language, however it is typed.
        language=request.language.lower(),
        feed=request.feed,
        since=since,
    )


def _by_category(view: View) -> dict[str, int]:
    pool, counts = view.pool, Counter[str]()
    for number, size in view.sizes():
        counts[pool.categories[pool.feed_categories[number]]] += size
    del counts[""]
    return dict(counts)


def _hides(
    added: dict[tuple[str, bool], domains.RuleSpec], host: str, now: cache.Rules
) -> bool:
    """Whether of the added rules and those of now an added block decides."""
    found = added.get((host, False))
    for name in domains.names(host):
        found = found or added.get((name, True))
    if found is None or found.action == domains.ALLOW:
        return False
    # It blocks unless an exception of today's is more specific.
    decides = now.verdict(host)
    return decides is None or (len(found.domain), not found.include_subdomains) >= (
        len(decides.domain),
        not decides.include_subdomains,
    )
