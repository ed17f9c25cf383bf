"""The pool in memory: what may be drawn, and the draw itself."""

from array import array
from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from types import MappingProxyType
from typing import NamedTuple

_MIXED = -1
# Later than all: an entry without a date is never young enough.
_UNDATED = 2**62
_NOTHING_KNOWN: Mapping[str, int] = MappingProxyType({})


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
    # What the numbers above stand for. The hosts in one piece, each with a line end:
    # as an object each they took a fifth as much as all of the above.
    host_lines: bytearray
    languages: tuple[str, ...]
    categories: tuple[str, ...]

    def hosts(self) -> list[str]:
        """The hosts of all feeds and entries, as they are numbered."""
        return str(self.host_lines, "utf-8").split("\n")[:-1]

    def blocked(
        self, blocks: Callable[[str], bool], known: Mapping[str, int] = _NOTHING_KNOWN
    ) -> bytes:
        """For each host of the pool 1 if it is blocked, else 0.

        `known` says so of hosts that need not be asked for.
        """
        hosts = self.hosts()
        verdicts = zip(hosts, map(known.get, hosts), strict=True)
        return bytes([blocks(host) if v is None else v for host, v in verdicts])

    def view(self, blocked: bytes, wanted: Filter) -> "View":
        """What the filter and the blocked hosts leave."""
        # Each step looks at all feeds that are left, of which there may be 100,000,
        # and does little enough to be a list comprehension.
        numbers = self._in_category(self._of_feed(wanted.feed), wanted.category)
        tags = _matching(self.languages, wanted.language)
        if tags is not None:
            fits, languages = {*tags, _MIXED}, self.common_languages
            numbers = [n for n in numbers if languages[n] in fits] if tags else []
        hides = 1 in blocked
        if hides:
            # With one more, which _MIXED finds.
            out, sites, hosts = blocked + b"\0", self.feed_hosts, self.common_hosts
            numbers = [n for n in numbers if not (out[sites[n]] or out[hosts[n]])]
        limit = None
        if wanted.since is not None:
            limit = min(-wanted.since, _UNDATED - 1)
            ages, firsts = self.ages, self.firsts
            numbers = [n for n in numbers if ages[firsts[n]] <= limit]
        parts, emptied = {}, set()
        for number in self._mixed(numbers, hides, tags):
            (end,) = self.ends([number], limit)
            places = range(self.firsts[number], end)
            left = self._left(places, blocked, tags)
            if not left:
                emptied.add(number)
            elif len(left) < len(places):
                parts[number] = _Part(left, self._weights(places.start, left))
        if emptied:
            numbers = [n for n in numbers if n not in emptied]
        return View(self, numbers, limit, parts)

    def ends(self, numbers: Sequence[int], limit: int | None) -> list[int]:
        """Where the entries of these feeds end, or those of an age up to a limit."""
        ages, firsts = self.ages, self.firsts
        if limit is None:
            return [firsts[n + 1] for n in numbers]
        return [bisect_right(ages, limit, firsts[n], firsts[n + 1]) for n in numbers]

    def _of_feed(self, feed: int | None) -> Sequence[int]:
        if feed is None:
            return range(len(self.feeds))
        at = bisect_right(self.feeds, feed) - 1
        return [at] if at >= 0 and self.feeds[at] == feed else []

    def _in_category(self, numbers: Sequence[int], category: str) -> Sequence[int]:
        if not category:
            return numbers
        if category not in self.categories:
            return []
        wanted, categories = self.categories.index(category), self.feed_categories
        return [n for n in numbers if categories[n] == wanted]

    def _mixed(
        self, numbers: Sequence[int], hides: bool, tags: Collection[int] | None
    ) -> set[int]:
        """The feeds whose entries may fare differently."""
        hosts, languages = self.common_hosts, self.common_languages
        mixed = {n for n in numbers if hosts[n] == _MIXED} if hides else set()
        if tags is not None:
            mixed |= {n for n in numbers if languages[n] == _MIXED}
        return mixed

    def _left(
        self, places: range, blocked: bytes, tags: Collection[int] | None
    ) -> "array[int]":
        hosts, languages = self.entry_hosts, self.entry_languages
        return array(
            "I",
            [
                at
                for at in places
                if not blocked[hosts[at]] and (tags is None or languages[at] in tags)
            ],
        )

    def _weights(self, first: int, left: "array[int]") -> "array[float]":
        total, weights = 0.0, array("d")
        for at in left:
            total += self.weights[at] - (self.weights[at - 1] if at > first else 0.0)
            weights.append(total)
        return weights


class _Part(NamedTuple):
    """The entries that are left of a feed, where it isn't simply the newest."""

    entries: "array[int]"
    weights: "array[float]"


class View:
    """What of a pool may be drawn: feeds by number, the newest entries of each."""

    def __init__(
        self,
        pool: Pool,
        numbers: Sequence[int],
        limit: int | None,
        parts: dict[int, _Part],
    ) -> None:
        self.pool = pool
        self.feeds = numbers if isinstance(numbers, range) else array("I", numbers)
        weights = map(pool.feed_weights.__getitem__, numbers)
        self._weights = array("d", accumulate(weights))
        ends = pool.ends(numbers, limit)
        # Without a limit they are the pool's own.
        self._ends = None if limit is None else array("I", ends)
        self._parts = parts
        self.size = sum(ends) - sum([pool.firsts[n] for n in numbers])
        for number, end in zip(parts, pool.ends(list(parts), limit), strict=True):
            all_of_it = end - pool.firsts[number]
            self.size -= all_of_it - len(parts[number].entries)

    def numbers(self) -> int:
        """How many numbers it holds, of some 8 bytes each."""
        of_parts = sum(len(part.entries) for part in self._parts.values())
        return 2 * (len(self._weights) + of_parts)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Each feed's number in the pool, with how many of its entries are left."""
        for at, number in enumerate(self.feeds):
            first, end = self._span(at)
            part = self._parts.get(number)
            yield number, len(part.entries) if part else end - first

    def choose(self, count: int, exclude: Collection[int], rng: Random) -> list[int]:
        """Draw up to `count` entries by the law, none of `exclude`, none twice.

        Each draw is by the law on what is left: a feed by weight among those with
        anything left, then an entry by weight among those left of it. Returns their
        places in the pool, fewer than `count` when no more are left.
        """
        chosen: list[int] = []
        out = exclude
        spent: list[int] = []
        while len(chosen) < count and len(spent) < len(self.feeds):
            at = _draw(self._weights, 0, len(self._weights), spent, rng)
            entry = self._entry(at, out, rng)
            if entry is None:
                # That it is spent shows when it's drawn: drawing again among the
                # others is the law on what is left, and costs nothing otherwise.
                insort(spent, at)
            else:
                chosen.append(entry)
                if len(chosen) < count:
                    out = {*out, self.pool.ids[entry]}
        return chosen

    def _entry(self, at: int, out: Collection[int], rng: Random) -> int | None:
        ids, number = self.pool.ids, self.feeds[at]
        entries: Sequence[int]
        if number in self._parts:
            entries, weights = self._parts[number]
            first, end = 0, len(entries)
        else:
            first, end = self._span(at)
            entries, weights = range(end), self.pool.weights
        drawn = _draw(weights, first, end, (), rng)
        if ids[entries[drawn]] in out:
            # Not drawn again until one fits: most of a feed may be out.
            gone = [i for i in range(first, end) if ids[entries[i]] in out]
            if len(gone) == end - first:
                return None
            drawn = _draw(weights, first, end, gone, rng)
        return entries[drawn]

    def _span(self, at: int) -> tuple[int, int]:
        firsts, number = self.pool.firsts, self.feeds[at]
        end = self._ends[at] if self._ends else firsts[number + 1]
        return firsts[number], end


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
            common_hosts=array("i"),
            common_languages=array("i"),
            ids=array("q"),
            weights=array("d"),
            ages=array("q"),
            entry_hosts=array("I"),
            entry_languages=array("I"),
            host_lines=bytearray(),
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
            host_lines=bytearray("".join(f"{host}\n" for host in self._hosts).encode()),
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
