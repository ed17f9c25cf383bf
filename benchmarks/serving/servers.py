"""Starts the site and its peers, each pinned to one core, and says what they cost."""

import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import load
from tests.processes import cpu, family, pss
from tests.serving import ROOT, children, clean_environ, end, free_port

CORE = 0
WORKERS, THREADS = 2, 4
VENV = Path(__file__).parent / ".venv"
_PEERS = "benchmarks.serving.peers"
_PATIENCE = 180  # seconds
# Idle: less CPU than this part of so many seconds.
_IDLE, _LOOK = 0.1, 0.5

OURS = os.fspath(Path(sys.executable).with_name("gunicorn"))


@dataclass(frozen=True)
class Peer:
    """A server to measure; `command` takes {port}."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)


def _peer(program: str, *arguments: str) -> tuple[str, ...]:
    return (os.fspath(VENV / "bin" / program), *arguments)


def _gunicorn(app: str) -> tuple[str, ...]:
    # Of our own gunicorn.conf.py, so that it serves all of them alike.
    return _peer("gunicorn", f"{_PEERS}.{app}")


def _uvicorn(app: str) -> tuple[str, ...]:
    # asyncio's own loop: uvloop leaves some of 1,000 connections waiting.
    return _peer(
        *("uvicorn", f"{_PEERS}.author:{app}", "--port={port}", "--loop=asyncio"),
        *("--http=httptools", f"--workers={WORKERS}", "--no-access-log"),
        *("--log-level=warning", "--timeout-keep-alive=65"),
    )


FLOOR = Peer("floor", _gunicorn("floor:application"))
FIXED = Peer("FastAPI, fixed", _uvicorn("fixed"))
VIEW = Peer("ours, by the view", (OURS,), {"DOOR": "false"})
DOOR = Peer("ours, by the door", (OURS,), {"DOOR": "true"})
PEERS = {
    "floor": FLOOR,
    "naive": Peer("FastAPI, naive", _uvicorn("naive")),
    "fixed": FIXED,
    "memory": Peer("FastAPI, fixed, in memory", _uvicorn("memory")),
    "textbook": Peer("DRF, textbook", _gunicorn("textbook.wsgi")),
    "view": VIEW,
    "door": DOOR,
    "granian": Peer(
        "ours, under granian",
        _peer(
            *("granian", "--interface=wsgi", "--port={port}", f"--workers={WORKERS}"),
            *(f"--blocking-threads={THREADS}", "--log-level=warning"),
            *("--no-access-log", "feedsite.wsgi:application"),
        ),
        {"DOOR": "true"},
    ),
}


@dataclass(frozen=True)
class Running:
    """A peer that serves; what it costs is that of all its processes."""

    base_url: str
    pid: int

    def cpu(self) -> float:
        """Seconds so far."""
        return sum(cpu(pid).total for pid in family(self.pid))

    def memory(self) -> int:
        """Bytes, of what several share once (PSS)."""
        return sum(pss(pid) for pid in family(self.pid))

    def memory_of_workers(self) -> list[int]:
        """Bytes of each worker of gunicorn, of what it shares its share."""
        return [pss(pid) for pid in children(self.pid)]

    def rest(self) -> None:
        """Wait until it is idle: all its workers have started, and what nobody waits
        for any more is answered."""
        deadline = time.monotonic() + _PATIENCE
        before, now = -math.inf, self.cpu()
        while now - before > _IDLE * _LOOK:
            if time.monotonic() > deadline:
                raise RuntimeError("did not come to rest")
            time.sleep(_LOOK)
            before, now = now, self.cpu()


@contextmanager
def serving(peer: Peer, data: Path, **environ: object) -> Iterator[Running]:
    """Serve `data` until the block ends; it begins when the peer is at rest."""
    port = free_port()
    variables = clean_environ(
        FEEDSITE_DATA=data,
        SECRET_KEY="the same in every server measured" * 2,
        PORT=port,
        WORKERS=WORKERS,
        THREADS=THREADS,
        PYTHONPATH=ROOT,
        **peer.environ | environ,
    )
    command = [part.format(port=port) for part in peer.command]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            load.on_core(CORE, *command),
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            running = Running(f"http://127.0.0.1:{port}", process.pid)
            try:
                _wait_until_answered(running, process)
                running.rest()
            except RuntimeError as error:
                log.seek(0)
                said = log.read().decode(errors="replace")
                raise RuntimeError(f"{peer.name} {error}: {said}") from error
            yield running
        finally:
            end(process)


def answer(url: str) -> tuple[list[tuple[str, str]], str]:
    """Headers and body of one answer; OSError where it is not 200."""
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310
        return response.getheaders(), response.read().decode()


def _wait_until_answered(running: Running, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError("ended")
        with suppress(OSError):
            answer(running.base_url + load.PLAIN[0])
            return
        time.sleep(_LOOK)
    raise RuntimeError("did not answer")
