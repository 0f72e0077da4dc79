"""Score maps: what is known of a model's output in one block of rows, from having computed it for each of them.

Of a score: its limits, and in which ranges between them one may lie. Of a classifier: which labels the rows may have.
Both allow for a margin, how far any other evaluation of the same row may be off, and are exact but for it.

    payload    of a score: a bitmap if its first bit is 0, else a gap list, in `size` bytes; see there
    payload    of labels: a bit per label, the first the most significant of byte 0, then zero bits

    lower, upper     of a score without a payload (size 0) all that is known
    inf, -inf        no row of the block has a score; the bits are 0
    -inf, inf        nothing is known; the bits are 1

`lower` and `upper` must be those of `build`, bit for bit. Then every score of the block, give or take the margin, lies
in a decoded interval: `build` compares scores with the edges that `decode` will answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.metadata import bitmaps, gaps, widest
from skipml.metadata.runs import Intervals, Runs, divisible, intervals

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Payload = NDArray[np.uint8]

_ALL, _LISTED = 0xFF, 0x80
_LONG, _ROUGHLY = 24, 0.95
"""Bytes of a list that always has room, and how far the estimate of a bitmap is trusted."""
_WORTH = 1.02
"""How much more a bitmap has to keep free: to decode both forms takes longer."""
_PART_BYTES = 1 << 16
"""Payloads decoded at a time, so that what is made of them stays in a cache."""


def build(scores: Floats, margin: float, size: int) -> tuple[float, float, Payload]:
    """The limits and the payload [size] of the scores [n] of a block, each of which may be off by `margin`, in the form
    that keeps more of the range between the limits free.

    Sound because each score with its margin, rounded outward, is compared with the edges that `decode` answers.
    """
    if not len(scores):
        return np.inf, -np.inf, np.zeros(size, dtype=np.uint8)
    values = np.sort(scores) if size else np.array([scores.min(), scores.max()])
    with np.errstate(all="ignore"):  # what overflows is unknown
        low, high = _around(values, margin)
        usable = bool(divisible(low[0], high[-1]))
    lower, upper = float(low[0]), float(high[-1])
    if not (0 <= margin < np.inf and np.isfinite(lower) and np.isfinite(upper)):
        return -np.inf, np.inf, np.full(size, _ALL, dtype=np.uint8)
    if not (size and usable):
        return lower, upper, np.zeros(size, dtype=np.uint8)
    listed = widest.build(low, high, size)
    if listed is not None and not _may_be_better(low, high, size, listed[1]):
        return lower, upper, listed[0]
    mapped = bitmaps.build(low, high, size)
    return lower, upper, mapped[0] if listed is None or mapped[1] > _WORTH * listed[1] else listed[0]


def _may_be_better(low: Floats, high: Floats, size: int, free: float) -> bool:
    """Whether a bitmap may keep free more than a list does: hardly where it has few cells for many scores."""
    if size >= _LONG and len(low) > 16 * size:
        return False
    return bitmaps.estimate(low, high, size) > _ROUGHLY * free


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
    """The intervals of N blocks of limits `lower`, `upper` [N] and payloads [N, size].

    Of a payload that makes no sense where there are rows, as one without a bit, the limits alone. Limits that make no
    sense are unknown.
    """
    lower, upper = _sensible(lower, upper)
    n, size = payloads.shape
    step = max(_PART_BYTES // max(size, 16), 1)
    parts = [slice(at, at + step) for at in range(0, n, step)]
    runs = [_runs(lower[part], upper[part], payloads[part]) for part in parts]
    return intervals(runs, lower, upper)


def _runs(lower: Floats, upper: Floats, payloads: Payload) -> Runs:
    bits = payloads if payloads.shape[1] else np.zeros((len(lower), 1), dtype=np.uint8)
    with np.errstate(all="ignore"):  # infinite limits
        usable = divisible(lower, upper)
    listed = usable & (bits[:, 0] >= _LISTED) & (gaps.SMALLEST <= bits.shape[1] <= gaps.LARGEST)
    if listed.all() and len(listed):
        return gaps.decode(bits)
    mapped = usable & (bits[:, 0] < _LISTED) & bits.any(axis=1)
    bits = np.where(mapped[:, None], bits, np.where(lower <= upper, _ALL, 0).astype(np.uint8)[:, None])
    bits[:, 0] &= _ALL - _LISTED
    if not listed.any():
        return bitmaps.decode(bits)
    return Runs.interleaved(gaps.decode(payloads[listed]), bitmaps.decode(bits[~listed]), listed)


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
    if not exact.any():
        return low, high
    return np.where(exact, values, low), np.where(exact, values, high)
