"""How long an import of 100,000 rules takes, and how long others wait meanwhile.

    python -m benchmarks.blacklist_import [FEEDS ...]

Preview, commit and undo beside a pool of so many feeds of two posts each, while
another process writes all the time, as votes do. Then the admin's pages.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import report
from tests.serving import clean_environ, manage

RULES = 100_000
_WRITER = """
import sys, threading, time
import django
django.setup()
from feeds.models import PoolState
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
PoolState.touch()
print("ready", flush=True)
longest = 0.0
while not stop.wait(0.05):
    began = time.perf_counter()
    PoolState.touch()
    longest = max(longest, time.perf_counter() - began)
print(longest)
"""


def measure(feeds: int) -> list[list[str]]:
    """Rows of the table: feeds, what, seconds, longest wait of a writer in ms."""
    from blacklist import importing
    from blacklist.models import ImportBatch
    from feeds import picking

    _fill(feeds)
    picking.refresh()
    every = max(1, feeds // 5_000)
    hosts = [f"site{number}.example" for number in range(0, feeds, every)]
    hosts += [f"other{number}.example" for number in range(RULES - len(hosts))]
    data = "".join(f"{host}\n" for host in hosts).encode()
    pending = importing.keep(
        data, source="list.txt", format="", reason="spam", author=None
    )
    rows = []

    def timed(what: str, do: Callable[[], Any]) -> Any:
        with _writer() as waited:
            began, used = time.perf_counter(), time.process_time()
            done = do()
            took = time.perf_counter() - began
            used = time.process_time() - used
        times = [f"{took:.2f}", f"{used:.2f}", f"{waited[0] * 1e3:.0f}"]
        rows.append([f"{feeds:,}", what, *times])
        return done

    plan = timed("preview", lambda: importing.preview(pending, importing.Choices()))
    timed("of it, the impact", plan.impact)
    pages = _pages(pending.pk)
    batch: ImportBatch = timed(
        "commit", lambda: importing.commit(plan, pending=pending)
    )
    timed("the same list again: plan", lambda: importing.plan(data, source="list.txt"))
    timed("another's list: plan", lambda: importing.plan(data, source="other.txt"))
    pages += _pages_of(batch.pk)
    timed("undo", lambda: importing.undo(batch, author=None))
    return [*rows, *([f"{feeds:,}", *page, "", ""] for page in pages)]


def _pages(pending: int) -> list[list[str]]:
    preview = f"/admin/blacklist/importbatch/preview/{pending}/"
    return _asked(preview, f"{preview}new/?page=400")


def _pages_of(batch: int) -> list[list[str]]:
    batches = "/admin/blacklist/importbatch/"
    return _asked(
        "/admin/blacklist/importbatch/add/",
        batches,
        f"{batches}{batch}/change/",
        f"{batches}{batch}/undo/",
        f"/admin/blacklist/blacklisteddomain/?origin=import:{batch}",
    )


def _asked(*urls: str) -> list[list[str]]:
    from django.contrib.auth.models import User
    from django.test import Client

    user, _ = User.objects.get_or_create(
        username="root", is_staff=True, is_superuser=True
    )
    client = Client(SERVER_NAME="localhost")
    client.force_login(user)
    rows = []
    for url in urls:
        client.get(url)  # templates are read once
        began = time.perf_counter()
        assert client.get(url).status_code == 200, url
        rows.append([f"`{url}`", f"{time.perf_counter() - began:.3f}"])
    return rows


@contextmanager
def _writer() -> Iterator[list[float]]:
    waited: list[float] = []
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield waited
    finally:
        out, _ = process.communicate("")
        waited.append(float(out))


def _fill(feeds: int) -> None:
    from django.utils import timezone

    from feeds import storing
    from feeds.models import Category, Entry, Feed

    category, _ = Category.objects.get_or_create(slug="art", name="art")
    there = Feed.objects.count()
    for start in range(there, feeds, 500):
        made = []
        for number in range(start, min(start + 500, feeds)):
            host = f"site{number}.example"
            url = f"https://{host}/feed"
            made.append(
                Feed(
                    url=url,
                    identity=storing.feed_identity(url),
                    host=host,
                    category=category,
                )
            )
        Feed.objects.bulk_create(made)
        Entry.objects.bulk_create(
            Entry(
                feed=feed,
                identity=f"{feed.pk}-{post}",
                guid=str(post),
                url=f"https://{feed.host}/{post}",
                host=feed.host,
                sort_at=timezone.now(),
                title="A post",
            )
            for feed in made
            for post in range(2)
        )


def main(sizes: list[int]) -> None:
    rows = []
    with tempfile.TemporaryDirectory(prefix="feedsite-bench-") as folder:
        os.environ.update(
            FEEDSITE_DATA=folder, DJANGO_SETTINGS_MODULE="feedsite.settings"
        )
        manage(clean_environ(FEEDSITE_DATA=folder), "migrate").check_returncode()
        import django

        django.setup()
        for size in sizes:
            rows += measure(size)
        from django.db import connection

        connection.close()
    head = ["feeds", "what", "seconds", "of CPU", "longest wait of a writer, ms"]
    report.write(
        "blacklist_import",
        f"Importing a list of {RULES:,} rules",
        report.markdown(head, rows),
    )


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [300, 36_000])
