"""Results -> Markdown, and the figures of the plot.

A ratio is the median of the rounds' own ratios: what one round shares, a busy minute
of the machine, is in both of its figures.
"""

from collections.abc import Callable, Sequence
from math import isnan
from statistics import median

from benchmarks import report
from benchmarks.serving.load import Load
from benchmarks.serving.reads import READS
from benchmarks.serving.rounds import AT_ONCE, FIXED, OURS, Measured, Results
from benchmarks.serving.servers import CORE, PEERS, THREADS, WORKERS
from benchmarks.serving.users import THINKING, USERS

FLOOR = "floor"
# What ours has to reach: of the floor's rate, and times its p99; and times the fixed
# stack's efficiency with the other reads.
GOAL_RATE, GOAL_P99, GOAL_READS = 0.9, 1.2, 4.0

_RATE: Callable[[Measured], float] = lambda one: one.load.rate  # noqa: E731
_P99: Callable[[Measured], float] = lambda one: one.load.p99  # noqa: E731
_CPU: Callable[[Measured], float] = lambda one: one.cpu_a_request  # noqa: E731


def whole(results: Results) -> str:
    """All of it, as results/serving.md has it under its title."""
    parts = [_how(results), "![The same as a plot](serving.png)", short(results)]
    for connections in results.plan.connections:
        parts += [f"## {connections:,} connections", _plain(results, connections)]
        parts.append(_goals(results, connections))
    parts += [_users(results), _reads(results)]
    return "\n\n".join(part for part in parts if part)


def short(results: Results) -> str:
    """The essence, that the README shows too."""
    connections = results.plan.connections
    head: list[str] = ["server"]
    for count in connections:
        head += [f"requests/s at {count:,}", "of the floor"]
        head += ["times FastAPI, fixed", "p99 ms"]
    rows = []
    for name in results.plan.names:
        row = [PEERS[name].name]
        for count in connections:
            rate = _median(results, count, name, _RATE)
            of_floor = _ratio(results, count, name, FLOOR, _RATE)
            p99 = _median(results, count, name, _P99)
            of_fixed = _ratio(results, count, name, FIXED, _RATE)
            row += [f"{rate:,.0f}", _percent(of_floor), _times(of_fixed)]
            row += [f"{p99 * 1e3:,.0f}"]
        rows.append(row)
    plan = results.plan
    how = f"Rounds: {plan.rounds}, loads of {plan.seconds} s; medians."
    return f"{report.markdown(head, rows)}\n\n{how}"


def figures(results: Results) -> dict[str, object]:
    """What the plot is drawn from."""
    names, counts = results.plan.names, results.plan.connections

    def series(figure: Callable[[Measured], float]) -> dict[str, list[float]]:
        return {
            f"{count:,} connections": [
                _median(results, count, name, figure) for name in names
            ]
            for count in counts
        }

    return {
        "names": [PEERS[name].name for name in names],
        "requests/s": series(_RATE),
        "p99 in ms": series(lambda one: one.load.p99 * 1e3),
        "CPU in ms a request": series(lambda one: one.cpu_a_request * 1e3),
    }


def _how(results: Results) -> str:
    plan = results.plan
    return (
        f"{plan.entries:,} entries, {plan.rules:,} rules. Servers with {WORKERS} "
        f"workers (and {THREADS} threads each, where they have threads) on core "
        f"{CORE}, wrk on another. CPU "
        "and memory are those of all processes of a server; in the CPU is what was "
        "under way when the load ended. Time accounted for is mean latency * rate / "
        "connections: less than 100 % means that some connections were left waiting, "
        f"which flatters the latencies beside it. Errors: {results.errors}."
    )


def _plain(results: Results, connections: int) -> str:
    head = [
        "server",
        "requests/s",
        "of the floor",
        "times FastAPI, fixed",
        "mean ms",
        "p50",
        "p95",
        "p99",
        "max",
        "CPU ms a request",
        "memory MB",
        "time accounted for",
        "errors",
    ]
    rows = []
    for name in results.plan.names:
        measured = results.plain[connections, name]
        loads = [one.load for one in measured]
        rows.append(
            [
                PEERS[name].name,
                f"{median(one.rate for one in loads):,.0f}",
                _percent(_ratio(results, connections, name, FLOOR, _RATE)),
                _times(_ratio(results, connections, name, FIXED, _RATE)),
                *_latencies(loads),
                f"{median(map(_CPU, measured)) * 1e3:.2f}",
                f"{median(one.memory for one in measured) / 1e6:.0f}",
                _accounted(loads),
                sum(one.errors for one in loads),
            ]
        )
    return report.markdown(head, rows)


def _accounted(loads: Sequence[Load]) -> str:
    told = _percent(median(one.accounted for one in loads))
    if any(one.starves for one in loads):
        return f"{told} (**starves**)"
    return (
        f"{told} (too short to tell)" if any(one.too_short for one in loads) else told
    )


def _latencies(loads: Sequence[Load]) -> list[str]:
    return [
        f"{median(getattr(one, name) for one in loads) * 1e3:,.1f}"
        for name in ("mean", "p50", "p95", "p99", "max")
    ]


def _goals(results: Results, connections: int) -> str:
    rate = _ratio(results, connections, OURS, FLOOR, _RATE)
    p99 = _ratio(results, connections, OURS, FLOOR, _P99)
    if rate is None or p99 is None:
        return ""
    fast = "" if rate >= GOAL_RATE else f" (**NO**: at least {GOAL_RATE:.0%})"
    even = "" if p99 <= GOAL_P99 else f" (**NO**: at most {GOAL_P99})"
    return (
        f"Ours by the door: {rate:.0%} of the floor's rate{fast}, "
        f"{p99:.2f} times its p99{even}."
    )


def _users(results: Results) -> str:
    if not results.users:
        return ""
    head = ["server", "Min", "Avg", "P50", "P95", "P99", "Max", "requests/s", "errors"]
    rows = []
    for name, met in results.users.items():
        times = ("min", "avg", "p50", "p95", "p99", "max")
        rows.append(
            [
                PEERS[name].name,
                *(
                    f"{median(getattr(one, t) for one in met) * 1e3:,.0f}"
                    for t in times
                ),
                f"{median(one.rate for one in met):,.0f}",
                sum(one.errors for one in met),
            ]
        )
    # Of a server that answers little, most of it is what opening connections cost.
    cost = min(median(one.cpu for one in met) for met in results.users.values())
    return (
        f"## The author's load test: {USERS:,} users\n\n"
        f"Each asks, thinks for {THINKING[0]} to {THINKING[1]} s and asks again. In "
        f"ms.\n\n{report.markdown(head, rows)}\n\n"
        f"The users themselves cost {cost * 1e3:.2f} ms of CPU a request, on "
        "their own core, where they are answered most."
    )


def _reads(results: Results) -> str:
    if not all((read.name, FIXED) in results.reads for read in READS):
        return ""
    rows = []
    for read in READS:
        theirs, ours = (results.reads[read.name, name] for name in (FIXED, OURS))
        times = median(
            _CPU(one) / _CPU(other) for one, other in zip(theirs, ours, strict=True)
        )
        low = "" if times >= GOAL_READS else f" (**NO**: at least {GOAL_READS:.0f})"
        each = (
            f"{median(map(_CPU, some)) / read.delivers * 1e3:.3f}"
            for some in (theirs, ours)
        )
        rows.append([read.name, *each, f"{times:.1f}{low}"])
    head = [
        "call",
        f"{PEERS[FIXED].name}: CPU ms",
        "ours: CPU ms",
        "times as efficient",
    ]
    return (
        f"## Other reads, {AT_ONCE} connections\n\n{report.markdown(head, rows)}\n\n"
        "CPU a request; of a list, an entry that it delivers."
    )


def _median(
    results: Results, connections: int, name: str, of: Callable[[Measured], float]
) -> float:
    return median(map(of, results.plain[connections, name]))


def _ratio(
    results: Results,
    connections: int,
    name: str,
    to: str,
    of: Callable[[Measured], float],
) -> float | None:
    """To another server; None where one of them was not measured, or not answered."""
    pairs = zip(
        results.plain.get((connections, name), []),
        results.plain.get((connections, to), []),
        strict=False,
    )
    ratios = [of(one) / of(other) for one, other in pairs if of(other)]
    return median(ratios) if ratios else None


def _percent(ratio: float | None) -> str:
    return "" if ratio is None or isnan(ratio) else f"{ratio:.0%}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1f}"
