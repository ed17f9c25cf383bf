"""The pool as the database holds it now."""

import itertools
import math
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from blacklist import packed
from feeds import mapped, ranking, rendering
from feeds.models import Entry, Feed, PoolState
from feeds.pool import Pool, PoolBuilder, PoolEntry

_FEEDS_AT_ONCE = 200
# What the law and the filters ask of an entry; the first three set its place.
_LAW_FIELDS = ("feed_id", "published_at", "id", "up", "down", "host", "language")
# Of what a pool holds the tuples of texts; the rest are columns.
_NAMES = ("languages", "categories")


class Rendered:
    """The JSON of every entry of a pool in one piece, and where each of them ends.

    As an object each, 100,000 of them took 820 MB and not 120.
    """

    def __init__(self, text: Any = None, ends: Any = None) -> None:
        self.text = bytearray() if text is None else text
        self.ends = array("Q") if ends is None else ends

    def add(self, entry: bytes) -> None:
        self.text += entry
        self.ends.append(len(self.text))

    def at(self, place: int) -> bytes:
        start = self.ends[place - 1] if place else 0
        return bytes(self.text[start : self.ends[place]])


@dataclass(frozen=True, slots=True)
class Built:
    """A pool; what of it is rendered: all or nothing; which version it is of; and
    when it was read, in seconds of the machine's monotonic clock."""

    pool: Pool
    rendered: Rendered
    version: int
    began: float
    ended: float


def version() -> int:
    """Which one the database holds now."""
    return _state()[0]


def renders_ahead() -> bool:
    """Whether the pool is so small that its entries are rendered with it."""
    return Entry.objects.eligible().count() <= settings.RENDERED_ENTRIES


def build() -> Built:
    """Read it here and now."""
    began = time.monotonic()
    # The version first: what changes while this reads is read again after.
    version, up, down = _state()
    site = ranking.site_rate(up, down)
    builder, rendered = PoolBuilder(), Rendered()
    columns: tuple[str, ...] = _LAW_FIELDS
    if renders_ahead():
        columns += rendering.ENTRY_FIELDS
    for feeds in _feeds():
        rows = _entries_of(feeds, columns)
        for pk, host, language, category, feed_up, feed_down in feeds:
            rate = ranking.feed_rate(feed_up, feed_down, site)
            weight = ranking.weight(rate, site)
            own = rows.get(pk, [])
            entries = (_pool_entry(row, language, rate, site) for row in own)
            builder.add(pk, weight, host, category or "", entries)
            if columns is not _LAW_FIELDS:
                for row in own:
                    rendered.add(rendering.entry_bytes(row[len(_LAW_FIELDS) :]))
    return Built(builder.done(), rendered, version, began, time.monotonic())


def write(built: Built) -> int:
    """The descriptor of a file with it, for another process."""
    columns: dict[str, Any] = {}
    names: dict[str, Any] = {}
    for name in Pool.__slots__:
        (names if name in _NAMES else columns)[name] = getattr(built.pool, name)
    columns |= {"text": built.rendered.text, "ends": built.rendered.ends}
    return mapped.write(columns, [names, built.version, built.began, built.ended])


def read(descriptor: int) -> Built:
    """What `write` wrote, mapped and not copied; it closes the descriptor."""
    columns, (names, version, began, ended) = mapped.read(descriptor)
    rendered = Rendered(columns.pop("text"), columns.pop("ends"))
    columns |= {name: tuple(held) for name, held in names.items()}
    return Built(Pool(**columns), rendered, version, began, ended)


def _state() -> tuple[int, int, int]:
    """Of the pool: its version, and the votes of the whole site, up and down."""
    row = PoolState.objects.filter(pk=1).values_list("version", "up", "down").first()
    return row or (0, 0, 0)


def _feeds() -> Iterator[list[list[Any]]]:
    """The active feeds by id, some at a time."""
    columns = ("id", "host", "language", "category__slug", "up", "down")
    for rows in packed.rows(Feed.objects.active(), *columns):
        rows.sort()
        for first in range(0, len(rows), _FEEDS_AT_ONCE):
            yield rows[first : first + _FEEDS_AT_ONCE]


def _entries_of(
    feeds: list[list[Any]], fields: Sequence[str]
) -> dict[int, list[list[Any]]]:
    """The entries of these feeds, the newest first and the undated last."""
    entries = Entry.objects.eligible().filter(feed__in=[feed[0] for feed in feeds])
    rows = list(itertools.chain.from_iterable(packed.rows(entries, *fields)))
    rows.sort(key=_place)
    by_feed: dict[int, list[list[Any]]] = {}
    for row in rows:
        by_feed.setdefault(row[0], []).append(row)
    return by_feed


def _place(row: list[Any]) -> tuple[float, int]:
    published, pk = row[1:3]
    return (math.inf if published is None else -published), -pk


def _pool_entry(
    row: list[Any], feed_language: str, feed_rate: float, site: float
) -> PoolEntry:
    _, published, pk, up, down, host, language, *_ = row
    weight = ranking.weight(ranking.entry_rate(up, down, feed_rate), site)
    return PoolEntry(pk, weight, host, language or feed_language, published)
