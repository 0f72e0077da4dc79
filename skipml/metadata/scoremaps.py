"""Score maps: what is known of a model's output in one block of rows, from having computed it for each of them.

Of a score: its limits, and which of many equal cells between them may hold one. Of a classifier: which labels the rows
may have. Both allow for a margin, how far any other evaluation of the same row may be off, and are exact but for it.

    payload    of a score: a bit per cell, `size` bytes; the first cell is the most significant bit of byte 0
    cell       i of C = 8 * size is the closed interval between edges i and i + 1
    edge       i stands for lower + i / C * (upper - lower), evaluated in float64 as `_Grid` does it
    payload    of labels: a bit per label, the first again the most significant of byte 0, then zero bits

    lower, upper     of a score without a payload (size 0) all that is known
    inf, -inf        no row of the block has a score; the bits are 0
    -inf, inf        nothing is known; the bits are 1

`lower` and `upper` must be those of `build`, bit for bit. Then every score of the block, give or take the margin, lies
in a decoded interval: `build` compares scores with the edges that `decode` will answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Payload = NDArray[np.uint8]

_LARGE = 2.0**1000
_ALL = 0xFF


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Closed intervals that together contain every score of their blocks, ascending; a block without rows has none."""

    block: Integers
    """[K], ascending."""
    lower: Floats
    """[K]."""
    upper: Floats
    """[K]."""


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """The cells between limits, all [K]; where a width could overflow, `start` and `width` are halves and `scale` 2."""

    lower: Floats
    upper: Floats
    start: Floats
    width: Floats
    scale: Floats
    cells: int

    def repeat(self, counts: Integers) -> _Grid:
        parts = (self.lower, self.upper, self.start, self.width, self.scale)
        lower, upper, start, width, scale = (np.repeat(part, counts) for part in parts)
        return _Grid(lower, upper, start, width, scale, self.cells)

    def edge(self, index: Integers) -> Floats:
        """Never decreasing in the index, and exact at both ends."""
        edge: Floats = index / self.cells
        with np.errstate(all="ignore"):  # infinite limits, and what passes the largest number by a rounding
            edge *= self.width
            edge += self.start
            edge *= self.scale
        np.clip(edge, self.lower, self.upper, out=edge)
        np.copyto(edge, self.lower, where=index == 0)
        np.copyto(edge, self.upper, where=index == self.cells)
        return edge


def build(scores: Floats, margin: float, size: int) -> tuple[float, float, Payload]:
    """The limits and the payload [size] of the scores [n] of a block, each of which may be off by `margin`.

    Sound because each score with its margin, rounded outward, is compared with the edges that `decode` answers.
    """
    if not len(scores):
        return np.inf, -np.inf, np.zeros(size, dtype=np.uint8)
    with np.errstate(all="ignore"):  # what overflows is unknown
        low, high = _around(np.array([scores.min(), scores.max()]), margin)
    lower, upper = float(low[0]), float(high[1])
    if not (0 <= margin < np.inf and np.isfinite(lower) and np.isfinite(upper)):
        return -np.inf, np.inf, np.full(size, _ALL, dtype=np.uint8)
    if not size:
        return lower, upper, np.empty(0, dtype=np.uint8)
    edges = _grid(low[:1], high[1:], 8 * size).edge(np.arange(8 * size + 1))
    return lower, upper, np.packbits(_occupied(*_around(np.sort(scores), margin), edges))


def build_labels(outputs: Floats, margin: Floats) -> Payload:
    """The payload [ceil(m / 8)] of the labels that rows may have, the first of the largest of their outputs [n, m], if
    output k may be off by `margin[k]`.

    Sound because a label is left out only where, margins rounded outward, another wins in every row.
    """
    n, m = outputs.shape
    if not n:
        return np.packbits(np.zeros(m, dtype=np.bool_))
    if not (np.isfinite(outputs).all() and (margin >= 0).all() and (margin < np.inf).all()):
        return np.packbits(np.ones(m, dtype=np.bool_))
    with np.errstate(over="ignore"):  # an infinite limit compares as it should
        low, high = _around(outputs, margin)
    best = low.max(axis=1, keepdims=True)
    first = low.argmax(axis=1)[:, None]
    possible = (high > best) | ((high == best) & (np.arange(m) <= first))
    return np.packbits(possible.any(axis=0))


def decode(lower: Floats, upper: Floats, payloads: Payload) -> Intervals:
    """The intervals of N blocks of limits `lower`, `upper` [N] and payloads [N, size], runs of cells joined.

    A payload without a bit where there are rows makes no sense: then the limits alone. Limits that make no sense are
    unknown.
    """
    lower, upper = _sensible(lower, upper)
    bits = payloads if payloads.shape[1] else np.zeros((len(lower), 1), dtype=np.uint8)
    mapped = bits.any(axis=1) & np.isfinite(lower) & np.isfinite(upper)
    bits = np.where(mapped[:, None], bits, np.where(lower <= upper, _ALL, 0).astype(np.uint8)[:, None])
    starts, ends = _run_starts(bits), _run_ends(bits)
    n_runs = np.bitwise_count(starts).sum(axis=1, dtype=np.int64)
    block = np.repeat(np.arange(len(lower)), n_runs)
    cells = 8 * bits.shape[1]
    before = block * cells
    grid = _grid(lower, upper, cells).repeat(n_runs)
    return Intervals(block, grid.edge(_places(starts) - before), grid.edge(_places(ends) - before + 1))


def decode_labels(payloads: Payload, m: int) -> Bools:
    """Which of m labels the rows of N blocks may have: payloads [N, size] -> [N, m]; all if the size does not fit."""
    if payloads.shape[1] != -(-m // 8):
        return np.ones((len(payloads), m), dtype=np.bool_)
    return np.unpackbits(payloads, axis=1, count=m).astype(np.bool_)


def _sensible(lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """The limits, infinite where they are neither limits nor those of no row."""
    limits = (lower <= upper) & (lower < np.inf) & (upper > -np.inf)
    fine = limits | ((lower == np.inf) & (upper == -np.inf))
    return np.where(fine, lower, -np.inf), np.where(fine, upper, np.inf)


def _around(values: Floats, margin: Floats | float) -> tuple[Floats, Floats]:
    """The values less and plus the margin.

    Sound because a sum rounds to a neighbour of the exact one at most, and without a margin there is no sum.
    """
    low, high = np.nextafter(values - margin, -np.inf), np.nextafter(values + margin, np.inf)
    exact = np.equal(margin, 0)
    return np.where(exact, values, low), np.where(exact, values, high)


def _grid(lower: Floats, upper: Floats, cells: int) -> _Grid:
    scale = np.where(np.maximum(-lower, upper) > _LARGE, 0.5, 1.0)
    start = lower * scale
    with np.errstate(invalid="ignore"):  # infinite limits
        width = upper * scale - start
    return _Grid(lower, upper, start, width, 1 / scale, cells)


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
