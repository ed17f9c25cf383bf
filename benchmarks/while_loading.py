"""A site's reads and votes while loadfeeds works beside it as fast as it can.

So few calls that the server is never what they wait for; each counts from when it
was due, so that one that has to wait is not followed by fewer.
"""

import asyncio
import random
import sys
import time
from pathlib import Path

import aiohttp

from benchmarks import held_lock, report
from benchmarks.held_lock import Call, Phase
from benchmarks.loaders import NO_PAUSES, synthetic, write_list
from benchmarks.site import starter_site
from tests.feeds.big_internet import BigInternet
from tests.feeds.publishers import Habits
from tests.serving import ROOT, Server, manage

CALLS_A_SECOND = 50
WARM_UP = 3.0  # seconds
ROUNDS = 3
LONG_ENOUGH = 20_000  # feeds; the loader is stopped when the time is over


def measure(seconds: float, jobs: int = 0) -> str:
    """So many seconds idle, then so many beside a loader, in turn; as Markdown."""
    with (
        BigInternet(Habits()) as net,
        starter_site(workers=2, threads=4, NUM_PROXIES=1) as site,
    ):
        path = write_list(site.data, synthetic(LONG_ENOUGH))
        manage(site.environ, "loadfeeds", str(path), "--no-fetch").check_returncode()
        phases, speed = asyncio.run(_phases(site, net, path, seconds, jobs))
    idle, loading = (
        sorted(call.ended - call.began for call in phase.reads()) for phase in phases
    )
    ratio = report.percentile(loading, 99) / report.percentile(idle, 99)
    return "\n\n".join(
        [
            f"2 workers, {CALLS_A_SECOND} calls/s on a fixed beat, a tenth of them "
            f"votes; the loader asked for {speed:.0f} feeds/s beside.",
            held_lock.table(phases),
            f"A read's p99 beside the loader is {ratio:.1f} times that of the idle "
            f"site{'' if ratio <= 2 else ' (**NO**: at most twice)'}.",
        ]
    )


async def _phases(
    site: Server, net: BigInternet, path: Path, seconds: float, jobs: int
) -> tuple[list[Phase], float]:
    calls: list[Call] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(site.base_url, connector=connector) as session:
        async with session.get("/api/v1/entries/random/?count=20") as response:
            ids = [entry["id"] for entry in (await response.json())["results"]]
        beat = asyncio.create_task(_beat(session, ids, calls))
        await asyncio.sleep(WARM_UP)
        idle: list[tuple[float, float]] = []
        loading: list[tuple[float, float]] = []
        asked = 0
        for _ in range(ROUNDS):
            idle.append(await _pass(seconds))
            loader = await _start_loader(site, net, path, jobs)
            while not (await asyncio.to_thread(net.take_log)).requests:
                await asyncio.sleep(0.2)
            loading.append(await _pass(seconds))
            asked += len((await asyncio.to_thread(net.take_log)).requests)
            assert loader.returncode is None, "the loader ended too early"
            # Not killed: the next one would wait for what this one has claimed.
            loader.terminate()
            await loader.wait()
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
    phases = [
        Phase(name, [c for c in calls if any(a <= c.began < b for a, b in times)])
        for name, times in (("idle", idle), ("loading", loading))
    ]
    return phases, asked / seconds / ROUNDS


async def _pass(seconds: float) -> tuple[float, float]:
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return began, time.monotonic()


async def _start_loader(
    site: Server, net: BigInternet, path: Path, jobs: int
) -> asyncio.subprocess.Process:
    environ = site.environ | {"FEEDS_HTTP_PROXY": net.proxy}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, ROOT / "manage.py", "loadfeeds", path, "--quiet"),
        *(["--jobs", str(jobs)] if jobs else []),
        cwd=ROOT,
        env=environ | {name: str(value) for name, value in NO_PAUSES.items()},
        # As from another terminal: many systems share the processor by sessions.
        start_new_session=True,
    )


async def _beat(
    session: aiohttp.ClientSession, ids: list[int], calls: list[Call]
) -> None:
    rng = random.Random(1)
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(10**9):
            due = started + number / CALLS_A_SECOND
            await asyncio.sleep(due - time.monotonic())
            group.create_task(held_lock.call(session, ids, rng, calls, due))
