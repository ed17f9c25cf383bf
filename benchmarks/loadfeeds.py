"""loadfeeds on lists of any length, against an internet on loopback.

    python -m benchmarks.loadfeeds                      all parts, small: some minutes
    python -m benchmarks.loadfeeds throughput --sizes 1000,3000,9000,36000
    python -m benchmarks.loadfeeds list --feeds 0       the whole list, no pauses
    python -m benchmarks.loadfeeds list --feeds 0 --polite     with them: 25 minutes
    python -m benchmarks.loadfeeds serving              beside a site that serves
    python -m benchmarks.loadfeeds kills --kills 50
    python -m benchmarks.loadfeeds two                  two loaders on PostgreSQL

A part that is named writes results/loadfeeds_PART.md, all of them loadfeeds.md. The
list is the one that FEEDSITE_FEED_LIST names.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report
from tests import processes
from tests.feeds.big_internet import BigInternet, over_http
from tests.feeds.manners import Log
from tests.feeds.publishers import Habits
from tests.processes import Cost, Cpu
from tests.serving import ROOT, clean_environ, manage

# As they are in the wild, more or less.
MANY_KINDS = Habits(faulty=0.2, odd=0.2)
NO_PAUSES = {"FEEDS_HOST_INTERVAL": 0, "FEEDS_PLATFORM_INTERVAL": 0}


# A site without a server, and a loader on it.


@dataclass(frozen=True)
class Site:
    """A fresh database, and the environment of commands on it."""

    folder: Path
    environ: dict[str, str]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database says, read past the project's own code."""
        url = self.environ.get("DATABASE_URL")
        if url:
            import psycopg

            with psycopg.connect(url) as connection:
                return connection.execute(sql).fetchall()
        from pysqlite3 import dbapi2

        connection = dbapi2.connect(self.folder / "feedsite.sqlite3")
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


@contextmanager
def fresh_site(net: BigInternet, **environ: object) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="feedsite-bench-") as folder:
        variables = clean_environ(
            FEEDSITE_DATA=folder, FEEDS_HTTP_PROXY=net.proxy, **environ
        )
        done = manage(variables, "migrate")
        if done.returncode:
            raise RuntimeError(done.stderr)
        yield Site(Path(folder), variables)


@dataclass
class Run:
    """One loadfeeds: what it cost, what it printed, what the internet saw."""

    cost: Cost
    counts: dict[str, Any]
    log: Log = field(default_factory=lambda: Log([]))
    internet: Cpu = field(default_factory=Cpu)

    @property
    def fetched(self) -> int:
        return sum(self.counts["fetched"].values())

    @property
    def feeds_a_second(self) -> float:
        return self.fetched / self.cost.seconds


def start(environ: dict[str, str], *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, ROOT / "manage.py", "loadfeeds", *map(str, arguments)],
        cwd=ROOT,
        env=environ,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def load(net: BigInternet, environ: dict[str, str], *arguments: object) -> Run:
    """Run loadfeeds to its end."""
    net.take_log()
    before = processes.cpu(net.process.pid)
    process = start(environ, "--json", "--no-progress", *arguments)
    with process, processes.watched(process) as cost:
        assert process.stdout
        printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"loadfeeds exited with {process.returncode}")
    internet = processes.cpu(net.process.pid) - before
    return Run(cost, json.loads(printed), net.take_log(), internet)


def write_list(site_folder: Path, addresses: Sequence[str]) -> Path:
    path = site_folder / "list.txt"
    path.write_text("".join(f"{address}\n" for address in addresses))
    return path


def synthetic(count: int) -> list[str]:
    """One feed a host, one host a platform."""
    return [f"http://host-{number}.example/feed.xml" for number in range(count)]


def real_list(count: int) -> list[str]:
    """So many lines (0: all) of the real list, evenly from everywhere in it."""
    name = os.environ.get("FEEDSITE_FEED_LIST")
    if not name:
        sys.exit("FEEDSITE_FEED_LIST names no feed list; give it the Small Web's.")
    lines = Path(name).read_text().split()
    if count and count < len(lines):
        lines = [lines[n * len(lines) // count] for n in range(count)]
    return [over_http(line) for line in lines]


# Throughput


def throughput(options: argparse.Namespace) -> str:
    """How fast, at which cost, and how it grows with the list."""
    loads: list[tuple[int, str, Run]] = []
    for size in options.sizes:
        with BigInternet(Habits()) as net, fresh_site(net, **NO_PAUSES) as site:
            path = write_list(site.folder, synthetic(size))
            loads.append((size, "import", load(net, site.environ, path, "--no-fetch")))
            loads.append((size, "first", load(net, site.environ, *_jobs(options))))
            again = load(net, site.environ, "--all", *_jobs(options))
            loads.append((size, "again, all 304", again))
            _check_throughput(site, size, again)
    return "\n\n".join(
        [
            "One feed a host and platform, 20 entries, 20 kB; no pauses, no latency. "
            "Seconds are those of the whole command.",
            _speed_table(loads),
            "Where the time goes: CPU milliseconds a feed, user + system. The main "
            "thread works with the database, the others with the network; the "
            "children parse; the internet is not ours, but takes it from the same "
            "cores.",
            _cost_table([load for load in loads if load[1] != "import"]),
        ]
    )


def _jobs(options: argparse.Namespace) -> list[object]:
    return ["--jobs", options.jobs] if options.jobs else []


def _check_throughput(site: Site, size: int, again: Run) -> None:
    entries = site.query("SELECT COUNT(*), COUNT(DISTINCT url) FROM feeds_entry")
    assert entries == [(size * 20, size * 20)], entries
    assert again.log.count(304, lambda host: True) == size


def _speed_table(loads: list[tuple[int, str, Run]]) -> str:
    rows = [
        [
            f"{size:,}",
            what,
            f"{run.cost.seconds:.1f}",
            f"{(run.fetched or size) / run.cost.seconds:,.0f}",
            f"{run.cost.whole.total * 1000 / size:.2f}",
            f"{run.cost.peak / 2**20:.0f}",
        ]
        for size, what, run in loads
    ]
    head = ["feeds", "load", "seconds", "feeds/s", "CPU ms a feed", "peak PSS MiB"]
    return report.markdown(head, rows)


def _cost_table(loads: list[tuple[int, str, Run]]) -> str:
    rows = []
    for size, what, run in loads:
        parts = (
            run.cost.main_thread,
            run.cost.other_threads,
            run.cost.children,
            run.internet,
        )
        shown = [
            f"{part.user * 1000 / size:.2f} + {part.system * 1000 / size:.2f}"
            for part in parts
        ]
        everything = run.cost.whole + run.internet
        share = everything.total / run.cost.seconds
        rows.append([f"{size:,}", what, *shown, f"{share:.2f}"])
    head = ["feeds", "load", "main thread", "other threads", "children"]
    return report.markdown([*head, "internet", "cores busy"], rows)


# The command line

PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], str]]] = {
    "throughput": ("Throughput and cost, by the length of the list", throughput),
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    parts = options.parts or list(PARTS)
    for part in parts:
        if part not in PARTS:
            sys.exit(f"{part}: no such part. There are {', '.join(PARTS)}.")
    bodies = []
    for part in parts:
        title, measure = PARTS[part]
        print(f"{title} ...", flush=True)
        began = time.monotonic()
        body = measure(options)
        bodies.append(f"## {title}\n\n{body}\n\nTook {time.monotonic() - began:.0f} s.")
    name = "_".join(["loadfeeds", *options.parts, *["polite"] * options.polite])
    report.write(name, "loadfeeds against an internet on loopback", "\n\n".join(bodies))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loadfeeds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    add("--jobs", type=int, default=0, help="for loadfeeds (default: its own)")
    add(
        "--sizes",
        type=lambda text: [int(size) for size in text.split(",")],
        default=[1000, 3000],
        help="lengths of the lists of throughput (default: 1000,3000)",
    )
    add(
        "--feeds",
        type=int,
        default=3000,
        help="lines of the real list, evenly from all of it; 0: all (default: 3000)",
    )
    add(
        "--polite",
        action="store_true",
        help="list: with the default pauses, which are most of the time it takes",
    )
    add("--kills", type=int, default=5, help="how often (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
