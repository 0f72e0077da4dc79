"""Pictures of the published workload: what is skipped against bytes and against selectivity, and times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.tpc.published.endtoend import NAMES
from benchmarks.tpc.published.filters import BINS
from benchmarks.tpc.published.measure import CEILING
from benchmarks.tpc.published.methods import METHODS
from benchmarks.tpc.published.summary import Results
from benchmarks.tpc.published.workload import published

_COLORS = {"baseline": "#999999", "limits": "#000000", "hull": "#0072b2", "boxes": "#e69f00", "scores": "#009e73"}
_LABELS = {
    "baseline": "published methods",
    "limits": "min-max",
    "hull": "hulls",
    "boxes": "boxes, and hulls with boxes",
    "scores": "score maps",
}
_SELECTED = (
    "min-max",
    "hull 13 B",
    "hull 45 B",
    "hull 13 B, 44 boxes",
    "score map 32 B",
    "score map 256 B",
)
_LEAST_BYTES = 4.0


def plot(found: Results, path: Path) -> None:
    """Effectiveness against bytes, against selectivity, and what that makes of the time."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    against_bytes, against_selectivity, end_to_end = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    _bytes(found, against_bytes)
    _selectivity(found, against_selectivity)
    _ratios(found, end_to_end)
    figure.savefig(path, dpi=120)


def _bytes(found: Results, axes: Axes) -> None:
    for group, color in _COLORS.items():
        mine = [method for method in METHODS if method.group == group and not method.crown_only]
        budget = "complete" if group == "baseline" else "half"
        points = sorted(
            (max(found.mean("bytes_per_block", m.name, budget, BINS[0]), _LEAST_BYTES), _first(found, m.name, budget))
            for m in mine
        )
        line = "" if group in ("baseline", "boxes", "limits") else "-"
        axes.plot(*zip(*points, strict=True), "o", linestyle=line, color=color, label=_LABELS[group], markersize=5)
    ceiling = _first(found, CEILING, "complete")
    axes.axhline(ceiling, color="#666666", linewidth=1, linestyle="--")
    axes.text(_LEAST_BYTES, ceiling + 1, "any connected region", fontsize=8, color="#666666")
    paper = [published()[name] for name in ("min_max_pct", "bounded_hull_pct")]
    axes.plot([_LEAST_BYTES, 13], paper, "x", color="#d55e00", label="MLSkip paper")
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    axes.set_xlabel("bytes per block of 1,000 rows, beside min-max")
    axes.set_ylabel("% of the skippable blocks skipped")
    axes.set_title("selectivity up to 0.1 %", fontsize=10)
    axes.legend(fontsize=7, loc="lower right")


def _first(found: Results, method: str, budget: str) -> float:
    return found.mean("effectiveness", method, budget, BINS[0])


def _selectivity(found: Results, axes: Axes) -> None:
    colors = dict(zip(_SELECTED, ["#000000", "#999999", "#0072b2", "#e69f00", "#7fcdbb", "#009e73"], strict=True))
    # filters that more rows pass leave no block to skip
    bins = [end for end in BINS if not np.isnan(found.mean("effectiveness", _SELECTED[0], "half", end))]
    for name, color in colors.items():
        values = [found.mean("effectiveness", name, "half", end) for end in bins]
        axes.plot(range(len(bins)), values, "o-", color=color, label=name, markersize=4)
    axes.set_xticks(range(len(bins)), [f"≤ {end:g} %" for end in bins])
    axes.set_ylim(0, 140)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("selectivity")
    axes.legend(fontsize=7, loc="upper center")


def _ratios(found: Results, axes: Axes) -> None:
    names = list(reversed(NAMES))
    values = [found.ratio(name) for name in names]
    color = colormaps["Blues"](0.7)
    bars = axes.barh(names, values, color=color)
    axes.bar_label(bars, [f"{value:.2f}x" for value in values], padding=2, fontsize=8)
    axes.axvline(1.0, color="#000000", linewidth=1)
    axes.set_xlim(0, 1.2 * np.nanmax([*values, 1.0]))
    axes.set_xlabel("times faster than PyTorch in DuckDB")
    axes.tick_params(axis="y", labelsize=8)
