"""Votes of 64 clients that never pause: alone, among reads, and during a bulk load.

    python -m benchmarks.votes [SECONDS [ROUNDS]]

All of the server on one core, what calls it and what loads on the other; all limits
on. The loader stores what it made up itself: nothing but the database slows it.
"""

import json
import os
import statistics
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks import report, voters
from benchmarks.site import starter_site
from tests import processes
from tests.serving import ROOT, Server

CONNECTIONS = 64
ENTRIES = 5000
LOAD = 100_000  # entries
SERVER_CORE, LOAD_CORE = 0, 1


@dataclass(frozen=True)
class Part:
    """A share of votes among the calls, 0 to 1, and whether a loader works beside."""

    name: str
    votes: float
    loading: bool = False


PARTS = (
    Part("votes", 1.0),
    Part("reads", 0.0),
    Part("reads, 10 % votes", 0.1),
    Part("votes, loading", 1.0, loading=True),
    Part("reads, loading", 0.0, loading=True),
)


@dataclass
class Found:
    """All rounds of a part; `cpu` in ms a call, of the server and of the callers."""

    loads: list[voters.Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)  # entries a second

    def percentile(self, kind: str, percent: float) -> float:
        """The median of the rounds' own, in ms."""
        return statistics.median(
            report.percentile(getattr(load, kind).times, percent) for load in self.loads
        )

    def rate(self, kind: str) -> float:
        return statistics.median(
            len(getattr(load, kind).times) / load.seconds for load in self.loads
        )

    def statuses(self, kind: str) -> dict[str, int]:
        counters = (Counter(getattr(load, kind).statuses) for load in self.loads)
        return sum(counters, Counter())


def run(
    seconds: float, rounds: int, parts: Sequence[Part] = PARTS
) -> dict[Part, Found]:
    """Measure the parts in turn, so many rounds."""
    found = {part: Found() for part in parts}
    with _pinned(SERVER_CORE):
        site = starter_site(workers=2, threads=4, NUM_PROXIES=1)
        server = site.__enter__()
    try:
        with _pinned(LOAD_CORE):
            with _loader(server, ENTRIES) as process:
                process.wait()
            ids = _ids(server)
            for _ in range(rounds):
                for part in parts:
                    _measure(server, ids, part, seconds, found[part])
    finally:
        site.__exit__(None, None, None)
    return found


def _measure(
    server: Server, ids: Sequence[int], part: Part, seconds: float, found: Found
) -> None:
    with _loader(server, LOAD if part.loading else 0) as loader:
        calling = voters.start(
            server.base_url,
            ids,
            connections=CONNECTIONS,
            seconds=seconds,
            votes=part.votes,
        )
        before = _cpu(server)
        load = voters.result(calling)
        spent = _cpu(server) - before
        told, _ = loader.communicate("")
    found.loads.append(load)
    calls = len(load.votes.times) + len(load.reads.times)
    found.cpu.append(spent * 1000 / max(1, calls))
    if part.loading:
        entries, took = map(float, told.split())
        found.stored.append(entries / took)


@contextmanager
def _loader(server: Server, entries: int) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bulk_load", str(entries)],
        cwd=ROOT,
        env=server.environ | {"DJANGO_SETTINGS_MODULE": "feedsite.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        if not process.stdout.readline():
            raise RuntimeError("The loader did not start.")
        yield process


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    """What is started within runs on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu(server: Server) -> float:
    family = processes.descendants(server.process.pid) | {server.process.pid}
    return sum(processes.cpu(pid).total for pid in family)


def _ids(server: Server) -> list[int]:
    found: set[int] = set()
    for _ in range(50):
        address = f"{server.base_url}/api/v1/entries/random/?count=20"
        with urllib.request.urlopen(address) as answer:  # noqa: S310
            found |= {entry["id"] for entry in json.load(answer)["results"]}
    return sorted(found)


def table(found: dict[Part, Found]) -> str:
    rows = []
    for part, of_part in found.items():
        for kind in ("votes", "reads"):
            statuses = of_part.statuses(kind)
            if not statuses:
                continue
            stored = of_part.stored
            rows.append(
                [
                    part.name,
                    kind,
                    f"{of_part.rate(kind):,.0f}",
                    *(f"{of_part.percentile(kind, p):.1f}" for p in (50, 99, 100)),
                    f"{statistics.median(of_part.cpu):.2f}",
                    f"{statistics.median(load.cpu for load in of_part.loads):.2f}",
                    f"{statistics.median(stored):,.0f}" if stored else "",
                    " ".join(f"{code}: {n}" for code, n in sorted(statuses.items())),
                ]
            )
    head = ["part", "call", "calls/s", "p50 ms", "p99 ms", "max ms"]
    head += ["server ms/call", "caller ms/call", "entries/s stored", "answers"]
    return report.markdown(head, rows)


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    report.write(
        "votes",
        f"Votes and reads on {CONNECTIONS} connections, the server on one core, "
        f"medians of {rounds} rounds of {seconds:g} s",
        table(run(seconds, rounds)),
    )
