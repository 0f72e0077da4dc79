"""Convex polygons around pairs of inputs: what they cut off boxes, and off linear bounds over boxes.

A polygon is a set of half-planes in the unit square of its block's limits. A box keeps only what lies in every
half-plane: it shrinks, or is empty. A linear bound over box and polygon is a linear program; every choice of
multipliers of its dual is a bound, so the best single half-plane is taken, then the best for what is left of the slope
(weak duality; Boyd and Vandenberghe, Convex Optimization, section 5.2).
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

_SLACK = 2.0**-36
"""In units of the square: more than what rounding in float64 does to a product of a normal and a place."""
_NEAR, _FAR = -1.0, 2.0
"""Places are clipped to here: nearer to the square no row gets by clipping, as none lies beyond it before the cast."""
_FLAT = 2.0**-10
"""A normal whose component is smaller says nothing of that side: dividing by it would magnify rounding."""
_STEPS = 3
_SECONDS_PER_PLANE = 0.08e-6


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
class _Polygon:
    """One pair of inputs over N blocks; `origin`, `width` [N, 2] make the unit square."""

    inputs: tuple[int, int]
    origin: Floats
    width: Floats
    normal: Floats
    offset: Floats

    def unit(self, x: Floats, block: Indices) -> Floats:
        """The place [L, 2] of points [L, d] in the squares of their blocks."""
        with np.errstate(all="ignore"):
            place = (x[:, self.inputs] * 0.5 - self.origin[block]) / self.width[block]
        return np.where(np.isnan(place), 0.0, np.clip(place, _NEAR, _FAR))


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """The polygons that cut each of L boxes: those of the blocks [L]."""

    polygons: Polygons
    block: Indices

    def take(self, part: slice) -> Cuts:
        """Those of some of the boxes."""
        return Cuts(self.polygons, self.block[part])


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """The polygons of N blocks, made ready for inputs cast to a float type."""

    pairs: tuple[_Polygon, ...]

    @classmethod
    def of(cls, hulls: Sequence[Hull], dtype: np.dtype[np.floating]) -> Polygons:
        """Half-planes widened by what casting may move an input by.

        Sound because a row within a half-plane is, once cast, within the widened one.
        """
        return cls(tuple(_polygon(hull, dtype) for hull in hulls if hull.offset.shape[1]))

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what cutting one box costs."""
        return _SECONDS_PER_PLANE * float(sum(pair.offset.shape[1] for pair in self.pairs))

    def contains(self, x: Floats, block: Indices) -> Bools:
        """Whether points [L, d] lie in all polygons of their blocks [L]; only for aiming, nothing is proved."""
        inside = np.ones(len(x), np.bool_)
        for pair in self.pairs:
            place = pair.unit(x, block)
            inside &= (np.einsum("lkc,lc->lk", pair.normal[block], place) <= pair.offset[block]).all(axis=1)
        return inside

    def shrink(self, lower: Floats, upper: Floats, block: Indices) -> tuple[Floats, Floats, Bools]:
        """Boxes [L, d] cut down to what the polygons of their blocks leave -> lower, upper, and which are empty [L].

        Sound because normal . u <= offset and the smallest value of one product bound the other product.
        """
        lower, upper = lower.copy(), upper.copy()
        empty = np.zeros(len(block), np.bool_)
        for pair in self.pairs:
            low, high = pair.unit(lower, block) - _SLACK, pair.unit(upper, block) + _SLACK
            normal, offset = pair.normal[block], pair.offset[block]
            for side in (0, 1, 0):
                least = np.minimum(normal * low[:, None, :], normal * high[:, None, :])
                empty |= (least.sum(axis=2) > offset).any(axis=1)
                room = offset - least[:, :, 1 - side] + _SLACK
                steep = normal[:, :, side]
                with np.errstate(all="ignore"):
                    reach = room / steep
                high[:, side] = np.minimum(high[:, side], np.where(steep > _FLAT, reach, np.inf).min(axis=1))
                low[:, side] = np.maximum(low[:, side], np.where(steep < -_FLAT, reach, -np.inf).max(axis=1))
                empty |= low[:, side] > high[:, side]
            _narrow(pair, (lower, upper), (low, high), block)
        empty |= (lower > upper).any(axis=1)
        return lower, upper, empty

    def cut(self, slope: Floats, lower: Floats, upper: Floats, block: Indices) -> Floats:
        """By how much [L, m] the maximum of `slope` [L, m, d] times x over each box is less in the polygons.

        Sound because any multipliers >= 0 of the half-planes give an upper bound (weak duality), rounding is taken off.
        """
        gain = np.zeros(slope.shape[:2])
        places = [(pair.unit(lower, block) - _SLACK, pair.unit(upper, block) + _SLACK) for pair in self.pairs]
        chosen = [_cutting(pair, place, block) for pair, place in zip(self.pairs, places, strict=True)]
        some = np.flatnonzero(np.stack(chosen).any(axis=0))
        if not len(some):
            return gain
        slope, block = slope[some].copy(), block[some]
        places = [(low[some], high[some]) for low, high in places]
        found = np.zeros((len(some), slope.shape[1]))
        for _ in range(_STEPS):
            steps = [_best_plane(pair, place, slope, block) for pair, place in zip(self.pairs, places, strict=True)]
            best = np.argmax([step.gain for step in steps], axis=0)
            for i, (pair, step) in enumerate(zip(self.pairs, steps, strict=True)):
                now = (best == i) & (step.gain > 0)
                found += np.where(now, step.gain, 0.0)
                slope[:, :, list(pair.inputs)] -= np.where(now[:, :, None], step.taken, 0.0)
        gain[some] = found
        return gain


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """The gain [L, m] of the best half-plane of a pair, and what it takes from the slopes of its inputs [L, m, 2]."""

    gain: Floats
    taken: Floats


def _polygon(hull: Hull, dtype: np.dtype[np.floating]) -> _Polygon:
    inputs = hull.inputs
    with np.errstate(all="ignore"):
        origin, width = hull.lower * 0.5, hull.upper * 0.5 - hull.lower * 0.5
        info = np.finfo(dtype)
        magnitude = np.maximum(np.abs(hull.lower), np.abs(hull.upper))
        moved = magnitude * float(info.eps) + float(info.smallest_subnormal)
        share = np.where(width > 0, moved / (2.0 * width), 0.0)
        slack = np.einsum("nkc,nc->nk", np.abs(hull.normal), share) + _SLACK
        offset = hull.offset + slack
        usable = np.isfinite(offset) & np.isfinite(width.sum(axis=1, keepdims=True))
    normal = np.where(usable[:, :, None], np.where((width > 0)[:, None, :], hull.normal, 0.0), 0.0)
    return _Polygon(inputs, origin, width, normal, np.where(usable, offset, np.inf))


def _narrow(pair: _Polygon, box: tuple[Floats, Floats], place: tuple[Floats, Floats], block: Indices) -> None:
    """Bring the places [L, 2] back into the boxes [L, d], in place and outward."""
    lower, upper = box
    origin, width = pair.origin[block], pair.width[block]
    for side, i in enumerate(pair.inputs):
        scale = np.abs(origin[:, side]) + np.abs(width[:, side])
        with np.errstate(all="ignore"):
            low, high = (2.0 * (origin[:, side] + p[:, side] * width[:, side]) for p in place)
            slack = 2.0**-48 * scale
            fit = np.isfinite(width[:, side]) & (width[:, side] > 0)
            # A clipped place says nothing of what lies beyond.
            below, above = fit & (place[0][:, side] > _NEAR), fit & (place[1][:, side] < _FAR)
            lower[:, i] = np.where(below, np.fmax(lower[:, i], low - slack), lower[:, i])
            upper[:, i] = np.where(above, np.fmin(upper[:, i], high + slack), upper[:, i])


def _cutting(pair: _Polygon, place: tuple[Floats, Floats], block: Indices) -> Bools:
    """Whether some half-plane of the pair cuts each box [L]."""
    normal = pair.normal[block]
    most = np.maximum(normal * place[0][:, None, :], normal * place[1][:, None, :]).sum(axis=2)
    cutting: Bools = (most > pair.offset[block]).any(axis=1)
    return cutting


def _best_plane(pair: _Polygon, place: tuple[Floats, Floats], slope: Floats, block: Indices) -> _Step:
    """The half-plane and multiplier with the largest gain for each slope.

    With one half-plane the dual is piecewise linear in the multiplier, so its minimum is where one of the two
    components of what is left of the slope vanishes.
    """
    low, high = (side[:, None, :] for side in place)
    width = 2.0 * pair.width[block]
    c = slope[:, :, list(pair.inputs)] * width[:, None, :]
    normal, offset = pair.normal[block][:, None], np.where(np.isfinite(pair.offset), pair.offset, 0.0)[block][:, None]
    support = np.maximum(c * low, c * high).sum(axis=2)
    gain, taken = np.zeros(c.shape[:2]), np.zeros(c.shape)
    for side in (0, 1):
        with np.errstate(all="ignore"):
            multiplier = c[:, :, None, side] / normal[..., side]
        usable = (np.abs(normal[..., side]) > _FLAT) & (multiplier > 0) & np.isfinite(multiplier)
        multiplier = np.where(usable, multiplier, 0.0)
        part = multiplier[..., None] * normal
        rest = c[:, :, None, :] - part
        rest[..., side] = np.where(usable, 0.0, rest[..., side])
        bound = np.maximum(rest * low[:, :, None], rest * high[:, :, None]).sum(axis=3) + multiplier * offset
        error = 4 * _SLACK * (np.abs(c).sum(axis=2)[:, :, None] + np.abs(part).sum(axis=3))
        better = support[:, :, None] - bound - error
        k = np.argmax(better, axis=2)
        found = np.take_along_axis(better, k[..., None], axis=2)[..., 0]
        step = np.take_along_axis(part, k[..., None, None], axis=2)[:, :, 0]
        now = np.isfinite(found) & (found > gain)
        gain = np.where(now, found, gain)
        taken = np.where(now[..., None], step, taken)
    with np.errstate(all="ignore"):
        back = taken / width[:, None, :]
    return _Step(gain, np.where(np.isfinite(back), back, 0.0))
