"""Regions: what metadata knows about the model inputs of N blocks of rows, as a struct of arrays.

Unknown is a value, never a guess: a block whose metadata is missing, inexact or not understood has `unknown` set, and nothing may be concluded about it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Regions:
    """N blocks, each covered by the union of its parts (axis-parallel boxes of model inputs).

    Shapes: `lower`, `upper` float64 [M, d], model inputs rounded outward, infinite where a side is unbounded; `block` int64 [M], ascending, the block of each part;
    `n_rows` int64 [N]; the flags bool [N]. Every block that is neither `unknown` nor `never_scored` has at least one part.
    """

    columns: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    block: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    unknown: NDArray[np.bool_]
    """Nothing may be concluded about the block."""
    never_scored: NDArray[np.bool_]
    """Every row has a NULL input (or the block is empty), so no row has a score."""
    may_be_null: NDArray[np.bool_]
    """Some row may have a NULL input, hence a NULL score."""
    may_be_nan: NDArray[np.bool_]
    """Some row may have a NaN input, hence a NaN score."""

    def __len__(self) -> int:
        return len(self.n_rows)
