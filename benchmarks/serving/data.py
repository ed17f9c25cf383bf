"""A site's data of a given size, made once and kept in var/bench/.

    python -m benchmarks.serving.data FOLDER ENTRIES RULES

Ten entries a feed; a twentieth of the feeds is blocked by a rule each, and the
other rules are of hosts that have none.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from tests.serving import ROOT, clean_environ, manage

KEPT = ROOT / "var" / "bench"
ENTRIES_A_FEED = 10
LANGUAGES = ("en", "de", "fr", "es")
CATEGORIES = ("art", "books", "history", "music", "programming", "science", "travel")
_WORDS = (
    "a",
    "bread",
    "garden",
    "machines",
    "maps",
    "notes",
    "of",
    "old",
    "the",
    "web",
)


def folder(entries: int, rules: int) -> Path:
    """FEEDSITE_DATA with so much in it; made now if it is not there yet."""
    made = KEPT / f"{entries}-entries-{rules}-rules"
    if not made.exists():
        print(f"Making {entries:,} entries and {rules:,} rules ...", flush=True)
        KEPT.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole: what was cut off is made again.
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=KEPT))
        try:
            subprocess.run(
                [sys.executable, "-m", __name__, unfinished, str(entries), str(rules)],
                cwd=ROOT,
                env=clean_environ(FEEDSITE_DATA=unfinished),
                check=True,
            )
            unfinished.rename(made)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return made


def host(feed: int) -> str:
    return f"blog-{feed}.example"


def blocked(feed: int) -> bool:
    return feed % 20 == 0


def feed_of(entry: int, feeds: int) -> int:
    return (entry - 1) % feeds + 1


def rules_of(count: int, feeds: int) -> Iterator[str]:
    """The hosts of so many rules."""
    ours = [host(feed) for feed in range(1, feeds + 1) if blocked(feed)]
    yield from ours[:count]
    yield from (f"other-{number}.example" for number in range(count - len(ours)))


def _make(data: Path, entries: int, rules: int) -> None:
    import django

    django.setup()
    from django.db import transaction

    from blacklist import bulk
    from feeds import storing
    from feeds.models import Category, Entry, Feed, PoolState

    feeds = max(1, entries // ENTRIES_A_FEED)
    rng = Random(1)
    Category.objects.bulk_create(
        Category(slug=name, name=name.title()) for name in CATEGORIES
    )
    categories = list(Category.objects.values_list("pk", flat=True))
    rows = {
        Feed: (_feed(number, categories, rng) for number in range(1, feeds + 1)),
        Entry: (_entry(number, feeds, rng) for number in range(1, entries + 1)),
    }
    for model, of in rows.items():
        for chunk in storing.chunks(of):
            with transaction.atomic():
                bulk.insert(chunk, model).execute()
    PoolState.touch()
    listed = data / "rules.txt"
    listed.write_text("\n".join(rules_of(rules, feeds)))
    environ = clean_environ(FEEDSITE_DATA=data)
    manage(environ, "importblacklist", str(listed), timeout=600).check_returncode()
    listed.unlink()


def _feed(number: int, categories: list[int], rng: Random) -> dict[str, Any]:
    site = f"https://{host(number)}/"
    return {
        "url": f"{site}feed.xml",
        "identity": f"{number:032x}",
        "site_url": site,
        "host": host(number),
        "title": _text(rng, 25).title(),
        "language": LANGUAGES[0],
        "category_id": rng.choice(categories),
        # Nobody is to ask for them.
        "next_fetch_at": None,
        "up": rng.randrange(40),
        "down": rng.randrange(20),
    }


def _entry(number: int, feeds: int, rng: Random) -> dict[str, Any]:
    feed = feed_of(number, feeds)
    title = _text(rng, 50)
    published = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(hours=number % 10_000)
    up, down = rng.randrange(4), rng.randrange(2)
    return {
        "feed_id": feed,
        "identity": f"{number:032x}",
        "guid": f"{number:032x}",
        "url": f"https://{host(feed)}/{number}/{title.replace(' ', '-')}/",
        "host": host(feed),
        "title": title.capitalize(),
        "author": _text(rng, 12).title(),
        "excerpt": _text(rng, 180),
        "language": rng.choice(LANGUAGES),
        "published_at": published,
        "sort_at": published,
        "up": up,
        "down": down,
        "score": (up + 2.5) / (up + down + 5),
    }


def _text(rng: Random, length: int) -> str:
    words = " ".join(rng.choices(_WORDS, k=length // 4))
    return words[:length].strip()


if __name__ == "__main__":
    path, entries, rules = sys.argv[1:]
    os.environ["DJANGO_SETTINGS_MODULE"] = "feedsite.settings"
    manage(dict(os.environ), "migrate").check_returncode()
    _make(Path(path), int(entries), int(rules))
