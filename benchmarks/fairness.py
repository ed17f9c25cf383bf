"""Who is shown, and how good it is, under our law and under others.

    python -m benchmarks.fairness [DRAWS]

Simulated readers vote by a quality that only they know, and their votes decide what
is shown next. Nothing is timed: the same seeds give the same numbers anywhere.
"""

import statistics
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import sqrt
from random import Random

from benchmarks import report
from feeds import ranking
from feeds.pool import Filter, PoolBuilder, PoolEntry

DRAWS = 120_000
# The votes of so many draws count together, as between two builds of the pool.
REBUILT_AFTER = 1_000
SEEDS = range(1, 6)
FEEDS = 100
LEAST, MOST = 5, 100  # posts of a feed
VOTES = 0.05  # of the readers
QUALITY = 0.25  # of all posts
ALIKE = 8.0  # the feeds to each other, and the posts of a feed to each other


@dataclass
class Post:
    feed: int
    quality: float  # how likely a vote on it is up
    up: int = 0
    down: int = 0
    views: int = 0


@dataclass
class Site:
    posts: list[Post] = field(default_factory=list)
    feeds: list[list[int]] = field(default_factory=list)

    @classmethod
    def made(cls, rng: Random) -> "Site":
        site = cls()
        for number in range(FEEDS):
            # As many feeds of 5 to 10 posts as of 50 to 100.
            size = round(LEAST * (MOST / LEAST) ** rng.random())
            usual = _quality(QUALITY, rng)
            start = len(site.posts)
            for _ in range(size):
                quality = _quality(usual, rng)
                site.posts.append(Post(number, quality))
            site.feeds.append(list(range(start, len(site.posts))))
        return site


def _quality(mean: float, rng: Random) -> float:
    likes, dislikes = max(ALIKE * mean, 0.01), max(ALIKE * (1 - mean), 0.01)
    return rng.betavariate(likes, dislikes)


# How a site draws until its pool is built again: the numbers of posts, endlessly.
Rule = Callable[[Site, Random], Iterator[int]]


def ours(site: Site, rng: Random) -> Iterator[int]:
    ups = [sum(site.posts[at].up for at in feed) for feed in site.feeds]
    downs = [sum(site.posts[at].down for at in feed) for feed in site.feeds]
    rate = ranking.site_rate(sum(ups), sum(downs))
    builder = PoolBuilder()
    for number, feed in enumerate(site.feeds):
        of_feed = ranking.feed_rate(ups[number], downs[number], rate)
        entries = []
        for at in feed:
            post = site.posts[at]
            of_entry = ranking.entry_rate(post.up, post.down, of_feed)
            entries.append(PoolEntry(at, ranking.weight(of_entry, rate), "", "", None))
        builder.add(number, ranking.weight(of_feed, rate), "", "", entries)
    pool = builder.done()
    view = pool.view(pool.blocked(lambda _: False), Filter())
    while True:
        for place in view.choose(1, (), rng):
            yield pool.ids[place]


def uniform(site: Site, rng: Random) -> Iterator[int]:
    while True:
        yield rng.randrange(len(site.posts))


def uniform_over_feeds(site: Site, rng: Random) -> Iterator[int]:
    while True:
        yield rng.choice(rng.choice(site.feeds))


def by_raw_count(site: Site, rng: Random) -> Iterator[int]:
    return _by_weight([1.0 + post.up for post in site.posts], rng)


def by_wilson(site: Site, rng: Random) -> Iterator[int]:
    return _by_weight([max(_wilson(post), 0.01) for post in site.posts], rng)


def sorted_by_wilson(site: Site, rng: Random) -> Iterator[int]:
    everything = range(len(site.posts))
    ordered = sorted(everything, key=lambda at: _wilson(site.posts[at]), reverse=True)
    best = ordered[: len(ordered) // 100]
    while True:
        yield rng.choice(best if rng.random() < 0.5 else everything)


RULES: dict[str, Rule] = {
    "uniform over posts": uniform,
    "uniform over feeds, then over its posts": uniform_over_feeds,
    "**our law**": ours,
    "by votes up + 1": by_raw_count,
    "by Wilson's bound, at least 0.01": by_wilson,
    "half the calls: the best 1 % by Wilson's bound": sorted_by_wilson,
}


def _by_weight(weights: Sequence[float], rng: Random) -> Iterator[int]:
    summed = list(accumulate(weights))
    while True:
        yield bisect_right(summed, rng.random() * summed[-1], 0, len(summed) - 1)


def _wilson(post: Post) -> float:
    """The lower end of the 95 % interval of the share of votes that are up."""
    votes, z = post.up + post.down, 1.96
    if not votes:
        return 0.0
    share = post.up / votes
    spread = z * sqrt(share * (1 - share) / votes + z * z / (4 * votes * votes))
    return (share + z * z / (2 * votes) - spread) / (1 + z * z / votes)


@dataclass(frozen=True)
class Shown:
    """What came of it; shares of all views."""

    quality: float
    quality_at_the_end: float
    of_top: float
    never: int
    of_quarters: list[float]
    posts: int


def simulate(rule: Rule, draws: int, seed: int) -> Shown:
    """The same site and the same readers under any rule."""
    site, rng = Site.made(Random(seed)), Random(seed)
    qualities = []
    for done in range(draws):
        if done % REBUILT_AFTER == 0:
            drawn = rule(site, rng)
        post = site.posts[next(drawn)]
        post.views += 1
        qualities.append(post.quality)
        if rng.random() < VOTES:
            liked = rng.random() < post.quality
            post.up, post.down = post.up + liked, post.down + (not liked)
    views = sorted((post.views for post in site.posts), reverse=True)
    by_size = sorted(site.feeds, key=len)
    quarters = [
        sum(
            site.posts[at].views
            for feed in by_size[first::][: FEEDS // 4]
            for at in feed
        )
        for first in range(0, FEEDS, FEEDS // 4)
    ]
    return Shown(
        statistics.fmean(qualities),
        statistics.fmean(qualities[-draws // 4 :]),
        sum(views[: len(views) // 100]) / draws,
        views.count(0),
        [quarter / draws for quarter in quarters],
        len(views),
    )


def main(draws: int) -> None:
    rows = []
    for name, rule in RULES.items():
        runs = [simulate(rule, draws, seed) for seed in SEEDS]
        quarters = zip(*(run.of_quarters for run in runs), strict=True)
        rows.append(
            [
                name,
                f"{statistics.fmean(run.quality for run in runs):.3f}",
                f"{statistics.fmean(run.quality_at_the_end for run in runs):.3f}",
                f"{statistics.fmean(run.of_top for run in runs):.1%}",
                f"{statistics.fmean(run.never for run in runs):.1f}",
                *(f"{statistics.fmean(quarter):.0%}" for quarter in quarters),
            ]
        )
    posts = statistics.fmean(run.posts for run in runs)
    head = [
        "drawn",
        "mean quality shown",
        "in the last quarter",
        "views of the 1 % most shown",
        "posts never shown",
        "views of the smallest quarter of feeds",
        "second",
        "third",
        "largest",
    ]
    report.write(
        "fairness",
        "Who is shown, and how good it is",
        f"{draws:,} draws from {FEEDS} feeds of {LEAST} to {MOST} posts ({posts:,.0f} "
        f"in all); {VOTES:.0%} of the readers vote, up as likely as the post is good; "
        f"the pool is built again every {REBUILT_AFTER:,} draws. Means of "
        f"{len(SEEDS)} sites, made from seeds: not timed, and the same anywhere.\n\n"
        + report.markdown(head, rows),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
