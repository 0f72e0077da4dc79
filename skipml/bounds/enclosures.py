"""Linear forms of vectors: between which values `weight x` lies for every vector x of a block, by each thing that is
known of the block; what the forms have in common with stored directions is bounded there, the rest by a length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.product import product
from skipml.metadata.enclosures import Projection, Vectors

Floats = NDArray[np.float64]

_ROUNDED_UP = 1 + 2.0**-30
"""Lengths in float64 of up to millions of values are off by less."""
_TINY = 2.0**-1000


def extremes(vectors: Vectors, weight: Floats) -> tuple[Floats, Floats]:
    """Bounds [N, h] of `weight` [h, d] times the vectors of each block; -inf and inf where nothing is known.

    Sound because each kind of bound is (see there), so what they have in common is, and the sums in float64 are off by
    less than the room that is added.
    """
    with np.errstate(all="ignore"):
        center = vectors.center.astype(np.float64)
        norm = lengths(weight)
        middle = product(center, np.ascontiguousarray(weight.T))
        reach = np.minimum(_of_ball(vectors, norm), _of_slices(vectors, weight))
        low, high = middle - reach, middle + reach
        for box in vectors.projections:
            _tighten(low, high, middle, box, weight)
        room = rounding(weight.shape[1]) * np.outer(lengths(center) + vectors.radius, norm) + _TINY
        most = np.outer(vectors.length, norm)
        low, high = np.maximum(low - room, -most), np.minimum(high + room, most)
    bounded = vectors.known[:, None] & (low <= high)  # what contradicts itself says nothing; NaN neither
    return np.where(bounded, low, -np.inf), np.where(bounded, high, np.inf)


def lengths(rows: Floats) -> Floats:
    """The lengths [n] of rows [n, d], rounded up."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)) * _ROUNDED_UP + _TINY)


def rounding(d: int) -> float:
    """What some sums of products of d values in float64 are off by, relative to their magnitudes. Sound because a sum
    of d products is off by d / 2**53, and no more than eight times as many roundings come together here.
    """
    return (d + 16) * 2.0**-50


def _of_ball(vectors: Vectors, norm: Floats) -> Floats:
    """How far [N, h] forms get from the centre's. Sound by the inequality of Cauchy and Schwarz."""
    return np.outer(vectors.radius, norm)


def _of_slices(vectors: Vectors, weight: Floats) -> Floats:
    """The same by the distances of slices. Sound by the same inequality in each of them."""
    if vectors.slices is None:
        return np.full((len(vectors.radius), len(weight)), np.inf)
    parts = np.array_split(weight, vectors.slices.shape[1], axis=1)
    norms = np.stack([lengths(part) for part in parts])
    return product(vectors.slices.astype(np.float64), norms) * _ROUNDED_UP


def _tighten(low: Floats, high: Floats, middle: Floats, box: Projection, weight: Floats) -> None:
    """Bounds [N, h] in place, by a box over directions P of x minus the centre: `lower <= P (x - c) <= upper`, and
    e = x - c - P' P (x - c) is at most `rest` long.

    Sound because with a = P w and v = w - P' a, w (x - c) = (a + P v) (P (x - c)) + v e, whatever P is; and what
    rounding takes from a, v and their products is in the room that is added, as no direction is longer than 1.
    """
    basis = box.basis.astype(np.float64)
    along = product(weight, np.ascontiguousarray(basis.T))
    across = weight - product(along, basis)
    along += product(across, np.ascontiguousarray(basis.T))
    rising, falling = np.maximum(along, 0.0).T, np.minimum(along, 0.0).T
    lower, upper = box.lower.astype(np.float64), box.upper.astype(np.float64)
    rising, falling = np.ascontiguousarray(rising), np.ascontiguousarray(falling)
    reach = np.outer(box.rest, lengths(across))
    size = np.maximum(np.abs(lower), np.abs(upper))
    reach += rounding(weight.shape[1]) * np.outer(size.sum(axis=1) + box.rest, lengths(weight) * (1 + len(basis)))
    least = product(lower, rising) + product(upper, falling) - reach
    most = product(upper, rising) + product(lower, falling) + reach
    at = box.block
    low[at] = np.fmax(low[at], middle[at] + least)
    high[at] = np.fmin(high[at], middle[at] + most)
