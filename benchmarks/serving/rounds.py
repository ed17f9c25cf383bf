"""The rounds: every server started anew on core 0, asked from core 1, and ended.

A round begins with another server than the one before, so that none has the quiet
minutes of a machine to itself.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving import data, load, servers, users
from benchmarks.serving.load import Load
from benchmarks.serving.reads import READS
from benchmarks.serving.servers import PEERS, Running
from benchmarks.serving.users import Met

WARM_UP = 2  # seconds
AT_ONCE = 16  # connections that ask for the other reads
# The author's load test and the other reads are of these two.
FIXED, OURS = "fixed", "door"
# Headers that a server adds by itself.
_OF_THE_SERVER = {"connection", "date", "server"}


@dataclass(frozen=True)
class Plan:
    """How much to measure: loads last `seconds` each."""

    rounds: int = 5
    seconds: int = 20
    connections: Sequence[int] = (64, 1_000)
    names: Sequence[str] = tuple(PEERS)
    entries: int = 100_000
    rules: int = 1_000


@dataclass(frozen=True)
class Measured:
    """One load, and what the server spent on it: seconds of CPU, bytes of memory."""

    load: Load
    cpu: float
    memory: int

    @property
    def cpu_a_request(self) -> float:
        return self.cpu / self.load.requests if self.load.requests else float("nan")


@dataclass
class Results:
    """What was measured, one of each a round, in the rounds' order."""

    plan: Plan
    plain: dict[tuple[int, str], list[Measured]] = field(
        default_factory=lambda: defaultdict(list)
    )
    users: dict[str, list[Met]] = field(default_factory=lambda: defaultdict(list))
    reads: dict[tuple[str, str], list[Measured]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def errors(self) -> int:
        loads = [one for of in (self.plain, self.reads) for one in of.values()]
        counted = sum(one.load.errors for some in loads for one in some)
        return counted + sum(met.errors for some in self.users.values() for met in some)


def measure(plan: Plan) -> Results:
    site = data.folder(plan.entries, plan.rules)
    results, names = Results(plan), list(plan.names)
    with tempfile.TemporaryDirectory(prefix="feedsite-bench-") as folder:
        floor = Path(folder) / "answer.json"
        _keep_answer(site, floor)
        for number in range(plan.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                print(f"Round {number + 1} of {plan.rounds}: {name}", flush=True)
                with servers.serving(PEERS[name], site, FLOOR_ANSWER=floor) as running:
                    _ask(running, name, results)
    return results


def spent(running: Running, ask: Callable[[], Load]) -> Measured:
    """What the server spends while it is asked."""
    before = running.cpu()
    met = ask()
    return Measured(met, running.cpu() - before, running.memory())


def _keep_answer(site: Path, path: Path) -> None:
    """The floor's only answer: one of ours, with its headers."""
    with servers.serving(servers.DOOR, site) as running:
        headers, body = servers.answer(running.base_url + load.PLAIN[0])
    own = [pair for pair in headers if pair[0].lower() not in _OF_THE_SERVER]
    path.write_text(json.dumps({"headers": own, "body": body}))


def _ask(running: Running, name: str, results: Results) -> None:
    plan, url = results.plan, running.base_url
    _, body = servers.answer(url + load.PLAIN[0])
    if not json.loads(body)["results"]:
        raise RuntimeError(f"{PEERS[name].name} gave no post: {body}")
    load.run(url, min(plan.connections), WARM_UP)
    for connections in plan.connections:
        running.rest()
        results.plain[connections, name].append(
            spent(running, lambda: load.run(url, connections, plan.seconds))  # noqa: B023
        )
    if name not in (FIXED, OURS):
        return
    running.rest()
    results.users[name].append(users.run(url, users.USERS, plan.seconds))
    for read in READS:
        running.rest()
        lines = list(read.lines(plan.entries))
        results.reads[read.name, name].append(
            spent(running, lambda: load.run(url, AT_ONCE, plan.seconds, lines))  # noqa: B023
        )
