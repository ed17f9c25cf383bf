"""Readers that draw posts all the time, each on a connection of its own.

A process of its own: what is measured beside them does not wait for them in Python.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp

from tests.serving import ROOT

PATH = "/api/v1/entries/random/"


@dataclass
class Readers:
    """Answers per second, once they have gone."""

    rate: float = 0.0


@contextmanager
def reading(base_url: str, count: int) -> Iterator[Readers]:
    """So many readers, all of them answered once before the block begins."""
    readers = Readers()
    if not count:
        yield readers
        return
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, base_url, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        if not process.stdout.readline():
            raise RuntimeError("The readers were not answered.")
        yield readers
    finally:
        # They end with their standard input.
        told, _ = process.communicate("")
        readers.rate = float(told or "nan")
    if process.returncode:
        raise RuntimeError("Some readers were not answered.")


async def _read(base_url: str, count: int) -> None:
    answers = 0
    all_answered = asyncio.Barrier(count + 1)
    stop = asyncio.Event()

    async def reader(session: aiohttp.ClientSession) -> None:
        nonlocal answers
        first = True
        while first or not stop.is_set():
            async with session.get(PATH) as response:
                await response.read()
                response.raise_for_status()
            answers += 1
            if first:
                await all_answered.wait()
            first = False

    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(
            base_url, connector=connector, timeout=timeout
        ) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(count):
            tasks.create_task(reader(session))
        await all_answered.wait()
        print("reading", flush=True)
        began, before = time.monotonic(), answers
        await asyncio.to_thread(sys.stdin.read)
        rate = (answers - before) / (time.monotonic() - began)
        stop.set()
    print(rate)


if __name__ == "__main__":
    asyncio.run(_read(sys.argv[1], int(sys.argv[2])))
