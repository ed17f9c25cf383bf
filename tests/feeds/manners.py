"""How politely hosts were asked: a log of requests against the limits (pure)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from feeds.politeness import Limits, platform_of
from tests.feeds.publishers import AGAIN

# What two clocks on a busy machine may differ by, besides what was measured.
TOLERANCE = 0.05


class Request(NamedTuple):
    """One request; times in seconds of one clock; `status` 0: no HTTP answer."""

    host: str
    target: str
    start: float
    end: float
    status: int
    port: str = ""  # as it was asked for, with its colon

    @property
    def url(self) -> str:
        return f"http://{self.host}{self.port}{self.target}"

    @property
    def is_first(self) -> bool:
        """Not a hop of a redirect."""
        return not self.target.startswith(AGAIN)


@dataclass(frozen=True)
class Log:
    """All requests; by tenth of a second how late the measuring process itself was;
    how often the canary was called, which is on loopback and nobody's to call."""

    requests: list[Request]
    lateness: dict[int, float] = field(default_factory=dict)
    canary: int = 0

    def late(self, at: float) -> float:
        return self.lateness.get(int(at * 10), 0.0)

    def times_asked(self) -> Counter[str]:
        """How often each feed was asked, hops of redirects left out."""
        return Counter(one.url for one in self.requests if one.is_first)

    def count(self, status: int, of: Callable[[str], bool]) -> int:
        """So many such answers from hosts that are `of` a kind."""
        return sum(one.status == status and of(one.host) for one in self.requests)

    def local_targets(self) -> int:
        """Requests, by whatever spelling, for this machine instead of a host."""
        return sum(
            one.host == "localhost" or one.host[:1] == "[" or one.host[-1:].isdigit()
            for one in self.requests
        )

    def seconds(self) -> float:
        """From the first request to the end of the last."""
        if not self.requests:
            return 0.0
        first = min(one.start for one in self.requests)
        return max(one.end for one in self.requests) - first


def host_of(url: str) -> str:
    """The host of a plain address, as a log has it."""
    return url.split("/")[2].partition(":")[0]


@dataclass
class Verdict:
    """What was seen of one kind (hosts, platforms); distances in seconds.

    `closest` is the smallest distance between two starts, measured against what was
    allowed there: 1.0 is just on the limit. `most_open` likewise is a share of the
    connections allowed.
    """

    groups: int = 0
    closest: float = float("inf")
    most_open: float = 0.0
    too_close: int = 0
    too_many: int = 0
    worst: str = ""

    @property
    def violations(self) -> int:
        return self.too_close + self.too_many


def judge(log: Log, limits: Limits) -> tuple[Verdict, Verdict]:
    """Of hosts and of platforms. A distance may be short by `TOLERANCE` and by what
    the measuring process was late for its first request; an end counts that much
    earlier. Limits of 0 seconds are not looked at."""
    hosts: dict[str, list[Request]] = defaultdict(list)
    platforms: dict[str, list[Request]] = defaultdict(list)
    allowed: dict[str, tuple[float, int]] = {}
    for one in log.requests:
        platform = platform_of(one.host)
        hosts[one.host].append(one)
        platforms[platform.name].append(one)
        allowed[platform.name] = limits.of_platform(platform)
    of_host = limits.host_interval, limits.host_connections
    return (
        _judge(log, hosts, lambda host: of_host),
        _judge(log, platforms, allowed.__getitem__),
    )


def _judge(
    log: Log,
    groups: dict[str, list[Request]],
    allowed: Callable[[str], tuple[float, int]],
) -> Verdict:
    verdict = Verdict(groups=len(groups))
    for name, requests in groups.items():
        interval, connections = allowed(name)
        requests.sort(key=lambda one: one.start)
        before = verdict.violations
        if interval:
            _distances(log, requests, interval, verdict)
        most = _most_open(log, requests)
        verdict.most_open = max(verdict.most_open, most / connections)
        verdict.too_many += most > connections
        if verdict.violations > before:
            verdict.worst = name
    return verdict


def _distances(
    log: Log, requests: list[Request], interval: float, verdict: Verdict
) -> None:
    for one, other in pairwise(requests):
        distance = other.start - one.start
        verdict.closest = min(verdict.closest, distance / interval)
        verdict.too_close += distance < interval - TOLERANCE - log.late(one.start)


def _most_open(log: Log, requests: Iterable[Request]) -> int:
    steps: list[tuple[float, int]] = []
    for one in requests:
        # What ended is told as late as we are; nothing ends before it began.
        end = max(one.start + 1e-6, one.end - TOLERANCE - log.late(one.end))
        steps += [(one.start, 1), (end, -1)]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most
