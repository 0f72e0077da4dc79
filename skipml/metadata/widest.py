"""The widest ranges between the scores of a block that hold none, as many as fit into a list of some bytes.

Which are best is about known: narrow ones take nearly the bits of wide ones, so the widest are stored; and where the
narrowest of these takes a few cells, finer cells would gain less than further ranges. How many fit is searched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.metadata import gaps
from skipml.metadata.runs import edges

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Payload = NDArray[np.uint8]

_USUAL_BITS, _USUAL_SHARE = 6.8, 2 / 3
"""About what a range takes, and how many of all are stored at most."""
_NARROWEST = 2.4
"""How many cells the narrowest one has."""
_FURTHER, _FINER = 0.65, 2
"""What the next range takes of what one takes on average, and how many more bits each takes in cells half as large."""
_SPARE, _SPARE_BITS = 0.02, 8
"""Share of the bits, and bits, that are not worth another try."""
_NUDGE = 2.0**-20
"""Of a cell: more than rounding can be wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class _Ranges:
    """Ranges that hold no score, by the cells that they start and end with, ascending [K]."""

    start: NDArray[np.int32]
    end: NDArray[np.int32]
    rank: Integers
    """From the widest on; some are left out."""

    def runs(self, count: int) -> NDArray[np.int32]:
        """Of those of the first ranks, the lengths of the occupied run before each and of itself [2, K]."""
        mine = self.rank < count
        start, end = self.start[mine], self.end[mine]
        runs = np.array([start, end])
        runs[1] -= start
        runs[0, 1:] -= end[:-1]
        return runs


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """The ranges of the first ranks, and what they take."""

    count: int
    runs: NDArray[np.int32]
    bits: int
    orders: list[int]

    @classmethod
    def of(cls, ranges: _Ranges, count: int) -> _Chosen:
        runs = ranges.runs(count)
        return cls(count, runs, *gaps.n_bits(runs))


@dataclass(frozen=True, slots=True, eq=False)
class _Between:
    """The widest ranges between the scores of a block, ascending [K]."""

    limits: tuple[float, float]
    """Of all scores."""
    start: Floats
    """Where the scores below each end."""
    end: Floats
    """Where those above begin."""
    rank: Integers
    """From the widest on."""
    widths: Floats
    """From the widest on."""

    @classmethod
    def widest(cls, low: Floats, high: Floats, most: int) -> _Between:
        width = low[1:] - high[:-1]
        found = np.argpartition(width, -most)[-most:] if len(width) > most else np.arange(len(width))
        order = found[np.argsort(-width[found])]
        widths = width[order]
        order = order[: np.count_nonzero(widths > 0)]
        rank = np.argsort(order)
        at = order[rank]
        return cls((float(low[0]), float(high[-1])), high[at], low[at + 1], rank, widths)

    def ranges(self, cells: int) -> _Ranges:
        """Those that a cell fits into, a cell or more apart.

        Sound because one is left out if an edge, as it will be decoded, is not between the scores.
        """
        lower, upper = self.limits
        scale = cells / (upper - lower)
        start = np.ceil((self.start - lower) * scale + _NUDGE)
        end = np.floor((self.end - lower) * scale - _NUDGE)
        fine = start < end
        fine &= edges(start, lower, upper, cells) >= self.start
        fine &= edges(end, lower, upper, cells) <= self.end
        fine[1:] &= start[1:] > end[:-1]
        return _Ranges(start[fine].astype(np.int32), end[fine].astype(np.int32), self.rank[fine])


def build(low: Floats, high: Floats, size: int) -> tuple[Payload, float] | None:
    """The list [size] of ranges between scores that lie between `low` and `high` [n], both ascending and finite, and
    the share of the range of all that it keeps free; None where there is none.
    """
    if not gaps.SMALLEST <= size <= gaps.LARGEST:
        return None
    between = _Between.widest(low, high, 2 * size)
    total, most = len(between.rank), gaps.capacity(size)
    if not total:
        return None
    exponent = _exponent(between, size)
    best = _most(between.ranges(gaps.cells(size, exponent)), total, most)
    while best is not None and best.count == total and exponent < gaps.finest(size):
        finer = min(exponent + max((most - best.bits) // (_FINER * total), 1), gaps.finest(size))
        found = _Chosen.of(between.ranges(gaps.cells(size, finer)), total)
        if found.bits > most:
            break
        exponent, best = finer, found
    if best is None or not best.runs.size:
        return None
    payload = gaps.encode(best.runs, best.orders, exponent, size)
    return payload, float(best.runs[1].sum()) / gaps.cells(size, exponent)


def _exponent(between: _Between, size: int) -> int:
    """Of cells of which the narrowest range that is stored has a few."""
    n = len(between.rank)
    narrowest = float(between.widths[min(int(8 * size / _USUAL_BITS), int(_USUAL_SHARE * n))])
    wanted = _NARROWEST * (between.limits[1] - between.limits[0]) / narrowest / gaps.cells(size, 0)
    return max(round(min(math.log2(wanted), gaps.finest(size))), 0)


def _most(ranges: _Ranges, total: int, most: int) -> _Chosen | None:
    """As many of the widest, of `total`, as fit into that many bits, or a few less; None if not even one does."""
    best, over = None, total + 1
    count = min(int(most / _USUAL_BITS), total)
    while count < over:
        found = _Chosen.of(ranges, count)
        if found.bits > most:
            over = count
        else:
            best = found
            if most - found.bits <= max(_SPARE * most, _SPARE_BITS):
                break
        count += math.floor((most - found.bits) * count / max(_FURTHER * found.bits, 1))
        count = max(min(count, over - 1), 1 if best is None else best.count + 1)
    return best
