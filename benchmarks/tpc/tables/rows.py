"""Whether two ways gave the same rows, in any order, without sorting them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_ODD = np.uint64(0x9E3779B97F4A7C15)
_NULL = -1


@dataclass(frozen=True, slots=True)
class Rows:
    """The number of rows and the sum of their 64-bit hashes."""

    n: int
    digest: int

    @classmethod
    def of(cls, table: pa.Table) -> Rows:
        """Those of a table of numbers."""
        total = np.zeros(table.num_rows, np.uint64)
        for column in table.columns:
            numbers = np.array(pc.fill_null(column.cast(pa.float64()), _NULL).to_numpy(), np.float64)
            total = _mixed(total * _ODD + numbers.view(np.uint64))
        return cls(table.num_rows, int(total.sum(dtype=np.uint64)))


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
