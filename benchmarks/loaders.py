"""A loader in a process of its own: what it is given, and what it cost."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import processes
from tests.feeds.big_internet import BigInternet, over_http
from tests.feeds.manners import Log
from tests.processes import Cost, Cpu
from tests.serving import ROOT, clean_environ, manage

NO_PAUSES = {"FEEDS_HOST_INTERVAL": 0, "FEEDS_PLATFORM_INTERVAL": 0}


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
        try:  # the library that the site uses
            from pysqlite3 import dbapi2 as sqlite3
        except ImportError:
            import sqlite3
        connection = sqlite3.connect(self.folder / "feedsite.sqlite3")
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


# Lists


def write_list(folder: Path, addresses: Sequence[str]) -> Path:
    path = folder / "list.txt"
    path.write_text("".join(f"{address}\n" for address in addresses))
    return path


def synthetic(count: int) -> list[str]:
    """One feed a host, one host a platform."""
    return [f"http://host-{number}.example/feed.xml" for number in range(count)]


def real_list(count: int) -> list[str]:
    """So many lines (0: all) of the real list, evenly from everywhere in it; none
    where FEEDSITE_FEED_LIST names no list."""
    name = os.environ.get("FEEDSITE_FEED_LIST")
    if not name:
        return []
    lines = Path(name).read_text().split()
    if count and count < len(lines):
        lines = [lines[n * len(lines) // count] for n in range(count)]
    return [over_http(line) for line in lines]


# Loaders


@dataclass
class Run:
    """One run of loadfeeds, or several beside each other: what each cost and printed,
    and what the internet saw of them."""

    costs: list[Cost]
    counts: list[dict[str, Any]]
    log: Log
    internet: Cpu

    @property
    def cost(self) -> Cost:
        (cost,) = self.costs
        return cost

    @property
    def seconds(self) -> float:
        return max(cost.seconds for cost in self.costs)

    @property
    def fetched(self) -> int:
        return sum(sum(counts["fetched"].values()) for counts in self.counts)


def start(environ: dict[str, str], *arguments: object) -> "subprocess.Popen[str]":
    """Start loadfeeds; what it prints at its end is in `stdout`."""
    return subprocess.Popen(
        [sys.executable, ROOT / "manage.py", "loadfeeds", *map(str, arguments)],
        cwd=ROOT,
        env=environ,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def load(
    net: BigInternet, environ: dict[str, str], *arguments: object, loaders: int = 1
) -> Run:
    """Run so many loadfeeds side by side to their ends."""
    net.take_log()
    before = processes.cpu(net.process.pid)
    with ThreadPoolExecutor(loaders) as pool:
        each = [pool.submit(_load, environ, *arguments) for _ in range(loaders)]
        done = [one.result() for one in each]
    return Run(
        [cost for cost, _ in done],
        [counts for _, counts in done],
        net.take_log(),
        processes.cpu(net.process.pid) - before,
    )


def _load(environ: dict[str, str], *arguments: object) -> tuple[Cost, dict[str, Any]]:
    process = start(environ, "--json", "--no-progress", *arguments)
    with process, processes.watched(process) as cost:
        assert process.stdout
        printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"loadfeeds exited with {process.returncode}")
    return cost, json.loads(printed)
