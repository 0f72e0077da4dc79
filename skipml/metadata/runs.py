"""Runs of equal cells between the limits of a block's scores: what both forms of a score map are decoded to.

Edge i of C cells stands for lower + i * ((upper - lower) / C), evaluated in float64; in decoded runs the first edge is
`lower` and the last `upper`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LARGE, _SMALL = 2.0**1000, 2.0**-900


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """The runs of cells in which a score may lie of N blocks, ascending; between two of a block none does."""

    cells: Integers
    """Between the limits of each block [N]."""
    count: Integers
    """Runs of each block [N]."""
    edges: NDArray[np.int32]
    """Where each run starts and ends [K, 2]; of the first and the last of a block the limits count."""

    @staticmethod
    def interleaved(some: Runs, others: Runs, chosen: Bools) -> Runs:
        """Those of N blocks from those of some, chosen by a mask [N], and of the others."""
        cells, count = np.empty(len(chosen), np.int64), np.empty(len(chosen), np.int64)
        cells[chosen], cells[~chosen] = some.cells, others.cells
        count[chosen], count[~chosen] = some.count, others.count
        mine = np.repeat(chosen, count)
        edges = np.empty(len(mine), np.int64)  # pairs at once
        edges[mine], edges[~mine] = some.edges.view(np.int64).ravel(), others.edges.view(np.int64).ravel()
        return Runs(cells, count, edges.view(np.int32).reshape(-1, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Closed intervals that together contain every score of their blocks, ascending; a block without rows has none."""

    block: Integers
    """[K], ascending."""
    lower: Floats
    """[K]."""
    upper: Floats
    """[K]."""


def intervals(parts: Sequence[Runs], lower: Floats, upper: Floats) -> Intervals:
    """What the runs of the first blocks, of the next ones and so on stand for between limits [N]."""
    count = np.concatenate([part.count for part in parts]) if parts else np.zeros(0, np.int64)
    size = int(count.sum())
    found = Intervals(np.repeat(np.arange(len(count)), count), np.empty(size), np.empty(size))
    block = at = 0
    for part in parts:
        place, blocks = slice(at, at + len(part.edges)), slice(block, block + len(part.count))
        _fill(found.lower[place], found.upper[place], part, lower[blocks], upper[blocks])
        block, at = blocks.stop, place.stop
    return found


def _fill(starts: Floats, ends: Floats, runs: Runs, lower: Floats, upper: Floats) -> None:
    with np.errstate(all="ignore"):  # of limits that cannot be divided there is one run, which is that of the limits
        step = np.repeat((upper - lower) / runs.cells, runs.count)
        np.multiply(runs.edges[:, 0], step, out=starts)
        np.multiply(runs.edges[:, 1], step, out=ends)
        origin = np.repeat(lower, runs.count)
        starts += origin
        ends += origin
    some = runs.count > 0
    last = np.cumsum(runs.count)[some] - 1
    ends[last] = upper[some]
    starts[last] = np.minimum(starts[last], upper[some])
    starts[last + 1 - runs.count[some]] = lower[some]


def edges(index: Floats | Integers, lower: float, upper: float, cells: int) -> Floats:
    """The edges [K] as `intervals` evaluates them."""
    step = (upper - lower) / cells
    return np.asarray(index * step + lower, np.float64)


def divisible(lower: Floats | float, upper: Floats | float) -> Bools:
    """Whether the range between limits [N] can be divided: its width cannot overflow nor that of a cell underflow."""
    return np.asarray((upper - lower >= _SMALL) & (np.maximum(-lower, upper) <= _LARGE))
