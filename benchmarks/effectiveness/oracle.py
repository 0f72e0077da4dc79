"""Thresholds at given selectivities, and the row groups that an oracle would skip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LARGEST_DEVIATION = 2.0


def threshold(scores: Floats, selectivity: float) -> float | None:
    """A limit that about this share of the rows exceeds: midway between two scores that occur.

    None where ties leave no limit within a factor of two of the selectivity. `scores` [n] may hold NaN (no score).
    """
    distinct, counts = np.unique(scores[~np.isnan(scores)], return_counts=True)
    above = np.cumsum(counts[::-1])[::-1][
        1:
    ]  # how many rows exceed the midpoint below each distinct score but the first
    wanted = max(1.0, selectivity * len(scores))
    if not len(above):
        return None
    best = int(np.argmin(np.abs(np.log(above / wanted))))
    if not 1 / _LARGEST_DEVIATION <= above[best] / wanted <= _LARGEST_DEVIATION:
        return None
    return float((distinct[best] + distinct[best + 1]) / 2)


def block_sizes(n_rows: int, block_rows: int) -> list[int]:
    """The sizes of consecutive blocks: all of block_rows, but the last."""
    return [min(block_rows, n_rows - start) for start in range(0, n_rows, block_rows)]


def matches_per_block(scores: Floats, limit: float, block_rows: int) -> NDArray[np.int64]:
    """How many rows of each block of consecutive rows exceed the limit."""
    return np.add.reduceat((scores > limit).astype(np.int64), np.arange(0, len(scores), block_rows))
