"""The weighted, feed-fair random choice, held in memory."""

import itertools
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from random import Random, SystemRandom
from typing import Any

import orjson
from django.conf import settings
from django.db import close_old_connections, connection

from blacklist import cache, domains, packed
from feeds import feedback, ranking
from feeds.models import Entry, Feed, PoolState
from feeds.pool import Filter, Pool, PoolBuilder, PoolEntry, View

logger = logging.getLogger(__name__)

# Seconds.
TICK = 2.0
REBUILD_AT_LEAST = 600.0
# A site that is voted on all the time is not rebuilt all the time: random follows
# within 60 s, and between two builds a worker rests ten times as long as one takes.
_LONGEST_REST = 40.0
_REST_BUILDS = 10

# What `entry_json` is made from, for `values_list` and `packed.rows` alike.
ENTRY_FIELDS = (
    "id",
    "url",
    "host",
    "title",
    "author",
    "excerpt",
    "published_at",
    "language",
    "up",
    "down",
    "score",
    "dead_since",
    "checked_at",
    "feed_id",
    "feed__title",
    "feed__site_url",
    "feed__language",
    "feed__category__slug",
)
_SHOWN_TITLE = 80


# What the law and the filters ask of an entry; the first three set its place.
_LAW_FIELDS = ("feed_id", "published_at", "id", "up", "down", "host", "language")
_FEEDS_AT_ONCE = 200
_VIEWS = 32

# Asked of the system: no two workers draw alike, forked or not.
_RNG = SystemRandom()


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


@dataclass(frozen=True, slots=True)
class Impact:
    """What would no longer be drawn."""

    feeds: int
    entries: int


class Snapshot:
    """The pool as it was read at one time; never changed, only replaced."""

    def __init__(self, pool: Pool, rendered: Sequence[bytes], version: int) -> None:
        self.pool = pool
        self.version = version
        self._rendered = rendered
        self._views = _Views(pool, b"", None)
        self._lock = threading.Lock()

    def view(self, rules: cache.Rules, wanted: Filter) -> View:
        """What the filter and the rules leave; an edit of these counts at once."""
        # Read before any host is asked for: an edit meanwhile makes another one.
        version = rules.version
        views = self._views
        if views.version != version:
            with self._lock:
                views = self._views
                if views.version != version:
                    blocked = self.pool.blocked(rules.blocks)
                    views = self._views = _Views(self.pool, blocked, version)
        return views.get(wanted)

    def entries(self, places: Sequence[int]) -> list[bytes]:
        """The entries at these places of the pool, as JSON."""
        if self._rendered:
            return [self._rendered[place] for place in places]
        ids = [self.pool.ids[place] for place in places]
        rows = Entry.objects.filter(pk__in=ids).values_list(*ENTRY_FIELDS)
        found = {row[0]: orjson.dumps(entry_json(row)) for row in rows}
        # One that was deleted since the snapshot is missing.
        return [found[pk] for pk in ids if pk in found]


class _Views:
    """The views of a snapshot under one version of the rules."""

    def __init__(self, pool: Pool, blocked: bytes, version: object) -> None:
        self.version = version
        self._make = partial(pool.view, blocked)
        self._kept = lru_cache(_VIEWS)(self._make)

    def get(self, wanted: Filter) -> View:
        # One feed is soon looked at, and must not push out what took longer.
        return self._kept(wanted) if wanted.feed is None else self._make(wanted)


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


def visible(host: str, feed_host: str, rules: cache.Rules) -> bool:
    """Whether neither the host of an entry nor that of its feed's site is blocked."""
    return not rules.blocks(host) and not rules.blocks(feed_host)


def entry_json(row: Sequence[Any], my_vote: int | None = None) -> dict[str, Any]:
    """An Entry of the API from a row of `ENTRY_FIELDS`.

    Times may be datetimes or whole seconds since 1970; the language of an entry that
    names none is its feed's.
    """
    (
        pk, url, host, title, author, excerpt, published_at, language, up, down, score,
        dead_since, checked_at, feed, feed_title, site_url, feed_language, category,
    ) = row  # fmt: skip
    return {
        "id": pk,
        "url": url,
        "title": title or _start(excerpt) or url,
        "author": author,
        "excerpt": excerpt,
        "published_at": _time(published_at),
        "language": language or feed_language,
        "domain": domains.shown_host(host),
        "feed": {
            "id": feed,
            "title": feed_title,
            "site_url": site_url,
            "category": category,
        },
        "up": up,
        "down": down,
        "score": round(score, 4),
        "my_vote": my_vote,
        "link": {
            "state": _link_state(dead_since, checked_at),
            "checked_at": _time(checked_at),
        },
    }


def _start(text: str) -> str:
    if len(text) <= _SHOWN_TITLE:
        return text
    # At a word's end, but for scripts that put no spaces between words.
    words, _, _ = text[: _SHOWN_TITLE - 1].rpartition(" ")
    return (words or text[: _SHOWN_TITLE - 1]) + "…"


def _time(value: datetime | int | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        value = datetime.fromtimestamp(value, UTC)
    return value.astimezone(UTC).isoformat()[:19] + "Z"


def _link_state(dead_since: object, checked_at: object) -> str:
    if dead_since is not None:
        return "dead"
    return "unknown" if checked_at is None else "alive"
