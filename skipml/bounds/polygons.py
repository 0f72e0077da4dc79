"""Convex polygons around pairs of inputs: what they cut off boxes.

A polygon is a set of half-planes in the unit square of its block's limits. A box keeps only what lies in every
half-plane: it shrinks, or is empty (bounds consistency of linear constraints, as in Benhamou and Older, Applying
interval arithmetic to real, integer and boolean constraints, 1997). After a split along one input the other shrinks
too, so branch and bound follows the polygon. The linear bounds of CROWN are maximised over polygons only in the boxes
that branch and bound begins with (linear_over_polygons.py): in every box it proved 0.2 % more on the effectiveness
workload for three times the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SLACK = 2.0**-36
"""In units of the square: more than what rounding in float64 does to a product of a normal and a place."""
_NEAR, _FAR = -1.0, 2.0
"""Places are clipped to here: nearer to the square no row gets by clipping, as none lies beyond it before the cast."""
_NARROWEST = 2.0**-1000
_NO_LIMIT = 1e9
"""The offset of a half-plane that cuts nothing: places are at most 2."""
_FLAT = 2.0**-10
"""A normal whose component is smaller says nothing of that side: dividing by it would magnify rounding."""
_SWEEPS = (0, 1, 0)
_SECONDS_PER_PAIR, _SECONDS_PER_PLANE = 0.5e-6, 0.05e-6


class Hull(Protocol):
    """Half-planes `normal` [N, K, 2], `offset` [N, K] around two inputs of N blocks, in the unit squares between
    `lower` and `upper` [N, 2].
    """

    @property
    def inputs(self) -> tuple[int, int]:
        """The positions of the two inputs."""

    @property
    def lower(self) -> Floats:
        """[N, 2]."""

    @property
    def upper(self) -> Floats:
        """[N, 2]."""

    @property
    def normal(self) -> Floats:
        """[N, K, 2]."""

    @property
    def offset(self) -> Floats:
        """[N, K]."""


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """One pair of inputs over N blocks: `origin`, `width` [N, 2] make the unit square, `planes` [5, N, K] hold the two
    components of the normals, the offsets, and what the components divide by (0 for those that say nothing).
    """

    inputs: tuple[int, int]
    origin: Floats
    width: Floats
    planes: Floats

    def unit(self, x: Floats, block: Indices) -> tuple[Floats, Floats]:
        """The places [L] of points [L, d] in the squares of their blocks."""
        with np.errstate(all="ignore"):
            place = (x[:, self.inputs] * 0.5 - self.origin[block]) / self.width[block]
        place = np.where(np.isnan(place), 0.0, np.clip(place, _NEAR, _FAR))
        return place[:, 0], place[:, 1]

    def holds(self, x: Floats, block: Indices) -> Bools:
        """Whether points [L, d] lie in the polygons of their blocks [L]."""
        first, second, offset = self.planes[:3].take(block, axis=1)
        place = self.unit(x, block)
        inside: Bools = first * place[0][:, None] + second * place[1][:, None] <= offset
        return np.asarray(inside.all(axis=1), np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """The polygons that cut each of L boxes: those of the blocks [L]."""

    polygons: Polygons
    block: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """The polygons of N blocks, made ready for inputs cast to a float type."""

    pairs: tuple[Polygon, ...]

    @classmethod
    def of(cls, hulls: Sequence[Hull], dtype: np.dtype[np.floating]) -> Polygons:
        """Half-planes widened by what casting may move an input by.

        Sound because a row within a half-plane is, once cast, within the widened one.
        """
        return cls(tuple(_polygon(hull, dtype) for hull in hulls if hull.offset.shape[1]))

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what cutting one box costs."""
        planes = sum(pair.planes.shape[2] for pair in self.pairs)
        return _SECONDS_PER_PAIR * len(self.pairs) + _SECONDS_PER_PLANE * float(planes)

    def contains(self, x: Floats, block: Indices) -> Bools:
        """Whether points [L, d] lie in all polygons of their blocks [L]; only for aiming, nothing is proved."""
        inside = np.ones(len(x), np.bool_)
        for pair in self.pairs:
            inside[inside] = pair.holds(x[inside], block[inside])
        return inside

    def shrink(self, lower: Floats, upper: Floats, block: Indices) -> tuple[Floats, Floats, Bools]:
        """Boxes [L, d] cut down to what the polygons of their blocks leave -> lower, upper, and which are empty [L].

        Sound because normal . u <= offset and the smallest value of one product bound the other product.
        """
        lower, upper = lower.copy(), upper.copy()
        empty = np.zeros(len(block), np.bool_)
        for pair in self.pairs:
            low = [side - SLACK for side in pair.unit(lower, block)]
            high = [side + SLACK for side in pair.unit(upper, block)]
            planes = pair.planes.take(block, axis=1)
            cutting = np.flatnonzero((_extreme(planes, low, high, np.maximum) > planes[2]).any(axis=1))
            if not len(cutting):
                continue
            planes = planes.take(cutting, axis=1)
            low, high = [side[cutting] for side in low], [side[cutting] for side in high]
            empty[cutting] |= _sweep(planes, low, high)
            _narrow(pair, (lower, upper), (low, high), (cutting, block[cutting]))
        empty |= (lower > upper).any(axis=1)
        return lower, upper, empty


def _polygon(hull: Hull, dtype: np.dtype[np.floating]) -> Polygon:
    with np.errstate(all="ignore"):
        origin, width = hull.lower * 0.5, hull.upper * 0.5 - hull.lower * 0.5
        info = np.finfo(dtype)
        magnitude = np.maximum(np.abs(hull.lower), np.abs(hull.upper))
        moved = magnitude * float(info.eps) + float(info.smallest_subnormal)
        share = np.where(width > 0, moved / (2.0 * width), 0.0)
        slack = np.einsum("nkc,nc->nk", np.abs(hull.normal), share) + SLACK
        offset = hull.offset + slack
        # Casting may move a row to infinity, and halving rounds what is denormal.
        fits = (magnitude <= float(info.max) * (1 - float(info.eps))) & (
            (hull.upper == hull.lower) | (width > _NARROWEST)
        )
        usable = np.isfinite(offset) & np.isfinite(width.sum(axis=1, keepdims=True)) & fits.all(axis=1, keepdims=True)
        normal = np.where(usable[:, :, None], np.where((width > 0)[:, None, :], hull.normal, 0.0), 0.0)
        inverse = np.where(np.abs(normal) > _FLAT, 1.0 / normal, 0.0)
    offset = np.where(usable, offset, _NO_LIMIT)
    planes = np.stack([normal[:, :, 0], normal[:, :, 1], offset, inverse[:, :, 0], inverse[:, :, 1]])
    return Polygon(hull.inputs, origin, width, planes)


def _extreme(planes: Floats, low: list[Floats], high: list[Floats], choose: np.ufunc) -> Floats:
    """The largest or smallest value [L, K] of normal . u over each box of places [L]."""
    first, second = (choose(planes[side] * low[side][:, None], planes[side] * high[side][:, None]) for side in (0, 1))
    return np.asarray(first + second)


def _sweep(planes: Floats, low: list[Floats], high: list[Floats]) -> Bools:
    """Narrow places [L] by half-planes [5, L, K], in place -> which boxes are empty."""
    empty = (_extreme(planes, low, high, np.minimum) > planes[2]).any(axis=1)
    for side in _SWEEPS:
        other = 1 - side
        normal, inverse = planes[other], planes[3 + side]
        least = np.minimum(normal * low[other][:, None], normal * high[other][:, None])
        reach = (planes[2] - least + SLACK) * inverse
        high[side] = np.minimum(high[side], np.where(inverse > 0, reach, np.inf).min(axis=1))
        low[side] = np.maximum(low[side], np.where(inverse < 0, reach, -np.inf).max(axis=1))
    return np.asarray(empty | (low[0] > high[0]) | (low[1] > high[1]), np.bool_)


def _narrow(
    pair: Polygon,
    box: tuple[Floats, Floats],
    place: tuple[list[Floats], list[Floats]],
    where: tuple[Indices, Indices],
) -> None:
    """Bring places [L] back into some of the boxes, in place and outward; `where` are these boxes and their blocks."""
    (lower, upper), (boxes, block) = box, where
    for side, i in enumerate(pair.inputs):
        origin, width = pair.origin[block, side], pair.width[block, side]
        with np.errstate(all="ignore"):
            low, high = (2.0 * (origin + p[side] * width) for p in place)
            slack = 2.0**-48 * (np.abs(origin) + np.abs(width))
            fit = np.isfinite(width) & (width > 0)
            # A clipped place says nothing of what lies beyond.
            below, above = fit & (place[0][side] > _NEAR), fit & (place[1][side] < _FAR)
            lower[boxes, i] = np.where(below, np.fmax(lower[boxes, i], low - slack), lower[boxes, i])
            upper[boxes, i] = np.where(above, np.fmin(upper[boxes, i], high + slack), upper[boxes, i])
