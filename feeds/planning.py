"""Who is asked next: feeds wait by platform, and platforms take turns.

So nobody waits for the turns of a platform that has thousands of feeds, and no
request waits for its turn while it could be another's.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from feeds.politeness import Limits, Platform


class Waiting(NamedTuple):
    """What is left of a platform: so many feeds, for at least so many seconds."""

    platform: str
    feeds: int
    seconds: float


@dataclass(slots=True)
class _Queue:
    """The feeds of one platform that wait, and what is under way of it."""

    platform: Platform
    interval: float  # seconds
    connections: int
    # A list: a deque is ten times the size, and there is one for every platform.
    feeds: list[int] = field(default_factory=list)
    claimed: bool = False
    asked: int = 0  # not answered yet
    open: int = 0  # not settled yet, those asked included
    not_before: float = 0.0

    @property
    def over(self) -> bool:
        return not self.feeds and not self.open


class Plan:
    """Feeds by id. Add them, claim their platforms, ask, say what became of each.

    Times are seconds of one monotonic clock, `now` a parameter.
    """

    def __init__(self, limits: Limits, platform_of: Callable[[str], Platform]) -> None:
        """`platform_of` the address of a feed."""
        self._limits = limits
        self._platform_of = platform_of
        self._queues: dict[str, _Queue] = {}
        self._queue_of: dict[int, _Queue] = {}
        # Platforms, in the order in which they should be claimed; those of which a
        # feed may be asked now; and those of which one may be later. A dict is used
        # as an ordered set.
        self._unclaimed: dict[str, None] = {}
        self._ready: dict[str, None] = {}
        self._later: list[tuple[float, str]] = []
        self._claimed = 0
        self._over: dict[str, None] = {}

    def __len__(self) -> int:
        """How many feeds are not settled yet."""
        return len(self._queue_of)

    def __contains__(self, platform: str) -> bool:
        """Whether anything of this platform is not settled yet."""
        return platform in self._queues

    def add(self, feeds: Iterable[tuple[int, str]]) -> None:
        """Feeds (id, address) to be asked; those known stay where they are."""
        for pk, url in feeds:
            if pk not in self._queue_of:
                queue = self._queue(self._platform_of(url))
                queue.feeds.append(pk)
                self._queue_of[pk] = queue
        # The largest first: they take longest, whatever else is done beside them.
        waiting = [queue for queue in self._queues.values() if queue.feeds]
        for queue in sorted(waiting, key=lambda queue: -len(queue.feeds)):
            self._wake(queue)

    def prefer(self, feeds: Iterable[int]) -> None:
        """These go before all others, if they still wait."""
        for pk in feeds:
            queue = self._queue_of.get(pk)
            if queue is None or pk not in queue.feeds:
                continue
            queue.feeds.remove(pk)
            queue.feeds.insert(0, pk)
            for order in (self._unclaimed, self._ready):
                if queue.platform.name in order:
                    others = [name for name in order if name != queue.platform.name]
                    order.clear()
                    order.update(dict.fromkeys([queue.platform.name, *others]))

    # Claims.

    @property
    def claimed(self) -> int:
        """How many platforms are claimed."""
        return self._claimed

    def to_claim(self, count: int) -> list[str]:
        """At most so many platforms to be claimed; not named again until put back."""
        names = list(self._unclaimed)[:count]
        for name in names:
            del self._unclaimed[name]
        return names

    def put_back(self, names: Iterable[str]) -> None:
        """These could not be claimed now: they are to be tried again."""
        for name in names:
            self._unclaimed.setdefault(name)

    def claim(self, names: Iterable[str]) -> None:
        """These are claimed: their feeds may be asked."""
        for name in names:
            queue = self._queues[name]
            self._claimed += not queue.claimed
            queue.claimed = True
            self._wake(queue)

    def lose(self, names: Iterable[str]) -> None:
        """These are claimed no more: what still waits has to be claimed again."""
        for name in names:
            queue = self._queues.get(name)
            if queue is not None and queue.claimed:
                self._claimed -= 1
                queue.claimed = False
                self._ready.pop(name, None)
                self._wake(queue)

    def give_up(self, names: Iterable[str]) -> list[int]:
        """Wait no longer for these; the feeds that nobody asked."""
        feeds: list[int] = []
        for name in names:
            queue = self._queues[name]
            feeds += queue.feeds
            queue.feeds.clear()
            self._end(queue)
        for pk in feeds:
            del self._queue_of[pk]
        return feeds

    def finished(self) -> list[str]:
        """Claimed platforms of which nothing is left, to be given back."""
        queues = [self._queues[name] for name in self._over if name in self._queues]
        done = [queue for queue in queues if queue.over]
        self._over.clear()
        for queue in done:
            self._claimed -= queue.claimed
            del self._queues[queue.platform.name]
        return [queue.platform.name for queue in done if queue.claimed]

    # Asking.

    def next(self, count: int, now: float) -> list[int]:
        """At most so many feeds to ask now; platforms take turns."""
        while self._later and self._later[0][0] <= now:
            _, name = heapq.heappop(self._later)
            if name in self._queues:
                self._wake(self._queues[name])
        feeds: list[int] = []
        while self._ready and len(feeds) < count:
            name = next(iter(self._ready))
            del self._ready[name]
            queue = self._queues[name]
            if queue.not_before > now:
                heapq.heappush(self._later, (queue.not_before, name))
                continue
            feeds.append(queue.feeds.pop(0))
            queue.asked += 1
            queue.open += 1
            queue.not_before = now + queue.interval
            self._wake(queue)
        return feeds

    def wait(self, now: float) -> float | None:
        """Seconds until another feed may be asked, if that is a matter of time."""
        return max(0.0, self._later[0][0] - now) if self._later else None

    def answered(self, pk: int, *, asked: bool = True) -> None:
        """Its platform has a connection free; and need not be spared if it was not
        `asked` after all."""
        queue = self._queue_of[pk]
        queue.asked -= 1
        if not asked:
            queue.not_before = 0.0
        self._wake(queue)

    def settled(self, pk: int) -> None:
        """All that came of it is written down; it may be added again."""
        queue = self._queue_of.pop(pk)
        queue.open -= 1
        self._end(queue)

    # Telling.

    def waiting(self) -> list[Waiting]:
        """What nobody asked yet, by platform, that which takes longest first."""
        left = [
            Waiting(name, len(queue.feeds), len(queue.feeds) * queue.interval)
            for name, queue in self._queues.items()
            if queue.feeds
        ]
        return sorted(left, key=lambda one: (-one.seconds, -one.feeds, one.platform))

    def _queue(self, platform: Platform) -> _Queue:
        if platform.name not in self._queues:
            interval, connections = self._limits.of_platform(platform)
            self._queues[platform.name] = _Queue(platform, interval, connections)
        return self._queues[platform.name]

    def _wake(self, queue: _Queue) -> None:
        if not queue.feeds:
            return
        if not queue.claimed:
            self._unclaimed.setdefault(queue.platform.name)
        elif queue.asked < queue.connections:
            self._ready.setdefault(queue.platform.name)

    def _end(self, queue: _Queue) -> None:
        if queue.over:
            self._over.setdefault(queue.platform.name)
