"""Figures -> a PNG: python -m benchmarks.serving.plot FILE < figures.json.

Of the peers' virtual environment, which has matplotlib.
"""

import json
import sys
from math import floor, log10
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

_COLOURS = ("#2a6f97", "#f4a259", "#5b8e7d", "#bc4b51")


def draw(names: list[str], panels: dict[str, dict[str, list[float]]]) -> Any:
    """One panel a figure, one group of bars a server, one bar a series."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(13, 0.7 * len(names) + 1.4), sharey=True
    )
    for axis, (title, series) in zip(axes, panels.items(), strict=True):
        height = 0.8 / len(series)
        for number, (label, values) in enumerate(series.items()):
            off = (number - (len(series) - 1) / 2) * height
            places = [place + off for place in range(len(names))]
            bars = axis.barh(
                places, values, height, label=label, color=_COLOURS[number % 4]
            )
            axis.bar_label(bars, [_shown(value) for value in values], padding=3)
        axis.set_xscale("log")
        axis.set_xlabel(f"{title} (log scale)")
        # From a power of ten on, and with room for the longest bar's figure.
        low, high = axis.get_xlim()
        axis.set_xlim(10 ** floor(log10(low)), high * 3)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    return figure


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    told = json.load(sys.stdin)
    names = told.pop("names")
    draw(names, told).savefig(sys.argv[1], dpi=110)
