"""What is stored of the vectors of a block: the ball around them, distances of slices, boxes over directions.

Everything is computed in float64 and rounded outward, so that it holds for the exact values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.metadata.contents import ProjectionMetadata, VectorMetadata
from skipml.vectors import Bools, Matrix

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

LARGEST = 1e15
"""A vector with a number beyond it is odd: nothing is concluded where it is."""
_UP = 1 + 2.0**-30
_TINY = 1e-30
_ULP = 2.0**-49
"""Per value of a sum: more than it loses by rounding."""


@dataclass(frozen=True, eq=False)
class Directions:
    """What to store of the vectors of a column: `n_slices` distances, a box over each basis [k, d] of directions, which
    are at most 1 long.
    """

    column: str
    dimension: int
    n_slices: int = 0
    bases: tuple[Singles, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Enclosure:
    """What one block holds: as `VectorMetadata` and `ProjectionMetadata` have it."""

    lacking: int
    odd: int
    center: Singles
    radius: float
    length: float
    slices: Singles
    boxes: tuple[tuple[Singles, Singles, float], ...]


def largest(vectors: Matrix) -> Floats:
    """The largest magnitude in each vector [n]; infinite where one is NaN."""
    if not vectors.shape[1]:
        return np.zeros(len(vectors))
    with np.errstate(invalid="ignore"):
        found = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float64)
    return np.where(np.isnan(found), np.inf, found)


def enclose(vectors: Matrix, usable: Bools, wanted: Directions) -> Enclosure:
    """The enclosure of the vectors [n, d] that are `usable` [n] and not odd.

    Sound because the distances are of these vectors from the centre that is stored, and the sums that they are made of
    lose less than what is added.
    """
    fine = usable & (largest(vectors) <= LARGEST)
    chosen = vectors[fine].astype(np.float64)
    center = (chosen.mean(axis=0) if len(chosen) else np.zeros(wanted.dimension)).astype(np.float32)
    away = chosen - center
    parts = np.array_split(away, wanted.n_slices, axis=1) if wanted.n_slices else []
    return Enclosure(
        lacking=int((~usable).sum()),
        odd=int((usable & ~fine).sum()),
        center=center,
        radius=_longest(away),
        length=_longest(chosen),
        slices=_above(np.array([_longest(part) for part in parts])),
        boxes=tuple(_box(away, basis) for basis in wanted.bases),
    )


def _box(away: Floats, basis: Singles) -> tuple[Singles, Singles, float]:
    wide = basis.astype(np.float64)
    if not len(away):
        return np.zeros(len(basis), np.float32), np.zeros(len(basis), np.float32), 0.0
    along = away @ wide.T
    room = _ULP * (away.shape[1] + 4) * _longest(away) + _TINY
    lower, upper = along.min(axis=0) - room, along.max(axis=0) + room
    rest = _longest(away - along @ wide) + room * (1 + len(basis))
    return -_above(-lower), _above(upper), rest


def _longest(rows: Floats) -> float:
    """The length of the longest row, rounded up."""
    return float(np.sqrt(np.einsum("ij,ij->i", rows, rows).max(initial=0.0))) * _UP + _TINY


def _above(values: Floats) -> Singles:
    """float32 that is not less."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))


def principal(sample: Matrix, k: int) -> Singles:
    """The k directions [k, d] in which a sample [n, d] spreads the most, not longer than 1."""
    k = min(k, sample.shape[1], len(sample))
    if not k:
        return np.zeros((0, sample.shape[1]), np.float32)
    away = sample.astype(np.float64) - sample.mean(axis=0, dtype=np.float64)
    _, found = np.linalg.eigh(away.T @ away)
    return unit(found.T[::-1][:k])


def unit(rows: NDArray[np.floating]) -> Singles:
    """Rows [k, d] made not longer than 1."""
    wide = rows.astype(np.float64)
    norm = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return np.asarray(wide / np.maximum(norm, _TINY)[:, None] * (1 - 2.0**-20), np.float32)


def metadata_of_vectors(blocks: list[Enclosure], wanted: Directions) -> tuple[VectorMetadata, list[ProjectionMetadata]]:
    """Those of a file's blocks, in order."""
    n, name = len(blocks), wanted.column
    vectors = VectorMetadata(
        column=name,
        dimension=wanted.dimension,
        lacking=np.array([block.lacking for block in blocks], np.int64),
        odd=np.array([block.odd for block in blocks], np.int64),
        center=np.array([block.center for block in blocks], np.float32).reshape(n, wanted.dimension),
        radius=np.array([block.radius for block in blocks], np.float64),
        length=np.array([block.length for block in blocks], np.float64),
        slices=np.array([block.slices for block in blocks], np.float32).reshape(n, wanted.n_slices),
    )
    boxes = []
    for i, basis in enumerate(wanted.bases):
        lower, upper = (np.array([block.boxes[i][side] for block in blocks], np.float32) for side in (0, 1))
        rest = np.array([block.boxes[i][2] for block in blocks], np.float64)
        boxes.append(ProjectionMetadata(name, basis, lower.reshape(n, -1), upper.reshape(n, -1), rest))
    return vectors, boxes
