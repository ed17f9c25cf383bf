"""What the pool costs by its size: memory, picks, new filters, rebuilds.

    python -m benchmarks.pool [ENTRIES ...]

Generated rows in SQLite, nothing rendered ahead. Reads go on at a fixed beat, so few
that the server is never what they wait for, while a real server builds anew.
"""

import ast
import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from benchmarks import report
from tests import processes
from tests.serving import Server, clean_environ, manage, serving

OF_A_FEED = 25  # entries, on average
CATEGORIES = 20
PICKS = 10_000
WORKERS = 2
CALLS_A_SECOND = 50
IDLE = 15.0  # seconds
# A worker rests this long between two builds at most (picking), and a bit.
REST = 42.0


def fill(entries: int) -> None:
    """The rows of so many entries; a tenth of the feeds link to others at times."""
    from feeds.models import Category, Entry, Feed, PoolState
    from tests.feeds.rows import entry_number, feed_number

    for number in range(CATEGORIES):
        Category.objects.create(pk=number + 1, slug=f"c{number}", name=f"C {number}")
    feeds = entries // OF_A_FEED
    feed = feed_number(feeds + 1)
    entry = entry_number(feed, entries + 1, excerpt="Some words. " * 12)
    _multiply(
        feed,
        feeds,
        url="'https://blog' || i || '.example/feed'",
        identity="'blog' || i",
        host="'blog' || i || '.example'",
        language="CASE WHEN i % 8 < 5 THEN 'en' WHEN i % 8 < 7 THEN 'de' ELSE 'fr' END",
        category_id=f"i * 7 % {CATEGORIES} + 1",
        up="i * 31 % 9",
        down="i * 37 % 9",
    )
    owner = f"i * 7919 % {feeds} + 1"
    host = f"CASE WHEN {owner} % 10 = 0 AND i % 3 = 0 THEN i % {feeds} ELSE {owner} END"
    date = "datetime(unixepoch() - i * 104729 % 86400000, 'unixepoch')"
    _multiply(
        entry,
        entries,
        feed_id=owner,
        identity="'e' || i",
        guid="'e' || i",
        url=f"'https://blog' || {host} || '.example/' || i",
        host=f"'blog' || ({host}) || '.example'",
        published_at=f"CASE WHEN i % 20 = 0 THEN NULL ELSE {date} END",
        sort_at=date,
        up="i * 31 % 4",
        down="i * 37 % 3",
    )
    Entry.objects.filter(pk=entry.pk).delete()
    Feed.objects.filter(pk=feed.pk).delete()
    PoolState.touch()


def _multiply(row: Any, count: int, **columns: str) -> None:
    """So many rows like this one, with other columns as SQL over `i` says."""
    from django.db import connection

    names = [field.column for field in row._meta.local_fields if not field.primary_key]
    values = ", ".join(columns.get(name, f"t.{name}") for name in names)
    table = row._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE n(i) AS "  # noqa: S608
            f"(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
            f"INSERT INTO {table} ({', '.join(names)}) "
            f"SELECT {values} FROM n, {table} t WHERE t.id = {row.pk}"
        )


def memory_and_picks() -> tuple[float, list[list[Any]]]:
    """Bytes an entry of a process that maps what a builder made, and of each filter
    its name, milliseconds until its view is there, microseconds a pick, and a pick
    that excludes 200."""
    from blacklist import cache
    from feeds import picking
    from feeds.builder import Builder
    from feeds.picking import PickRequest

    cache.current()
    with Builder() as builder:
        picking.building.version()
        before = processes.pss(os.getpid())
        picking._held.build(builder.build)
    pool = picking.current().pool
    # Every page of it, as picks over time would; and the builder has gone by then.
    for name in pool.__slots__:
        column = getattr(pool, name)
        if not isinstance(column, tuple):
            sum(memoryview(column).cast("B")[::1024])
    time.sleep(2)
    memory = (processes.pss(os.getpid()) - before) / len(pool.ids)
    rng = Random(2)
    exclude = frozenset(rng.choice(pool.ids) for _ in range(200))
    feed = pool.feeds[len(pool.feeds) // 2]
    filters: dict[str, dict[str, Any]] = {
        "none": {},
        "category": {"category": "c3"},
        "language": {"language": "en"},
        "feed": {"feed": feed},
        "max_age_days": {"max_age_days": 365},
        "three of them": {"category": "c3", "language": "en", "max_age_days": 365},
    }
    rows = []
    for name, asked in filters.items():
        wanted = picking._wanted(PickRequest(**asked), None)
        blocked = bytes(len(pool.hosts()))
        began = time.thread_time()
        view = pool.view(blocked, wanted)
        made = time.thread_time() - began
        plain = _cost(lambda view=view: view.choose(1, (), rng))
        excluding = _cost(lambda view=view: view.choose(1, exclude, rng))
        rows.append([name, made * 1e3, plain, excluding])
    return memory, rows


def _cost(do: Callable[[], object]) -> float:
    """Microseconds of CPU."""
    began = time.thread_time()
    for _ in range(PICKS):
        do()
    return (time.thread_time() - began) / PICKS * 1e6


def _in_a_child(do: Callable[[], Any]) -> Any:
    """What it returns in a process of its own."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(tell, repr(do()).encode())
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(told) as pipe:
        found = ast.literal_eval(pipe.read())
    os.waitpid(child, 0)
    return found


class Watch(threading.Thread):
    """The builder of a server, and the memory of it and the workers; until `over`."""

    def __init__(self, site: Server) -> None:
        super().__init__(daemon=True)
        self.site, self.over = site, threading.Event()
        self.workers = set(site.pids())
        self.builders: dict[int, processes.Cpu] = {}
        self.began = self.ended = 0.0
        self.peak = self.builders_peak = self.before = 0

    def run(self) -> None:
        self.before = sum(map(processes.pss, self.workers))
        while not self.over.wait(0.1):
            builders = processes.descendants(self.site.process.pid) - self.workers
            with suppress(OSError):
                self._look(builders)

    def _look(self, builders: set[int]) -> None:
        now = time.monotonic()
        for pid in builders:
            cpu = processes.cpu(pid)
            if cpu != self.builders.get(pid):
                self.began, self.ended = self.began or now, now
            self.builders[pid] = cpu
        of_builders = sum(map(processes.pss, builders))
        self.builders_peak = max(self.builders_peak, of_builders)
        of_workers = sum(map(processes.pss, self.workers))
        self.peak = max(self.peak, of_builders + of_workers)
        if self.ended and now - self.ended > 3:
            self.over.set()

    @property
    def cpu(self) -> float:
        return sum(cpu.total for cpu in self.builders.values())


async def _rebuild(site: Server, touch: Callable[[], None]) -> list[Any]:
    calls: list[tuple[float, float]] = []

    async def call(session: aiohttp.ClientSession, due: float) -> None:
        async with session.get("/api/v1/entries/random/") as response:
            await response.read()
            response.raise_for_status()
        calls.append((due, time.monotonic()))

    async def beat(session: aiohttp.ClientSession) -> None:
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(10**9):
                due = started + number / CALLS_A_SECOND
                await asyncio.sleep(due - time.monotonic())
                group.create_task(call(session, due))

    async with aiohttp.ClientSession(site.base_url) as session:
        beating = asyncio.create_task(beat(session))
        await asyncio.sleep(REST)
        touched = time.monotonic()
        watch = Watch(site)
        watch.start()
        await asyncio.to_thread(touch)
        await asyncio.to_thread(watch.join)
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
    idle, beside = (
        sorted(end - due for due, end in calls if first <= due < last)
        for first, last in ((touched - IDLE, touched), (watch.began, watch.ended))
    )
    p99 = [report.percentile(times, 99) * 1e3 for times in (idle, beside)]
    return [
        f"{watch.ended - watch.began:.1f}",
        f"{watch.cpu:.1f}",
        f"{watch.before / 1e6:.0f}",
        f"{watch.peak / 1e6:.0f}",
        f"{watch.builders_peak / 1e6:.0f}",
        *(f"{value:.1f}" for value in p99),
        f"{p99[1] / p99[0]:.1f}",
    ]


def _touch(environ: dict[str, str]) -> None:
    code = "from feeds.models import PoolState; PoolState.touch()"
    manage(environ, "shell", "-c", code).check_returncode()


def measure(entries: int) -> tuple[list[list[Any]], list[Any]]:
    """The rows of both tables."""
    with tempfile.TemporaryDirectory(prefix="feedsite-bench-") as folder:
        environ = clean_environ(FEEDSITE_DATA=folder, RENDERED_ENTRIES=0)
        manage(environ, "migrate").check_returncode()

        def first() -> tuple[float, list[list[Any]]]:
            os.environ.update(environ, DJANGO_SETTINGS_MODULE="feedsite.settings")
            import django

            django.setup()
            fill(entries)
            return memory_and_picks()

        memory, picks = _in_a_child(first)
        rows = [
            [f"{entries:,}", name, *(f"{number:.1f}" for number in numbers)]
            for name, *numbers in picks
        ]
        options: dict[str, Any] = {"workers": WORKERS, "RENDERED_ENTRIES": 0}
        with serving(Path(folder), **options) as site:
            rebuilt = asyncio.run(_rebuild(site, lambda: _touch(site.environ)))
    return rows, [f"{entries:,}", f"{memory:.0f}", *rebuilt]


def main(sizes: list[int]) -> None:
    picks, rebuilds = [], []
    for size in sizes:
        rows, rebuilt = measure(size)
        picks += rows
        rebuilds.append(rebuilt)
    head = [
        "entries",
        "bytes an entry of a process that has it alone",
        "rebuild s",
        "its CPU s",
        f"{WORKERS} workers before MB",
        "workers and builder at most MB",
        "builder at most MB",
        "reads' p99, idle ms",
        "while it is built ms",
        "ratio",
    ]
    by_filter = ["entries", "filter", "first pick ms", "pick us", "excluding 200 us"]
    report.write(
        "pool",
        "What the pool costs by its size",
        f"{OF_A_FEED} entries a feed, nothing rendered ahead; {CALLS_A_SECOND} reads "
        f"a second. Picks and the view that the first one makes are CPU.\n\n"
        f"{report.markdown(head, rebuilds)}\n\n{report.markdown(by_filter, picks)}",
    )


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
