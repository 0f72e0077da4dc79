"""When a search has read enough posting lists; a stop rule estimates and is never a Decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IntVector = NDArray[np.int64]
IntMatrix = NDArray[np.int64]
FloatVector = NDArray[np.float32]
FloatMatrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a search knows of each of q queries after a round of reading.

    `lists` (q,) posting lists read so far; `route` (q, m) squared-L2-like distances to the centroids in the order of
    reading (ascending); `best` (q, k) distances of the k best rows so far, ascending, inf where there are fewer; `late`
    (q,) share of those k found in the second half of the lists read; `sizes` (q, m) rows of each list in that order.
    """

    lists: IntVector
    route: FloatMatrix
    best: FloatMatrix
    late: FloatVector
    sizes: IntMatrix


class StopRule(Protocol):
    """Says how many posting lists each query reads."""

    def first(self, route: FloatMatrix, sizes: IntMatrix, k: int) -> IntVector:
        """Lists that each query reads before its first look, (q,)."""
        ...

    def more(self, progress: Progress) -> IntVector:
        """Lists that each query shall have read at its next look, (q,); at most `progress.lists` where it has read
        enough.
        """
        ...


@dataclass(frozen=True, slots=True)
class Nprobe:
    """Reads the `lists` nearest lists and stops."""

    lists: int

    def first(self, route: FloatMatrix, sizes: IntMatrix, k: int) -> IntVector:
        """The same number for every query, (q,)."""
        return np.full(len(route), min(self.lists, route.shape[1]), np.int64)

    def more(self, progress: Progress) -> IntVector:
        """What was read is enough, (q,)."""
        return progress.lists
