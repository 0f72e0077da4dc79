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
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skipml.bounds import compiled
from skipml.bounds.compiled import Planes

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
_PULLS = 3
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
        place = _place(x[:, self.inputs], self.origin[block], self.width[block])
        return place[:, 0], place[:, 1]


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """The polygons that cut each of L boxes: those of the blocks [L]."""

    polygons: Polygons
    block: Indices


@dataclass(frozen=True, eq=False)
class Polygons:
    """The P polygons of N blocks, made ready for inputs cast to a float type: as in `Polygon`, `inputs` [P, 2],
    `origin`, `width` [N, P, 2] and `planes` [5, N, P, K].
    """

    dtype: np.dtype[np.floating]
    inputs: Indices
    origin: Floats
    width: Floats
    planes: Floats

    @classmethod
    def of(cls, hulls: Sequence[Hull], dtype: np.dtype[np.floating]) -> Polygons:
        """Half-planes widened by what casting may move an input by.

        Sound because a row within a half-plane is, once cast, within the widened one; padding cuts nothing.
        """
        pairs = [_polygon(hull, dtype) for hull in hulls if hull.offset.shape[1]]
        n, most = (len(pairs[0].origin) if pairs else 0), max((pair.planes.shape[2] for pair in pairs), default=0)
        planes = np.zeros((5, n, len(pairs), most))
        planes[2] = _NO_LIMIT
        for p, pair in enumerate(pairs):
            planes[:, :, p, : pair.planes.shape[2]] = pair.planes
        shape = (n, len(pairs), 2)
        return cls(
            dtype,
            np.array([pair.inputs for pair in pairs], np.int64).reshape(len(pairs), 2),
            np.stack([pair.origin for pair in pairs], axis=1) if pairs else np.zeros(shape),
            np.stack([pair.width for pair in pairs], axis=1) if pairs else np.zeros(shape),
            planes,
        )

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def pairs(self) -> tuple[Polygon, ...]:
        """Each polygon by itself."""
        return tuple(
            Polygon((int(a), int(b)), self.origin[:, p], self.width[:, p], self.planes[:, :, p])
            for p, (a, b) in enumerate(self.inputs)
        )

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what cutting one box costs."""
        return _SECONDS_PER_PAIR * len(self) + _SECONDS_PER_PLANE * float(len(self) * self.planes.shape[3])

    def contains(self, x: Floats, block: Indices) -> Bools:
        """Whether points [L, d] lie in all polygons of their blocks [L]; only for aiming, nothing is proved."""
        first, second, offset = self.planes[:3].take(block, axis=1)
        place = self._unit(x, block)
        inside: Bools = first * place[0][..., None] + second * place[1][..., None] <= offset
        return np.asarray(inside.all(axis=(1, 2)), np.bool_)

    def reach(self, start: Floats, step: Floats, block: Indices) -> Floats:
        """How much of each step [L, d], 0 to 1, stays in all polygons, from starts [L, d] within; only for aiming."""
        first, second, offset = self.planes[:3].take(block, axis=1)
        here, there = self._unit(start, block), self._unit(start + step, block)
        along = first * (there[0] - here[0])[..., None] + second * (there[1] - here[1])[..., None]
        room = offset - first * here[0][..., None] - second * here[1][..., None]
        with np.errstate(all="ignore"):
            limit = np.where(along > 0, room / along, 1.0).min(axis=(1, 2), initial=1.0)
        return np.asarray(np.clip(limit * (1 - SLACK), 0.0, 1.0))

    def pull(self, x: Floats, block: Indices, box: tuple[Floats, Floats]) -> Floats:
        """Points [L, d] of boxes moved into the polygons, most of them; only for aiming.

        The half-plane that is violated most takes a point to its line by turns (Kaczmarz, 1937).
        """
        x, row = x.copy(), np.arange(len(x))
        first, second, offset = self.planes[:3].take(block, axis=1)
        for _ in range(_PULLS):
            place = self._unit(x, block)
            beyond = first * place[0][..., None] + second * place[1][..., None] - offset
            worst = beyond.reshape(len(x), -1).argmax(axis=1)
            p, k = np.divmod(worst, beyond.shape[2])
            far = np.maximum(beyond[row, p, k] + 2 * SLACK, 0.0)
            if not far.any():
                break
            normal = np.stack([first[row, p, k], second[row, p, k]], axis=1)
            step = far[:, None] * normal / np.maximum((normal * normal).sum(axis=1), _FLAT)[:, None]
            with np.errstate(all="ignore"):
                move = 2.0 * step * self.width[block, p]
            for side in (0, 1):
                x[row, self.inputs[p, side]] -= np.where(np.isfinite(move[:, side]), move[:, side], 0.0)
            np.clip(x, *box, out=x)
        return x

    def shrink(self, lower: Floats, upper: Floats, block: Indices) -> tuple[Floats, Floats, Bools]:
        """Boxes [L, d] cut down to what the polygons of their blocks leave, rounded to the float type -> lower, upper,
        and which are empty [L].

        Sound because normal . u <= offset and the smallest value of one product bound the other product, no row lies in
        what is cut off, and casting is monotone.
        """
        lower, upper = np.array(lower, np.float64, order="C"), np.array(upper, np.float64, order="C")
        block = np.ascontiguousarray(block, np.int64)
        empty = np.zeros(len(block), np.bool_)
        if (found := compiled.library()) is None:
            self._cut((lower, upper), block, empty)
            with np.errstate(over="ignore"):
                lower, upper = (side.astype(self.dtype).astype(np.float64) for side in (lower, upper))
            return lower, upper, empty
        arrays = block.ctypes.data, len(block), lower.ctypes.data, upper.ctypes.data, empty.ctypes.data
        if not found.skipml_shrink(self._for_library[0], self.dtype == np.float32, lower.shape[1], *arrays):
            raise MemoryError("no memory to cut boxes down")
        return lower, upper, empty

    @cached_property
    def _for_library(self) -> tuple[Planes, list[NDArray[np.generic]]]:
        """What the compiled library reads, and the arrays that it reads it from."""
        arrays: list[NDArray[np.generic]] = [
            np.ascontiguousarray(array) for array in (self.inputs, self.origin, self.width, self.planes)
        ]
        return Planes(*self.planes.shape[1:], *(array.ctypes.data for array in arrays)), arrays

    def _cut(self, box: tuple[Floats, Floats], block: Indices, empty: Bools) -> None:
        """Cut boxes down in place and mark those that are empty."""
        lower, upper = box
        low, high = self._unit(lower, block), self._unit(upper, block)
        low, high = (low[0] - SLACK, low[1] - SLACK), (high[0] + SLACK, high[1] + SLACK)
        planes = self.planes.take(block, axis=1)
        cutting = np.flatnonzero((_extreme(planes, low, high, np.maximum) > planes[2]).any(axis=(1, 2)))
        if len(cutting):
            planes = planes.take(cutting, axis=1)
            place = [side[cutting] for side in low], [side[cutting] for side in high]
            empty[cutting] |= _sweep(planes, *place)
            self._narrow((lower, upper), place, cutting, block[cutting])
        empty |= (lower > upper).any(axis=1)

    def _unit(self, x: Floats, block: Indices) -> tuple[Floats, Floats]:
        """The places [L, P] of points [L, d] in the squares of their blocks."""
        place = _place(x[:, self.inputs], self.origin.take(block, axis=0), self.width.take(block, axis=0))
        return place[..., 0], place[..., 1]

    def _narrow(
        self, box: tuple[Floats, Floats], place: tuple[list[Floats], list[Floats]], boxes: Indices, block: Indices
    ) -> None:
        """Bring places [C, P] back into some of the boxes `boxes` [C], of blocks `block` [C], in place and outward."""
        lower, upper = (side.take(boxes, axis=0) for side in box)
        origin, width = self.origin.take(block, axis=0), self.width.take(block, axis=0)
        places = np.stack([np.stack(side, axis=2) for side in place])
        with np.errstate(all="ignore"):
            bounds = 2.0 * (origin + places * width)
            slack = 2.0**-48 * (np.abs(origin) + np.abs(width))
            fit = np.isfinite(width) & (width > 0)
            # A clipped place says nothing of what lies beyond.
            low = np.where(fit & (places[0] > _NEAR), bounds[0] - slack, -np.inf)
            high = np.where(fit & (places[1] < _FAR), bounds[1] + slack, np.inf)
        for p, pair in enumerate(self.inputs.tolist()):
            for side, i in enumerate(pair):
                np.fmax(lower[:, i], low[:, p, side], out=lower[:, i])
                np.fmin(upper[:, i], high[:, p, side], out=upper[:, i])
        box[0][boxes], box[1][boxes] = lower, upper


def _place(x: Floats, origin: Floats, width: Floats) -> Floats:
    """The places of numbers in the sides of unit squares, clipped."""
    with np.errstate(all="ignore"):
        place = (x * 0.5 - origin) / width
    return np.where(np.isnan(place), 0.0, np.clip(place, _NEAR, _FAR))


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


def _extreme(planes: Floats, low: Sequence[Floats], high: Sequence[Floats], choose: np.ufunc) -> Floats:
    """The largest or smallest value [L, P, K] of normal . u over each box of places [L, P]."""
    ends = [(planes[side] * low[side][..., None], planes[side] * high[side][..., None]) for side in (0, 1)]
    return np.asarray(choose(*ends[0]) + choose(*ends[1]))


def _sweep(planes: Floats, low: list[Floats], high: list[Floats]) -> Bools:
    """Narrow places [L, P] by half-planes [5, L, P, K], in place -> which boxes [L] are empty."""
    empty = (_extreme(planes, low, high, np.minimum) > planes[2]).any(axis=2)
    for side in _SWEEPS:
        other = 1 - side
        normal, inverse = planes[other], planes[3 + side]
        least = np.minimum(normal * low[other][..., None], normal * high[other][..., None])
        reach = (planes[2] - least + SLACK) * inverse
        high[side] = np.minimum(high[side], np.where(inverse > 0, reach, np.inf).min(axis=2))
        low[side] = np.maximum(low[side], np.where(inverse < 0, reach, -np.inf).max(axis=2))
    return np.asarray((empty | (low[0] > high[0]) | (low[1] > high[1])).any(axis=1), np.bool_)
