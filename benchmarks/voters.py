"""Voters and readers that never pause, each on a kept-alive connection of its own.

A process of its own, and no HTTP library: on the other core it must never be what
the server waits for. Every vote has a fresh token and a network of its own.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

from tests.serving import ROOT

WARM_UP = 1.0  # seconds
BODY = b'{"value":1}'
READ = (
    b"GET /api/v1/entries/random/ HTTP/1.1\r\nHost: localhost\r\n"
    b"X-Forwarded-For: 192.0.2.1\r\n\r\n"
)


@dataclass(frozen=True)
class Answers:
    """What one kind of call got: milliseconds in order, and the statuses."""

    times: list[float]
    statuses: dict[str, int]

    def failed(self) -> int:
        return sum(self.statuses.values()) - self.statuses.get("200", 0)


@dataclass(frozen=True)
class Load:
    """What so many seconds brought; `cpu` is what each call cost here, in ms."""

    seconds: float
    votes: Answers
    reads: Answers
    cpu: float


def start(
    base_url: str, ids: Sequence[int], *, connections: int, seconds: float, votes: float
) -> "subprocess.Popen[str]":
    """Begin to call: a share of `votes` (0 to 1), the rest reads."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", __name__, base_url),
            *map(str, (connections, seconds, votes)),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(list(ids)) + "\n")
    process.stdin.flush()
    if not process.stdout.readline():
        raise RuntimeError("The voters were not answered.")
    return process


def result(process: "subprocess.Popen[str]") -> Load:
    told, _ = process.communicate()
    found = json.loads(told)
    kinds = {kind: Answers(**found.pop(kind)) for kind in ("votes", "reads")}
    return Load(**kinds, **found)


class _Caller(asyncio.Protocol):
    """One connection: the next call as soon as the last one is answered."""

    def __init__(
        self,
        call: Callable[[], tuple[bool, bytes]],
        answered: Callable[[bool, float, float, str], None],
    ) -> None:
        self._call, self._answered = call, answered
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._vote, request = self._call()
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, length = head.lower().partition(b"content-length: ")
        if len(body) < int(length.partition(b"\r\n")[0]):
            return
        self._came = b""
        status = head[9:12].decode()
        self._answered(self._vote, self._began, time.perf_counter(), status)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        now = time.perf_counter()
        self._answered(self._vote, self._began, now, "connection lost")


async def _run(
    base_url: str, ids: Sequence[int], connections: int, seconds: float, votes: float
) -> None:
    rng = random.Random()
    numbers = count(rng.getrandbits(24))
    calls: list[tuple[bool, float, float, str]] = []

    def call() -> tuple[bool, bytes]:
        if rng.random() >= votes:
            return False, READ
        number = next(numbers) % 2**24
        network = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        return True, (
            f"PUT /api/v1/entries/{rng.choice(ids)}/vote/ HTTP/1.1\r\n"
            f"Host: localhost\r\nX-Client-Token: {rng.getrandbits(128):032x}\r\n"
            f"X-Forwarded-For: {network}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    def answered(*how: object) -> None:
        calls.append(how)  # type: ignore[arg-type]

    where = urlsplit(base_url)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(
            lambda: _Caller(call, answered), where.hostname, where.port
        )
    await asyncio.sleep(WARM_UP)
    print("calling", flush=True)
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    counted = [one for one in calls if began <= one[2] < ended]
    kinds = {
        name: {
            "times": sorted(
                (end - start) * 1000
                for vote, start, end, _ in counted
                if vote == is_vote
            ),
            "statuses": Counter(s for vote, _, _, s in counted if vote == is_vote),
        }
        for name, is_vote in (("votes", True), ("reads", False))
    }
    each = cpu * 1000 / max(1, len(counted))
    print(json.dumps({"seconds": ended - began, "cpu": each, **kinds}))


if __name__ == "__main__":
    asyncio.run(
        _run(
            sys.argv[1],
            json.loads(sys.stdin.readline()),
            int(sys.argv[2]),
            *map(float, sys.argv[3:]),
        )
    )
