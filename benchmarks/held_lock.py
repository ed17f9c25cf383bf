"""Reads and votes while another process holds the write lock.

    python -m benchmarks.held_lock [SECONDS]

64 clients with pauses, together about 100 calls a second, a tenth of them votes.
"""

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks import report
from benchmarks.site import starter_site

CLIENTS = 64
CALLS_A_SECOND = 100
VOTES = 0.1

# A process of its own, with the library that the site uses: two SQLite libraries
# on one file in one process would drop each other's locks.
_HOLDER = """
import sys, time
try:
    from pysqlite3 import dbapi2 as sqlite3
except ImportError:
    import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
print("free now", flush=True)
time.sleep(0.1)
connection.execute("ROLLBACK")
"""


@dataclass(frozen=True)
class Call:
    """One call: when it began and ended (seconds of one clock), what came back."""

    vote: bool
    began: float
    ended: float
    status: int
    retry_after: str | None


@dataclass(frozen=True)
class Phase:
    name: str
    calls: list[Call]

    def reads(self) -> list[Call]:
        return [call for call in self.calls if not call.vote]

    def votes(self) -> list[Call]:
        return [call for call in self.calls if call.vote]

    def read_median(self) -> float:
        """In seconds."""
        return statistics.median(call.ended - call.began for call in self.reads())


def run(*, before: float, held: float, after: float) -> list[Phase]:
    """Measure three phases of so many seconds each: before, while held, after."""
    with starter_site(workers=2, threads=4, NUM_PROXIES=1) as site:
        database = site.data / "feedsite.sqlite3"
        return asyncio.run(_phases(site.base_url, database, before, held, after))


async def _phases(
    base_url: str, database: Path, before: float, held: float, after: float
) -> list[Phase]:
    calls: list[Call] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(base_url, connector=connector) as session:
        async with session.get("/api/v1/entries/random/?count=20") as response:
            ids = [entry["id"] for entry in (await response.json())["results"]]
        clients = [
            asyncio.create_task(_client(session, ids, number, calls))
            for number in range(CLIENTS)
        ]
        await asyncio.sleep(before)
        holder = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", _HOLDER, str(database), str(held)),
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        await holder.stdout.readline()
        taken = time.monotonic()
        await holder.stdout.readline()
        freed = time.monotonic()
        await holder.wait()
        # Those that waited write first.
        settled = time.monotonic() + 0.5
        await asyncio.sleep(0.5 + after)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    return [
        Phase("before", [call for call in calls if call.ended < taken]),
        # What began and ended while the lock was held, and nothing on its edges.
        Phase("held", [c for c in calls if c.began > taken and c.ended < freed]),
        Phase("after", [call for call in calls if call.began > settled]),
    ]


async def _client(
    session: aiohttp.ClientSession, ids: list[int], number: int, calls: list[Call]
) -> None:
    rng = random.Random(number)
    while True:
        await asyncio.sleep(rng.expovariate(CALLS_A_SECOND / CLIENTS))
        await call(session, ids, rng, calls, time.monotonic())


async def call(
    session: aiohttp.ClientSession,
    ids: list[int],
    rng: random.Random,
    calls: list[Call],
    began: float,
) -> None:
    """Read or vote once, and write down how it went."""
    vote = rng.random() < VOTES
    if vote:
        request = session.put(
            f"/api/v1/entries/{rng.choice(ids)}/vote/",
            json={"value": 1},
            headers={
                "X-Client-Token": f"{rng.getrandbits(128):032x}",
                # A network of its own, so that no limit is met.
                "X-Forwarded-For": f"10.{rng.randrange(256)}."
                f"{rng.randrange(256)}.{rng.randrange(1, 255)}",
            },
        )
    else:
        request = session.get("/api/v1/entries/random/")
    async with request as response:
        await response.read()
        retry_after = response.headers.get("Retry-After")
    calls.append(Call(vote, began, time.monotonic(), response.status, retry_after))


def table(phases: Iterable[Phase]) -> str:
    """The phases as Markdown; times in milliseconds."""
    rows = []
    for phase in phases:
        for kind, calls in (("reads", phase.reads()), ("votes", phase.votes())):
            times = sorted((call.ended - call.began) * 1000 for call in calls)
            statuses = Counter(call.status for call in calls)
            rows.append(
                [
                    phase.name,
                    kind,
                    len(calls),
                    *(f"{report.percentile(times, p):.1f}" for p in (50, 99, 100)),
                    " ".join(f"{code}: {n}" for code, n in sorted(statuses.items())),
                ]
            )
    head = ["phase", "call", "count", "p50 ms", "p99 ms", "max ms", "answers"]
    return report.markdown(head, rows)


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    report.write(
        "held_lock",
        f"A write lock held by another process for {seconds:g} s, "
        f"{CLIENTS} clients, about {CALLS_A_SECOND} calls/s",
        table(run(before=10, held=seconds, after=10)),
    )
