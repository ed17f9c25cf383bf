"""Measures the site's reads beside its peers', in turn.

Results go to benchmarks/results/serving.md and .png, their essence to the README.
"""

import argparse
import json
import os
import subprocess
import sys

from benchmarks import report
from benchmarks.serving import load, tables
from benchmarks.serving.rounds import Plan, Results, measure
from benchmarks.serving.servers import PEERS, VENV
from tests.serving import ROOT

NAME = "serving"


def plan_of(arguments: list[str]) -> Plan:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument(
        "--seconds", type=int, default=Plan.seconds, help="of each load"
    )
    parser.add_argument(
        "--connections",
        type=lambda text: tuple(map(int, text.split(","))),
        default=Plan.connections,
        metavar="NUMBER,...",
    )
    parser.add_argument(
        "--only",
        dest="names",
        type=_names,
        default=Plan.names,
        metavar="NAME,...",
        help="some of the servers; what comes of it is only printed",
    )
    parser.add_argument("--entries", type=int, default=Plan.entries)
    parser.add_argument("--rules", type=int, default=Plan.rules)
    return Plan(**vars(parser.parse_args(arguments)))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: use some of {', '.join(PEERS)}"
        )
    return names


def keep(results: Results) -> None:
    """Write the tables, the plot, and the README's part."""
    report.write(NAME, "Reads, beside other servers", tables.whole(results))
    subprocess.run(
        [
            *(VENV / "bin" / "python", "-m", "benchmarks.serving.plot"),
            report.RESULTS / f"{NAME}.png",
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=json.dumps(tables.figures(results)),
        text=True,
        check=True,
    )
    report.write_part(ROOT / "README.md", NAME, tables.short(results))


def main(arguments: list[str]) -> int:
    plan = plan_of(arguments)
    if why := load.missing():
        print(f"The servers are not compared: {why}")
        return 0
    results = measure(plan)
    if plan.names == Plan.names:
        keep(results)
    else:
        print(tables.whole(results))
    return 1 if results.errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
