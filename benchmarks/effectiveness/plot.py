"""The picture of the results: per function, which share of the skippable row groups is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from benchmarks.effectiveness.summary import TITLES, method_shares, planned_share

if TYPE_CHECKING:
    from benchmarks.effectiveness.run import Case

_COLORS = ("#999999", "#56b4e9", "#c6dbef")


def plot(cases: Sequence[Case], path: Path) -> None:
    """Write one bar per function, the mean over its selectivities stacked by method, and a mark for what plan skips."""
    counted = [case for case in cases if case.skippable]
    methods, planned = {}, {}
    for name in {case.function for case in counted}:
        mine = [case for case in counted if case.function == name]
        methods[name] = np.mean([method_shares(case) for case in mine], axis=0)
        planned[name] = np.mean([planned_share(case) for case in mine])
    names = sorted(methods, key=lambda name: (planned[name], methods[name][-1], name))
    steps = np.diff(np.stack([methods[name] for name in names]), axis=1, prepend=0)
    figure = Figure(figsize=(8, 0.24 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(names))
    for step, title, color in zip(steps.T, TITLES, _COLORS, strict=True):
        axes.barh(names, 100 * step, left=left, label=f"up to {title}, unguarded", color=color)
        left += 100 * step
    axes.plot(
        [100 * planned[name] for name in names], names, "d", color="#d55e00", label="skipped by plan", clip_on=False
    )
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the row groups without a qualifying row, mean over the selectivities")
    axes.legend(loc="lower right")
    axes.margins(y=0.01)
    figure.savefig(path, dpi=120)
