"""What is known of single rows: how far each is from the centroid of its block, and a code of the way there.

A code is the centre of a small ball around its row, so the bounds of balls are those of codes. Nothing of skipml stores
codes beside a table: this measures what they would be worth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.enclosures import lengths
from skipml.metadata.enclosures import Vectors

Singles = NDArray[np.float32]

BITS = (2, 4, 8)
_CUTS = (1.0, 0.8, 0.6)
"""How much of the range of a row's values has steps: fewer and finer ones pay where few values are far out."""
_LENGTH_BYTES, _STEP_BYTES = 4, 8


def distances(vectors: Singles, centers: Singles) -> tuple[Vectors, float]:
    """Of each row from its centre, and the bytes of a row."""
    return _balls(vectors, centers), _LENGTH_BYTES


def codes(vectors: Singles, centers: Singles, bits: int) -> tuple[Vectors, float]:
    """Of so many bits for each value, with a first and a last step for each row, and the bytes of a row."""
    away = vectors - centers
    best, least = away, np.full(len(vectors), np.inf, np.float32)
    for cut in _CUTS:
        low, high = cut * away.min(axis=1, keepdims=True), cut * away.max(axis=1, keepdims=True)
        step = np.maximum((high - low) / (2**bits - 1), 1e-9)
        found = np.clip(np.rint((away - low) / step), 0, 2**bits - 1) * step + low
        error = ((away - found) ** 2).sum(axis=1)
        best = np.where((error < least)[:, None], found, best) if cut < 1 else found
        least = np.minimum(error, least)
    return _balls(vectors, centers + best), _LENGTH_BYTES + _STEP_BYTES + bits * vectors.shape[1] / 8


def _balls(vectors: Singles, centers: Singles) -> Vectors:
    """Around each row by itself.

    Sound because the distances are of the float32 centres that are kept, and rounded up.
    """
    centers = centers.astype(np.float32)
    parts = np.array_split(np.arange(len(vectors)), 16)
    radius = np.concatenate([lengths(vectors[at].astype(np.float64) - centers[at]) for at in parts])
    length = np.concatenate([lengths(vectors[at].astype(np.float64)) for at in parts])
    all_known = np.ones(len(vectors), np.bool_)
    return Vectors(all_known, ~all_known, ~all_known, centers, radius, length)
