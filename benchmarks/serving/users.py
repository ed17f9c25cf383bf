"""The author's load test: simulated users, each with a connection of its own.

    python -m benchmarks.serving.users BASE_URL USERS SECONDS

A user asks for a random post, reads its answer, thinks for 0.1 to 0.5 s, and asks
again; one that meets an error has gone for good. A process of its own, that prints
what they met as JSON; of HTTP it knows no more than it needs, so that it costs less
than what it measures.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from random import Random
from urllib.parse import urlsplit

from benchmarks import report
from benchmarks.serving import load
from tests.serving import ROOT

USERS = 1_000
THINKING = (0.1, 0.5)  # seconds
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Met:
    """What the users met; times in seconds, `cpu` their own a request."""

    requests: int
    errors: int
    seconds: float
    cpu: float
    min: float
    avg: float
    p50: float
    p95: float
    p99: float
    max: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def run(base_url: str, users: int, seconds: int) -> Met:
    """So many users for so long, in a process on the load's core."""
    arguments = (base_url, str(users), str(seconds))
    done = subprocess.run(
        load.on_core(load.CORE, sys.executable, "-m", __name__, *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Met(**json.loads(done.stdout))


class _Crowd:
    """What all users share: the request, and what they met."""

    def __init__(self, host: str, until: float) -> None:
        self.request = (
            f"GET {load.PLAIN[0]} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n"
        ).encode()
        self.until = until
        self.rng = Random(1)
        self.latencies: list[float] = []
        self.errors = 0


class _User(asyncio.Protocol):
    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._loop = asyncio.get_running_loop()
        self.gone = self._loop.create_future()
        self._asked_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Not all at once: a thousand people never are.
        self._loop.call_later(self._crowd.rng.uniform(0, THINKING[1]), self._ask)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or (length and len(body) < int(length[1])):
            return
        if length is None or b" 200 " not in head[:13]:
            # Counted where it ends.
            self._transport.close()
            return
        assert self._asked_at is not None
        self._crowd.latencies.append(time.perf_counter() - self._asked_at)
        self._asked_at = None
        self._loop.call_later(self._crowd.rng.uniform(*THINKING), self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        # One that waits when the time is over has had no answer, but met no error.
        if self._asked_at is not None and time.perf_counter() < self._crowd.until:
            self._crowd.errors += 1
        if not self.gone.done():
            self.gone.set_result(None)

    def leave(self) -> None:
        self._transport.abort()

    def _ask(self) -> None:
        if self._transport.is_closing():
            return
        self._answer = b""
        self._asked_at = time.perf_counter()
        self._transport.write(self._crowd.request)


async def _crowd(base_url: str, users: int, seconds: float) -> Met:
    parts = urlsplit(base_url)
    began = time.perf_counter()
    crowd = _Crowd(parts.netloc, began + seconds)
    loop = asyncio.get_running_loop()
    opened = await asyncio.gather(
        *(
            loop.create_connection(lambda: _User(crowd), parts.hostname, parts.port)
            for _ in range(users)
        )
    )
    await asyncio.sleep(crowd.until - time.perf_counter())
    taken = time.perf_counter() - began
    for _, user in opened:
        user.leave()
    await asyncio.gather(*(user.gone for _, user in opened))
    ordered = sorted(crowd.latencies) or [float("nan")]
    count = len(crowd.latencies)
    return Met(
        requests=count,
        errors=crowd.errors,
        seconds=taken,
        cpu=time.process_time() / max(count, 1),
        min=ordered[0],
        avg=sum(ordered) / len(ordered),
        p50=report.percentile(ordered, 50),
        p95=report.percentile(ordered, 95),
        p99=report.percentile(ordered, 99),
        max=ordered[-1],
    )


if __name__ == "__main__":
    url, users, seconds = sys.argv[1:]
    print(json.dumps(asdict(asyncio.run(_crowd(url, int(users), float(seconds))))))
