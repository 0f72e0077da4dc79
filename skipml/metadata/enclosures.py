"""What is known of the vectors of one column in many blocks: balls, slices and boxes over directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.metadata.contents import Metadata, VectorMetadata

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A box over directions for some of the blocks, `block` [B] ascending; see `ProjectionMetadata`."""

    block: Indices
    basis: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    rest: Floats

    def take(self, number: Indices) -> Projection:
        """Those of the blocks that have a new number [N], -1 for the others."""
        block = number[self.block]
        kept = block >= 0
        return Projection(block[kept], self.basis, self.lower[kept], self.upper[kept], self.rest[kept])


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Around the vectors of `dimension` values in N blocks, where they are `known` [N]; see `VectorMetadata`."""

    known: Bools
    all_null: Bools
    """No row has such a vector."""
    may_be_null: Bools
    """Some row may have none."""
    center: NDArray[np.float32]
    radius: Floats
    length: Floats
    slices: NDArray[np.float32] | None = None
    """Distances [N, S], infinite where they are not known."""
    projections: tuple[Projection, ...] = ()

    @property
    def dimension(self) -> int:
        """Values of a vector."""
        return int(self.center.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory that the large arrays take."""
        return self.center.nbytes + sum(box.lower.nbytes + box.upper.nbytes for box in self.projections)

    def take(self, blocks: Bools) -> Vectors:
        """Those of some of the blocks, chosen by a mask [N]."""
        number = np.where(blocks, np.cumsum(blocks) - 1, -1)
        return Vectors(
            self.known[blocks],
            self.all_null[blocks],
            self.may_be_null[blocks],
            self.center[blocks],
            self.radius[blocks],
            self.length[blocks],
            None if self.slices is None else self.slices[blocks],
            tuple(box.take(number) for box in self.projections),
        )


def enclosures(name: str, found: Sequence[Metadata | None], sizes: Sequence[int]) -> Vectors | None:
    """The vectors of a column, by its name without regard to case, in the blocks of several files, `sizes` of them in
    each; None if no file has any. A file with vectors of another dimension than the first one's is not known.
    """
    of_file = [_vectors(metadata, name) for metadata in found]
    first = next((v for v in of_file if v is not None), None)
    if first is None:
        return None
    n, n_slices = sum(sizes), max(v.slices.shape[1] for v in of_file if v is not None)
    known, all_null, may_be_null = np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.ones(n, np.bool_)
    center, radius, length = np.zeros((n, first.dimension), np.float32), np.zeros(n), np.zeros(n)
    slices = np.full((n, n_slices), np.inf, np.float32)
    projections: list[Projection] = []
    start = 0
    for metadata, mine, size in zip(found, of_file, sizes, strict=True):
        place = slice(start, start + size)
        start += size
        if metadata is None or mine is None or mine.dimension != first.dimension:
            continue
        known[place], all_null[place] = mine.odd == 0, mine.lacking == metadata.n_rows
        may_be_null[place] = mine.lacking > 0
        center[place], radius[place], length[place] = mine.center, mine.radius, mine.length
        if mine.slices.shape[1] == n_slices:
            slices[place] = mine.slices
        block = np.arange(place.start, place.stop)
        boxes = (box for box in metadata.projections if box.column == mine.column)
        projections += [Projection(block, box.basis, box.lower, box.upper, box.rest) for box in boxes]
    return Vectors(
        known, all_null, may_be_null, center, radius, length, slices if n_slices else None, tuple(projections)
    )


def _vectors(metadata: Metadata | None, name: str) -> VectorMetadata | None:
    """The vectors of that name, as DuckDB finds a column: without regard to case."""
    named = [v for v in metadata.vectors if v.column.lower() == name.lower()] if metadata is not None else []
    return named[0] if len(named) == 1 else None
