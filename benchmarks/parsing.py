"""What reading a feed of 20 posts costs, and what of it.

    python -m benchmarks.parsing [ROUNDS]

Without feedparser and with it, alone and in a child as `work` does it.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from unittest import mock

from benchmarks import report
from feeds import parsing, wellformed
from tests.feeds import platforms

ROUNDS = 50
POSTS = 20
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
URL = "https://blog.example/feed.xml"
TYPE = "application/xml"
FEEDS = {
    "RSS (WordPress)": platforms.wordpress,
    "RSS (Hugo)": platforms.hugo,
    "Atom (Jekyll)": platforms.jekyll,
    "RDF": platforms.rdf,
}


def measure(body: bytes, rounds: int) -> list[float]:
    """Milliseconds: the fast reader, all of a feed with it, feedparser, all with it.

    The best of all rounds, since whatever else runs can only add to it.
    """

    def all_of_it() -> None:
        parsing.parse(body, url=URL, content_type=TYPE, now=NOW)

    read = _best(lambda: wellformed.read(body, url=URL, content_type=TYPE), rounds)
    fast = _best(all_of_it, rounds)
    feedparser = _best(lambda: parsing.by_feedparser(body, URL, TYPE), rounds)
    with mock.patch.object(wellformed, "read", return_value=None):
        slow = _best(all_of_it, rounds)
    return [read, fast, feedparser, slow]


def _best(call: Callable[[], object], rounds: int) -> float:
    call()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times) * 1000


async def in_a_child(body: bytes, rounds: int) -> float:
    """Milliseconds a feed, with the way there and back."""
    times = []
    async with parsing.Parsers(1) as parsers:
        for _ in range(rounds + 1):
            started = time.perf_counter()
            await parsers.parse(body, url=URL, content_type=TYPE, now=NOW)
            times.append(time.perf_counter() - started)
    # The first waits for the child to start.
    return min(times[1:]) * 1000


def main(rounds: int) -> None:
    rows = []
    for name, made in FEEDS.items():
        body = made(POSTS).encode()
        assert wellformed.read(body, url=URL, content_type=TYPE)
        read, fast, feedparser, slow = measure(body, rounds)
        child = asyncio.run(in_a_child(body, rounds))
        times = (f"{ms:.2f}" for ms in (read, fast, child, feedparser, slow))
        share = f"{read / fast:.0%}"
        size = f"{len(body) / 1000:.0f}"
        rows.append([name, size, *times, share, f"{slow / fast:.1f}"])
    head = ["feed", "kB", "read ms", "and cleaned", "and in a child"]
    head += ["feedparser ms", "and cleaned", "reading's share", "times faster"]
    report.write("parsing", f"A feed of {POSTS} posts", report.markdown(head, rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
