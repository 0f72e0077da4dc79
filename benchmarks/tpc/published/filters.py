"""The filters of the published protocol, and what an oracle skips for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.tpc.published.workload import BLOCK_ROWS

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_STARTS = 10
BINS = (0.1, 1.0, 10.0, 100.0)
"""Upper ends of the bins of selectivity, in percent of the evaluated rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """lower <= score <= upper, or class = `label`; `matches` [B] are the qualifying rows of each block."""

    lower: float
    upper: float
    label: int
    matches: NDArray[np.int64]
    n_rows: int

    @property
    def selectivity(self) -> float:
        """Percent of the rows that qualify."""
        return 100.0 * int(self.matches.sum()) / self.n_rows

    @property
    def bin(self) -> float:
        """The upper end of its bin, in percent."""
        return next(end for end in BINS if self.selectivity <= end)

    @property
    def skippable(self) -> Bools:
        """The blocks [B] that an oracle skips."""
        return np.asarray(self.matches == 0)


def range_filters(scores: Floats, targets: Floats) -> list[Filter]:
    """Widths 2, 4, 8, ... up to the span of the targets [n], with evenly spaced starts rounded to integers; `scores`
    [n] are NaN where a row has none.
    """
    low, high = float(np.nanmin(targets)), float(np.nanmax(targets))
    span = high - low
    widths = [float(2**i) for i in range(1, 64) if 2**i < span] + [span]
    limits = [(start, start + width) for width in widths for start in _starts(low, high, width)]
    return [_filter((scores >= lower) & (scores <= upper), lower, upper) for lower, upper in limits]


def _starts(low: float, high: float, width: float) -> list[float]:
    starts = np.linspace(low, high - width, _STARTS if width < high - low else 1)
    return list(np.unique(np.rint(starts)).tolist())


def class_filters(classes: NDArray[np.int64], n_classes: int) -> list[Filter]:
    """One filter for each class; `classes` [n] are -1 where a row has none."""
    return [_filter(classes == label, np.nan, np.nan, label) for label in range(n_classes)]


def _filter(passed: Bools, lower: float, upper: float, label: int = -1) -> Filter:
    matches = np.add.reduceat(passed.astype(np.int64), np.arange(0, len(passed), BLOCK_ROWS))
    return Filter(lower, upper, label, matches, len(passed))
