"""Bounds of networks over vectors: what is known of a block's vectors bounds the first sums, and boxes of these are
what the rest of the network is bounded over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds.enclosures import extremes, lengths, rounding
from skipml.bounds.margins import MarginVerifier
from skipml.bounds.polygons import Hull
from skipml.bounds.rounding import arithmetic
from skipml.heads import FirstLayer, Head
from skipml.metadata.enclosures import Vectors
from skipml.network import Affine, Divide, Network, Scale, Shift
from skipml.regions import Regions

Floats = NDArray[np.float64]

_ROUNDED_UP = 1 + 2.0**-20


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Sums:
    """N blocks, each covered by one box [N, h] of the first sums."""

    lower: Floats
    upper: Floats
    block: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    hulls: tuple[Hull, ...] = ()


class HeadVerifier(MarginVerifier):
    """Bounds of a head's outputs over boxes of the first sums as computed, as `MarginVerifier` has them."""

    function: Head

    def __init__(self, head: Head, functionals: ArrayLike | None = None, *, signs: bool = False) -> None:
        super().__init__(head, head.first.rest, functionals, signs=signs)
        self.function = head
        self._first = _First.of(head.network, head.first)

    def blocks(self, regions: Regions) -> Sums:
        """Boxes of the first sums, infinite where nothing is known of vectors of the head's dimension.

        Sound because the exact sums lie within `extremes`, and computed ones are off by at most the error.
        """
        vectors, n = regions.vectors.get(0), len(regions)
        if vectors is None or vectors.dimension != self.function.dimension:
            unknown = np.full((n, len(self._first.offset)), np.inf)
            return Sums(-unknown, unknown, np.arange(n), regions.n_rows)
        return Sums(*self._first.bounds(vectors), np.arange(n), regions.n_rows)

    def apart(self, rows: Floats, slack: Floats) -> Floats:
        """How far at most another evaluation of any of the vectors [n, d] is off [m]; infinite where nothing is known.

        Sound because the sums of both evaluations lie within the error of the exact ones, so in a box around those
        computed here, and the outputs within the bounds over it. `slack` is 0: vectors are read as they are stored.
        """
        sums = self.function.first.sums(rows).astype(np.float64)
        with np.errstate(all="ignore"):
            error = 2 * self._first.error(lengths(rows.astype(np.float64)))
        bounds = self.linear(sums - error, sums + error)
        return self.farthest(bounds.lower, bounds.upper)


@dataclass(frozen=True, eq=False)
class _First:
    """The first sums as `weight x + offset` in float64, and what computing them loses: `relative` of the products of
    absolute weights and values and of `magnitude`, and `lost` by underflow; where more than `most` comes together a sum
    may overflow.
    """

    weight: Floats
    offset: Floats
    norm: Floats
    magnitude: Floats
    growth: tuple[float, float]
    relative: float
    lost: Floats
    most: float

    @classmethod
    def of(cls, network: Network, first: FirstLayer) -> _First:
        """Those of a head. Sound because each op rounds once, and loses less than `tiny` by underflow; see rounding.py
        for the sums.
        """
        h, d = first.weight.shape
        constants = arithmetic(Network(d, h, network.dtype, (*first.scaling, Affine(first.weight, first.bias))), 1)
        factor, shift, shifts = np.ones(d), np.zeros(d), np.zeros(d)
        lost, growth = np.full(d, constants.tiny), [1.0, 0.0]
        for op in first.scaling:
            match op:
                case Shift(vector):
                    shift, shifts, lost = shift + vector, shifts + np.abs(vector), lost + constants.tiny
                case Scale(vector):
                    by = vector.astype(np.float64)
                    factor, shift, shifts = factor * by, shift * by, shifts * np.abs(by)
                    lost = lost * np.abs(by) + constants.tiny
                case Divide(vector):
                    by = 1 / vector.astype(np.float64)
                    factor, shift, shifts = factor * by, shift * by, shifts * np.abs(by)
                    lost = lost * np.abs(by) + constants.tiny
            growth = [max(growth[0], float(np.abs(factor).max())), max(growth[1], float(shifts.max()))]
        wide = first.weight.astype(np.float64)
        n_roundings = d + len(first.scaling) + 3  # the products, the bias, the cast of the input, the scaling
        weight, absolute = wide * factor, np.abs(wide)
        return cls(
            weight=weight,
            offset=wide @ shift + first.bias,
            norm=lengths(weight),
            magnitude=(absolute @ shifts + np.abs(first.bias)) * _ROUNDED_UP,
            growth=(growth[0], growth[1]),
            relative=constants.relative(n_roundings) + rounding(n_roundings),
            lost=(absolute @ lost + constants.underflow(n_roundings)) * _ROUNDED_UP,
            most=constants.limit / 2,
        )

    def error(self, length: Floats) -> Floats:
        """How far computed sums are off [N, h], for vectors of at most that length [N].

        Sound because the products of absolute weights and values add up to at most that of the lengths.
        """
        reach = np.outer(length, self.norm) + self.magnitude
        largest = np.maximum(reach.max(axis=1), length * max(self.growth[0], 1.0) + self.growth[1])
        error = self.relative * reach * _ROUNDED_UP + self.lost
        return np.where((largest <= self.most)[:, None], error, np.inf)

    def bounds(self, vectors: Vectors) -> tuple[Floats, Floats]:
        """Between which values [N, h] computed sums lie, infinite where they may overflow."""
        low, high = extremes(vectors, self.weight)
        with np.errstate(all="ignore"):
            error = self.error(vectors.length)
            return low + self.offset - error, high + self.offset + error
