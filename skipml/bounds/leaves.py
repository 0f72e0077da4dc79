"""The boxes that branch and bound divides the blocks into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skipml.bounds import compiled
from skipml.bounds.falsify import Test
from skipml.bounds.memory import OF_LEAVES, Known

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_GAPS = (np.arange(1, 33) / 32)[:, None, None]
"""Shares of a gap that are tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaves:
    """Boxes [L, d], the first box and the block that each is a part of [L], bounds of the values of its rows [L, m],
    whether these are CROWN's [L], the slope [L, d] to split by and how near to a proof it is [L].
    """

    lower: Floats
    upper: Floats
    root: Indices
    block: Indices
    low: Floats
    high: Floats
    bounded: Bools
    slope: Floats
    promise: Floats

    def take(self, chosen: Bools | Indices | slice) -> Leaves:
        """Some of them, chosen by a mask [L], by number or by place."""
        if isinstance(chosen, np.ndarray) and chosen.dtype == np.bool_ and chosen.all():
            return self
        return Leaves(
            self.lower[chosen],
            self.upper[chosen],
            self.root[chosen],
            self.block[chosen],
            self.low[chosen],
            self.high[chosen],
            self.bounded[chosen],
            self.slope[chosen],
            self.promise[chosen],
        )

    @classmethod
    def of(cls, known: Known, block: Indices, chosen: Indices) -> Leaves:
        """Some of the leaves that are known, of the blocks `block` [L]."""
        arrays = {name: getattr(known, name)[chosen] for name in OF_LEAVES}
        return cls(**arrays, block=block[chosen], promise=np.zeros(len(chosen)))

    def put_into(self, known: Known, kept: Bools, lowest: Floats, highest: Floats) -> Known:
        """What is known with these leaves in place of those that are not `kept` [L], and with values of points.

        Sound if these and those that are kept hold the same rows as all did.
        """
        if kept.all() and not len(self):
            return known
        arrays = {name: np.concatenate([getattr(known, name)[kept], getattr(self, name)]) for name in OF_LEAVES}
        return Known(**arrays, lowest=lowest, highest=highest)

    @classmethod
    def joined(cls, parts: Sequence[Leaves]) -> Leaves:
        """All of one or more."""
        parts = [part for part in parts if len(part)] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def __len__(self) -> int:
        return len(self.block)


def halved(leaves: Leaves, times: int, dtype: np.dtype[np.floating]) -> Leaves:
    """The halves of leaves, and the halves of these, so many times; a single point stays.

    Sound because the parts together hold every number of the float type that the leaf holds.
    """
    if (found := compiled.library()) is None:
        for _ in range(times):
            leaves = _halves(leaves, dtype)
        return leaves
    n, d = leaves.lower.shape
    lower, upper = np.empty((2, n << times, d))
    parent = np.empty(n << times, np.int64)
    boxes = [np.ascontiguousarray(array, np.float64) for array in (leaves.slope, leaves.lower, leaves.upper)]
    slope, low, high = (array.ctypes.data for array in boxes)
    parts = lower.ctypes.data, upper.ctypes.data, parent.ctypes.data
    count = found.skipml_halve(dtype == np.float32, d, times, slope, n, low, high, *parts)
    return replace(leaves.take(parent[:count]), lower=lower[:count], upper=upper[:count])


def _halves(leaves: Leaves, dtype: np.dtype[np.floating]) -> Leaves:
    point = (leaves.lower == leaves.upper).all(axis=1)
    rest, leaves = leaves.take(point), leaves.take(~point)
    row, side = np.arange(len(leaves)), _widest(leaves)
    lower, upper = leaves.lower[row, side], leaves.upper[row, side]
    with np.errstate(over="ignore"):  # beyond the largest number comes infinity
        middle = ((lower + upper) * 0.5).astype(dtype)
        below = np.nextafter(upper.astype(dtype), dtype.type(-np.inf))
        middle = np.where(middle < upper, middle, below)
        above = np.nextafter(middle, dtype.type(np.inf))
    left, right = leaves.upper.copy(), leaves.lower.copy()
    left[row, side], right[row, side] = middle, above
    return Leaves.joined([rest, replace(leaves, upper=left), replace(leaves, lower=right)])


def _widest(leaves: Leaves) -> Indices:
    """The side of each leaf that moves its linear bound most [L]; a side that moves nothing counts a little, so that
    sides get split in turn.
    """
    steep = np.abs(leaves.slope)
    steepest = steep.max(axis=1, keepdims=True)
    width = leaves.upper - leaves.lower
    weight = np.where(steepest > 0, steep + 1e-3 * steepest, 1.0)
    return np.asarray(np.argmax(np.where(width > 0, weight * width, -1.0), axis=1), np.int64)


def nearness(test: Test, leaves: Leaves, lowest: Floats, highest: Floats) -> Floats:
    """How much of the gap between the values seen [L, m] and the bounds may stay for the test to pass never [L], from 0
    to 1.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # infinite bounds, of which nothing is proved
        middle = (leaves.low + leaves.high) * 0.5
        lowest, highest = (np.where(np.isfinite(seen), seen, middle) for seen in (lowest, highest))
        low = lowest + _GAPS * (leaves.low - lowest)
        high = highest + _GAPS * (leaves.high - highest)
    m = low.shape[2]
    proved = test.never(low.reshape(-1, m), high.reshape(-1, m)).reshape(len(_GAPS), -1)
    return np.asarray(proved.sum(axis=0) / len(_GAPS))
