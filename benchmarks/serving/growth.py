"""What the plain random call costs as entries and rules grow, by the door.

    python -m benchmarks.serving.growth [--entries NUMBER,...] [--rules NUMBER,...]

Other sizes that were measured before stay in the table as they were, and what was cut
off goes on with --missing. Sites are generated once and kept in var/bench/ (about
1 GB for 1M entries).
"""

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.serving import data, load, servers
from benchmarks.serving.load import Load
from benchmarks.serving.rounds import WARM_UP, spent
from tests.serving import ROOT, clean_environ

CONNECTIONS = 64
ENTRIES = [10_000, 100_000, 1_000_000]
RULES = [1_000, 100_000]
_KEPT = data.KEPT / "growth.json"
_BUILD = """
import time, django
django.setup()
from feeds import building
began = time.perf_counter(), time.process_time()
building.build()
print(time.perf_counter() - began[0], time.process_time() - began[1])
"""


@dataclass(frozen=True)
class Size:
    """What a site of this size met: medians of the rounds, seconds and bytes.

    `memory` is a worker's; `build` the time to build the pool, `build_cpu` its CPU.
    """

    entries: int
    rules: int
    rounds: int
    seconds: int
    rate: float
    mean: float
    p99: float
    cpu: float
    memory: float
    build: float
    build_cpu: float
    errors: int


def measure(entries: int, rules: int, rounds: int, seconds: int) -> Size:
    site = data.folder(entries, rules)
    built = [_build(site) for _ in range(rounds)]
    with servers.serving(servers.DOOR, site) as running:
        load.run(running.base_url, CONNECTIONS, WARM_UP)
        measured = [spent(running, lambda: _load(running, seconds)) for _ in built]
        memory = median(running.memory_of_workers())
    loads = [one.load for one in measured]
    return Size(
        entries=entries,
        rules=rules,
        rounds=rounds,
        seconds=seconds,
        rate=median(one.rate for one in loads),
        mean=median(one.mean for one in loads),
        p99=median(one.p99 for one in loads),
        cpu=median(one.cpu_a_request for one in measured),
        memory=memory,
        build=median(wall for wall, _ in built),
        build_cpu=median(cpu for _, cpu in built),
        errors=sum(one.errors for one in loads),
    )


def table(sizes: Sequence[Size]) -> str:
    head = ["entries", "rules", "requests/s", "mean ms", "p99 ms", "CPU ms a request"]
    head += ["memory a worker MB", "pool built in s", "of CPU", "measured"]
    rows = [
        [
            f"{size.entries:,}",
            f"{size.rules:,}",
            f"{size.rate:,.0f}",
            f"{size.mean * 1e3:.1f}",
            f"{size.p99 * 1e3:.1f}",
            f"{size.cpu * 1e3:.3f}",
            f"{size.memory / 1e6:.0f}",
            f"{size.build:.2f}",
            f"{size.build_cpu:.2f}",
            f"{size.rounds} x {size.seconds} s",
        ]
        for size in sizes
    ]
    return report.markdown(head, rows)


def _load(running: servers.Running, seconds: int) -> Load:
    return load.run(running.base_url, CONNECTIONS, seconds)


def _build(site: Path) -> tuple[float, float]:
    """Seconds, and of them CPU, that a process takes to build the pool."""
    done = subprocess.run(
        load.on_core(servers.CORE, sys.executable, "-c", _BUILD),
        cwd=ROOT,
        env=clean_environ(
            FEEDSITE_DATA=site, DJANGO_SETTINGS_MODULE="feedsite.settings"
        ),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def _known() -> dict[tuple[int, int], Size]:
    told = json.loads(_KEPT.read_text()) if _KEPT.exists() else []
    return {(size["entries"], size["rules"]): Size(**size) for size in told}


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--entries", type=_numbers, default=[10_000, 100_000, 1_000_000]
    )
    parser.add_argument("--rules", type=_numbers, default=[1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument(
        "--missing", action="store_true", help="only what was not measured before"
    )
    options = parser.parse_args(arguments)
    if why := load.missing():
        print(f"Growth is not measured: {why}")
        return 0
    sizes = _known()
    for key in itertools.product(options.entries, options.rules):
        if options.missing and key in sizes:
            continue
        print("{:,} entries, {:,} rules".format(*key), flush=True)
        sizes[key] = measure(*key, options.rounds, options.seconds)
        # At once: whatever cuts it off, this is kept.
        _KEPT.write_text(json.dumps([asdict(one) for one in sizes.values()]))
    ordered = [sizes[key] for key in sorted(sizes)]
    report.write(
        "serving_growth",
        f"The plain random call as the site grows, {CONNECTIONS} connections",
        f"{servers.WORKERS} workers on one core, medians of rounds; the pool is built "
        f"by a process of its own.\n\n{table(ordered)}",
    )
    return 1 if any(size.errors for size in ordered) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
