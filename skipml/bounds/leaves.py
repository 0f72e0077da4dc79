"""The boxes that branch and bound divides the blocks into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.falsify import Test
from skipml.bounds.memory import OF_LEAVES, Known

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_BISECTIONS = 5


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


def widest(leaves: Leaves) -> Indices:
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
    enough, too_much = np.zeros(len(leaves)), np.ones(len(leaves))
    with np.errstate(over="ignore", invalid="ignore"):  # infinite bounds, of which nothing is proved
        middle = (leaves.low + leaves.high) * 0.5
        lowest, highest = (np.where(np.isfinite(seen), seen, middle) for seen in (lowest, highest))
        for _ in range(_BISECTIONS):
            share = (enough + too_much) * 0.5
            gap = share[:, None]
            proved = test.never(lowest + gap * (leaves.low - lowest), highest + gap * (leaves.high - highest))
            enough, too_much = np.where(proved, share, enough), np.where(proved, too_much, share)
    return enough
