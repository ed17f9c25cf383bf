"""The pool in memory: what may be drawn, and the draw itself."""

from array import array
from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

_MIXED = -1
# Later than all: an entry without a date is never young enough.
_UNDATED = 2**62


class PoolEntry(NamedTuple):
    """One entry as `PoolBuilder` takes it; times in seconds since 1970."""

    id: int
    weight: float
    host: str
    language: str
    published: int | None


class Filter(NamedTuple):
    """What is asked for; `since` is in seconds since 1970."""

    category: str = ""
    language: str = ""
    feed: int | None = None
    since: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Pool:
    """All that may be drawn but for the blacklist, in compact arrays.

    Entries stand feed by feed, the newest first and the undated last: an age limit
    cuts every feed at one place, and no limit ever needs to look at all entries.
    """

    # Of each feed, by ascending id; its entries are firsts[i] up to firsts[i + 1].
    feeds: "array[int]"
    feed_weights: "array[float]"
    feed_hosts: "array[int]"
    feed_categories: "array[int]"
    firsts: "array[int]"
    # The one host and the one language of all its entries, or _MIXED.
    common_hosts: "array[int]"
    common_languages: "array[int]"
    # Of each entry; weights are summed up from the first entry of its feed.
    ids: "array[int]"
    weights: "array[float]"
    ages: "array[int]"
    entry_hosts: "array[int]"
    entry_languages: "array[int]"
    # What the numbers above stand for.
    hosts: tuple[str, ...]
    languages: tuple[str, ...]
    categories: tuple[str, ...]

    def blocked(self, blocks: Callable[[str], bool]) -> bytes:
        """For each host of the pool 1 if it is blocked, else 0."""
        return bytes(map(blocks, self.hosts))

    def view(self, blocked: bytes, wanted: Filter) -> "View":
        """What the filter and the blocked hosts leave."""
        view = View(self)
        tags = _matching(self.languages, wanted.language)
        if tags == set():
            return view
        for number in self._candidates(wanted):
            if not blocked[self.feed_hosts[number]]:
                view.add(number, *self._left(number, blocked, tags, wanted.since))
        return view

    def _candidates(self, wanted: Filter) -> Iterable[int]:
        numbers: Iterable[int] = range(len(self.feeds))
        if wanted.feed is not None:
            at = bisect_right(self.feeds, wanted.feed) - 1
            numbers = [at] if at >= 0 and self.feeds[at] == wanted.feed else []
        if wanted.category:
            if wanted.category not in self.categories:
                return []
            category = self.categories.index(wanted.category)
            numbers = (n for n in numbers if self.feed_categories[n] == category)
        return numbers

    def _left(
        self,
        number: int,
        blocked: bytes,
        tags: Collection[int] | None,
        since: int | None,
    ) -> "tuple[int, array[int] | None]":
        """Where a feed's entries end, and which of them are left (None: all)."""
        first, end = self.firsts[number], self.firsts[number + 1]
        if since is not None:
            end = bisect_right(self.ages, min(-since, _UNDATED - 1), first, end)
        host, language = self.common_hosts[number], self.common_languages[number]
        if host != _MIXED and blocked[host]:
            return first, None
        if tags is not None and language != _MIXED and language not in tags:
            return first, None
        if host != _MIXED and (tags is None or language != _MIXED):
            return end, None
        left = array("I")
        for at in range(first, end):
            if not blocked[self.entry_hosts[at]] and (
                tags is None or self.entry_languages[at] in tags
            ):
                left.append(at)
        return end, None if len(left) == end - first else left


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """The entries that are left of a feed, where it isn't simply the newest."""

    entries: "array[int]"
    weights: "array[float]"


@dataclass(eq=False, slots=True)
class View:
    """What of a pool may be drawn; complete once `Pool.view` returns it."""

    pool: Pool
    size: int = 0
    feeds: "array[int]" = field(default_factory=lambda: array("I"))
    weights: "array[float]" = field(default_factory=lambda: array("d"))
    ends: "array[int]" = field(default_factory=lambda: array("I"))
    parts: dict[int, _Part] = field(default_factory=dict)

    def add(self, number: int, end: int, left: "array[int] | None") -> None:
        """Let a feed's entries up to `end` be drawn, or those that are `left`."""
        size = end - self.pool.firsts[number] if left is None else len(left)
        if not size:
            return
        if left is not None:
            self.parts[len(self.feeds)] = _Part(left, self._weights(number, left))
        before = self.weights[-1] if self.weights else 0.0
        self.size += size
        self.feeds.append(number)
        self.weights.append(before + self.pool.feed_weights[number])
        self.ends.append(end)

    def sizes(self) -> Iterable[tuple[int, int]]:
        """Each feed's number in the pool, with how many of its entries are left."""
        for at, number in enumerate(self.feeds):
            part = self.parts.get(at)
            first, end = self.pool.firsts[number], self.ends[at]
            yield number, len(part.entries) if part else end - first

    def choose(self, count: int, exclude: Collection[int], rng: Random) -> list[int]:
        """Draw up to `count` entries by the law, none of `exclude`, none twice.

        Each draw is by the law on what is left: a feed by weight among those with
        anything left, then an entry by weight among those left of it. Returns their
        places in the pool, fewer than `count` when no more are left.
        """
        chosen: list[int] = []
        out = set(exclude)
        spent: list[int] = []
        while len(chosen) < count and len(spent) < len(self.feeds):
            at = _draw(self.weights, 0, len(self.weights), spent, rng)
            entry = self._entry(at, out, rng)
            if entry is None:
                # That it is spent shows when it's drawn: drawing again among the
                # others is the law on what is left, and costs nothing otherwise.
                insort(spent, at)
            else:
                chosen.append(entry)
                out.add(self.pool.ids[entry])
        return chosen

    def _entry(self, at: int, out: set[int], rng: Random) -> int | None:
        ids = self.pool.ids
        part = self.parts.get(at)
        entries: Sequence[int]
        if part:
            entries, weights = part.entries, part.weights
            first, end = 0, len(entries)
        else:
            first, end = self.pool.firsts[self.feeds[at]], self.ends[at]
            entries, weights = range(end), self.pool.weights
        drawn = _draw(weights, first, end, (), rng)
        if ids[entries[drawn]] in out:
            # Not drawn again until one fits: most of a feed may be out.
            gone = [i for i in range(first, end) if ids[entries[i]] in out]
            if len(gone) == end - first:
                return None
            drawn = _draw(weights, first, end, gone, rng)
        return entries[drawn]

    def _weights(self, number: int, left: "array[int]") -> "array[float]":
        first, of_pool = self.pool.firsts[number], self.pool.weights
        total, weights = 0.0, array("d")
        for at in left:
            total += of_pool[at] - (of_pool[at - 1] if at > first else 0.0)
            weights.append(total)
        return weights


class PoolBuilder:
    """Puts a pool together, feed by feed in ascending order of ids."""

    def __init__(self) -> None:
        self._hosts: dict[str, int] = {}
        self._languages: dict[str, int] = {}
        self._categories: dict[str, int] = {}
        self._pool = Pool(
            feeds=array("q"),
            feed_weights=array("d"),
            feed_hosts=array("I"),
            feed_categories=array("I"),
            firsts=array("I", [0]),
            common_hosts=array("q"),
            common_languages=array("q"),
            ids=array("q"),
            weights=array("d"),
            ages=array("q"),
            entry_hosts=array("I"),
            entry_languages=array("I"),
            hosts=(),
            languages=(),
            categories=(),
        )

    def add(
        self,
        feed: int,
        weight: float,
        host: str,
        category: str,
        entries: Iterable[PoolEntry],
    ) -> None:
        """Add a feed with its entries, the newest first and the undated last.

        A feed without entries is left out.
        """
        pool, first = self._pool, len(self._pool.ids)
        total = 0.0
        for entry in entries:
            total += entry.weight
            pool.ids.append(entry.id)
            pool.weights.append(total)
            pool.ages.append(_UNDATED if entry.published is None else -entry.published)
            pool.entry_hosts.append(_number(self._hosts, entry.host))
            pool.entry_languages.append(
                _number(self._languages, entry.language.lower())
            )
        if len(pool.ids) == first:
            return
        pool.feeds.append(feed)
        pool.feed_weights.append(weight)
        pool.feed_hosts.append(_number(self._hosts, host))
        pool.feed_categories.append(_number(self._categories, category))
        pool.firsts.append(len(pool.ids))
        pool.common_hosts.append(_common(pool.entry_hosts[first:]))
        pool.common_languages.append(_common(pool.entry_languages[first:]))

    def done(self) -> Pool:
        """The pool; add nothing after this."""
        return replace(
            self._pool,
            hosts=tuple(self._hosts),
            languages=tuple(self._languages),
            categories=tuple(self._categories),
        )


def _number(table: dict[str, int], name: str) -> int:
    return table.setdefault(name, len(table))


def _common(numbers: "array[int]") -> int:
    return numbers[0] if numbers.count(numbers[0]) == len(numbers) else _MIXED


def _matching(tags: Sequence[str], wanted: str) -> set[int] | None:
    """Which tags a language range covers ("en": "en" and "en-gb"; RFC 4647, 3.3.1)."""
    if not wanted:
        return None
    wanted = wanted.lower()
    return {
        number
        for number, tag in enumerate(tags)
        if tag == wanted or tag.startswith(wanted + "-")
    }


def _draw(
    weights: Sequence[float], first: int, end: int, gone: Sequence[int], rng: Random
) -> int:
    """A place from `first` up to `end` by weight, none of `gone` (ascending).

    `weights` are summed up from `first`; at least one place is not gone.
    """
    if not gone:
        return bisect_right(weights, rng.random() * weights[end - 1], first, end - 1)
    spans = [(weights[at - 1] if at > first else 0.0, weights[at]) for at in gone]
    point = rng.random() * (weights[end - 1] - sum(b - a for a, b in spans))
    # As if what is gone were cut out, and the rest pushed together.
    for start, stop in spans:
        if point < start:
            break
        point += stop - start
    drawn = bisect_right(weights, point, first, end - 1)
    while drawn in gone:
        # Only by rounding: the point stands on an edge.
        drawn = drawn + 1 if drawn + 1 < end else first
    return drawn
