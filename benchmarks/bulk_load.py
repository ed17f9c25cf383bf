"""A loader as fast as it can be: what it stores is made up, not fetched.

    python -m benchmarks.bulk_load ENTRIES

Feeds of 20 posts, as many at a time as `loadfeeds` settles together. It says when it
begins; when all is stored, or its standard input ends, how many it stored and in how
many seconds.
"""

import os
import select
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

POSTS = 20
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def load(entries: int) -> tuple[int, float]:
    """Entries stored, and the seconds that took."""
    # Here, not above: the models need the settings, and those the environment.
    from feeds import feedlists, loading, storing
    from feeds.models import Feed

    mark = f"{os.getpid()}-{time.time_ns()}"
    stored, took = 0, 0.0
    with loading.Loader() as loader:
        while stored < entries and not select.select([sys.stdin], [], [], 0)[0]:
            feeds = min(loading.SETTLED_AT_ONCE, -(-(entries - stored) // POSTS))
            hosts = [f"s{stored}-{n}-{mark}.example" for n in range(feeds)]
            specs = [feedlists.FeedSpec(f"https://{host}/feed") for host in hosts]
            added = storing.add_feeds(specs, now=SINCE)
            rows = Feed.objects.filter(identity__in=added.identities)
            answers = list(_answers(rows))
            began = time.perf_counter()
            for outcome in loader.settle(answers):
                assert isinstance(outcome, loading.Loaded)
                stored += outcome.new
            took += time.perf_counter() - began
    return stored, took


def _answers(feeds: "Iterator[object]") -> Iterator[tuple[object, object]]:
    from feeds import asking, fetching, parsing

    for feed in feeds:
        site = f"https://{feed.host}/"
        posts = tuple(
            parsing.ParsedEntry(
                f"{site}{number}",
                f"{site}{number}",
                f"Post {number}",
                "",
                "What it is about, in some words. " * 4,
                SINCE + timedelta(hours=number),
                "en",
            )
            for number in range(POSTS)
        )
        parsed = parsing.ParsedFeed(feed.host, "", site, "en", posts, None)
        fetched = fetching.Fetched(feed.url, b"", "text/xml", "", "", None, None)
        yield feed, asking.Read(parsed, fetched)


if __name__ == "__main__":
    import django

    django.setup()
    print("loading", flush=True)
    print(*load(int(sys.argv[1])))
