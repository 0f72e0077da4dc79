"""Bitmaps: which of many equal cells between the limits may hold a score.

    bits of a payload of `size` bytes, the most significant of byte 0 first
         1  0
         C  one per cell, C = 8 * size - 1

Cell i is the closed interval between edges i and i + 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.metadata.runs import Runs, edges

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Payload = NDArray[np.uint8]


def build(low: Floats, high: Floats, size: int) -> tuple[Payload, float]:
    """The payload [size] for scores that lie between `low` and `high` [n], both ascending and finite, and the share of
    their range that it keeps free.

    Sound because each score is compared with the edges that are decoded.
    """
    cells = 8 * size - 1
    occupied = _occupied(low, high, edges(np.arange(cells + 1), float(low[0]), float(high[-1]), cells))
    return np.packbits(np.append(False, occupied)), 1 - float(occupied.mean())


def estimate(low: Floats, high: Floats, size: int) -> float:
    """About the share of their range that the bitmap of such scores keeps free: of each gap all but a cell."""
    cell = (high[-1] - low[0]) / (8 * size - 1)
    free = np.maximum(low[1:] - high[:-1] - cell, 0).sum()
    return float(free / (high[-1] - low[0]))


def decode(payloads: Payload) -> Runs:
    """The runs of cells of N bitmaps [N, size] in which a score may lie, none of one without a bit."""
    n, size = payloads.shape
    starts, ends = _run_starts(payloads), _run_ends(payloads)
    count = np.bitwise_count(starts).sum(axis=1, dtype=np.int64)
    found = np.empty((int(count.sum()), 2), np.int32)
    before = np.repeat(8 * size * np.arange(n), count)
    found[:, 0] = _places(starts) - before - 1
    found[:, 1] = _places(ends) - before
    return Runs(np.full(n, 8 * size - 1), count, found)


def _occupied(low: Floats, high: Floats, edges: Floats) -> Bools:
    """Which of the cells [C] between the edges [C + 1] are needed to cover the intervals `low` to `high` [n], both
    ascending, inside of the edges.

    An interval takes the cells from the last edge that is not above it on to the first that is not below it. Sound
    because a cell is left out only if every interval that starts before its end (all do before the last edge) also
    starts before and ends by its beginning.
    """
    started = np.searchsorted(low, edges, side="left")
    over = np.minimum(started, np.searchsorted(high, edges, side="right"))
    started[-1:] = len(low)
    return np.asarray(started[1:] > over[:-1])


def _run_starts(bits: Payload) -> Payload:
    """The set bits of the payloads [N, size] before which no bit is set."""
    before: Payload = bits >> np.uint8(1)
    before[:, 1:] |= bits[:, :-1] << 7
    starts: Payload = bits & ~before
    return starts


def _run_ends(bits: Payload) -> Payload:
    """The set bits of the payloads [N, size] after which no bit is set."""
    after: Payload = bits << np.uint8(1)
    after[:, :-1] |= bits[:, 1:] >> 7
    ends: Payload = bits & ~after
    return ends


def _places(bits: Payload) -> Integers:
    """Where among all bits the set ones are, ascending; many bytes are zero, so only the others are unpacked."""
    flat = bits.ravel()
    filled = np.flatnonzero(flat != 0)
    place = np.flatnonzero(np.unpackbits(flat[filled]).view(np.bool_))
    within = place & 7
    place >>= 3
    found: Integers = filled[place]
    found <<= 3
    found += within
    return found
