"""Load by wrk, from a core of its own, and what came of it."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.postgresql import install

CORE = 1
PLAIN = ("/api/v1/entries/random/",)
PATIENCE = 60  # seconds that wrk waits for an answer before it counts an error
_SCRIPT = Path(__file__).with_name("requests.lua")
# Of the connections' time; what is under way at the end is in no answer.
_STARVING = 0.8
# An answer takes at most this part of the load, if that is to tell anything.
_SHORT = 0.2


@dataclass(frozen=True)
class Load:
    """What so many connections met; times in seconds.

    `errors` are answers of 400 and more, broken connections and no answer in time.
    """

    connections: int
    requests: int
    seconds: float
    errors: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def accounted(self) -> float:
        """The part of the connections' time that the answers account for.

        By Little's law all of it: mean latency = connections / rate. Less means that
        some connections were hardly answered, which flatters all other figures.
        """
        return self.mean * self.rate / self.connections

    @property
    def too_short(self) -> bool:
        """Whether too few answers came on a connection to tell who starves."""
        return self.rate * self.seconds * _SHORT < self.connections

    @property
    def starves(self) -> bool:
        return not self.too_short and self.accounted < _STARVING


def missing() -> str | None:
    """Why there can be no load on this machine, with the cure; None where there can.

    With CI=true wrk is installed instead.
    """
    if not shutil.which("taskset"):
        return "taskset is not here (Linux only; on Debian: apt install util-linux)."
    if not {0, CORE} <= os.sched_getaffinity(0):
        return f"Cores 0 and {CORE} are needed: one to serve, one to load."
    if not shutil.which("wrk") and os.environ.get("CI") == "true":
        install("wrk")
    if not shutil.which("wrk"):
        return "wrk is not here (on Debian: apt install wrk; else github.com/wg/wrk)."
    return None


def run(
    base_url: str, connections: int, seconds: int, asked: Iterable[str] = PLAIN
) -> Load:
    """Ask for these in turn, as fast as they are answered.

    Each is a path, or a path, a tab and a client's token.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{line}\n" for line in asked))
        file.flush()
        done = subprocess.run(
            [
                *on_core(CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"),
                *(f"--timeout={PATIENCE}s", f"--script={_SCRIPT}", base_url),
                *("--", file.name),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    return parsed(done.stdout, connections)


def parsed(output: str, connections: int) -> Load:
    """What wrk printed, with what our script added as the last line."""
    told = json.loads(output.strip().rpartition("\n")[2])
    for name in ("mean", "p50", "p95", "p99", "max"):
        # Where nobody was answered, wrk says 0.
        told[name] = told[name] / 1e6 if told["requests"] else float("nan")
    return Load(connections, **told)


def on_core(core: int, *command: str) -> Sequence[str]:
    return ("taskset", "--cpu-list", str(core), *command)
