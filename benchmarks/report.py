"""How results are written down: one Markdown file a benchmark, in results/."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of an ordered sequence; NaN of an empty one."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write(name: str, title: str, body: str) -> None:
    """Print a result and keep it as results/NAME.md."""
    text = (
        f"# {title}\n\n{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. Machines are noisy: compare ratios.\n\n"
        f"{body}\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def write_part(path: Path, name: str, body: str) -> None:
    """Put `body` between <!-- NAME --> and <!-- /NAME --> of a file.

    Raises ValueError where the file has no such part.
    """
    part = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    text, found = part.subn(lambda m: f"{m[1]}\n{body}\n\n{m[2]}", path.read_text())
    if not found:
        raise ValueError(f"{path} has no <!-- {name} --> and <!-- /{name} -->.")
    path.write_text(text)
