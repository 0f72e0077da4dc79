"""Boxes: k axis-parallel boxes per block that together contain all of its rows, for data that one connected region
describes badly.

The rows are split like a k-d tree, greedily (Bentley, Multidimensional binary search trees used for associative
searching, 1975): the split comes next that makes the sum of (w_1 + ... + w_d)**2 over the boxes fall most, the widths
in units of the block's own ranges. The sum is the range of a score that rises alike with every column; squares
prefer halves to slivers. By volumes instead, on the published workload, as many boxes proved a fifth less.

    payload    for each of the k boxes, for the lower and then the upper corner, for each of the d columns: a number q
               of `bits` (8, or 16 little-endian); fewer boxes than k repeat the last
    number     stands for lower + q / (2**bits - 1) * (upper - lower), evaluated in float64 as `_place` does it

`lower` and `upper` of a block must be those of `build`, bit for bit. Then the decoded boxes contain every row exactly:
`build` compares rows with what `decode` will answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skipml.errors import EnrichmentError
from skipml.metadata.hulls import to_unit

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Payload = NDArray[np.uint8]

_NUMBERS = {8: "<u1", 16: "<u2"}
_SAMPLE = 800
_LARGE = 2.0**1000


def size(k: int, d: int, bits: int) -> int:
    """The bytes of k boxes over d columns; raises EnrichmentError unless bits is 8 or 16."""
    if bits not in _NUMBERS:
        raise EnrichmentError(f"the corners of boxes cannot have {bits} bits; use 8 or 16")
    return k * 2 * d * bits // 8


def build(points: Floats, lower: Floats, upper: Floats, k: int, bits: int) -> Payload:
    """The payload [size(k, d, bits)] of at most k boxes that together contain all points.

    `points` [n, d] are finite, n at least 1; `lower` and `upper` [d] their minimum and maximum.
    """
    n_bytes = size(k, points.shape[1], bits)
    parts = _split(
        points, np.column_stack([to_unit(x, a, b) for x, a, b in zip(points.T, lower, upper, strict=True)]), k
    )
    low = np.array([points[rows].min(axis=0) for rows in parts])
    high = np.array([points[rows].max(axis=0) for rows in parts])
    corners = np.stack([_number(low, lower, upper, bits, -1), _number(high, lower, upper, bits, 1)], axis=1)
    corners = np.concatenate([corners, np.repeat(corners[-1:], k - len(parts), axis=0)])
    return np.frombuffer(corners.astype(_NUMBERS[bits]).tobytes(), dtype=np.uint8, count=n_bytes).copy()


def decode(payloads: Payload, lower: Floats, upper: Floats, bits: int) -> tuple[Floats, Floats, Integers]:
    """The boxes of N blocks: lower and upper [M, d], and their block [M] in order, without repeats.

    `payloads` [N, size], `lower` and `upper` [N, d]. Where a payload makes no sense, the box of the block itself.
    """
    n, d = lower.shape
    step = 2 * d * bits // 8
    if bits not in _NUMBERS or not step or not payloads.shape[1] or payloads.shape[1] % step:
        return lower, upper, np.arange(n)
    numbers: NDArray[np.integer] = np.ascontiguousarray(payloads).view(_NUMBERS[bits]).reshape(n, -1, 2, d)
    senseless = np.any(numbers[:, :, 0] > numbers[:, :, 1], axis=(1, 2))
    numbers = np.where(senseless[:, None, None, None], np.array([0, 2**bits - 1])[:, None], numbers)
    new = np.ones(numbers.shape[:2], dtype=bool)
    new[:, 1:] = (numbers[:, 1:] != numbers[:, :-1]).any(axis=(2, 3))
    block = np.nonzero(new)[0]
    corners = _place(numbers[new], lower[block][:, None], upper[block][:, None], bits)
    return corners[:, 0], corners[:, 1], block


def _place(number: NDArray[np.integer], lower: Floats, upper: Floats, bits: int) -> Floats:
    """Never decreasing in the number, and exact at both ends; halved where a width could overflow."""
    highest = 2**bits - 1
    scale = np.where(np.maximum(-lower, upper) > _LARGE, 0.5, 1.0)
    start, end = lower * scale, upper * scale
    inner = np.clip(start + number / highest * (end - start), start, end) / scale
    return np.where(number == 0, lower, np.where(number == highest, upper, inner))


def _number(values: Floats, lower: Floats, upper: Floats, bits: int, direction: int) -> Integers:
    """The numbers [m, d] that are placed next to the values on the outer side: -1 below, 1 above.

    Sound because the place is compared with the value, and the block's own limit is taken where it is not outside.
    """
    highest = 2**bits - 1
    number = np.rint(to_unit(values, lower, upper) * highest).astype(np.int64) - direction
    for _ in range(3):
        number = np.clip(number, 0, highest)
        number = number + direction * (direction * (_place(number, lower, upper, bits) - values) < 0)
    number = np.clip(number, 0, highest)
    inside = direction * (_place(number, lower, upper, bits) - values) < 0
    return np.where(inside, highest if direction > 0 else 0, number)


def _split(points: Floats, unit: Floats, k: int) -> list[Integers]:
    """Rows of at most k parts; the sample that chooses holds the extreme rows of each column."""
    n = len(points)
    extremes = np.concatenate([unit.argmin(axis=0), unit.argmax(axis=0)])
    sample = np.unique(np.concatenate([np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64), extremes]))
    parts, samples = [np.arange(n)], [unit[sample]]
    splits = [_best_split(samples[0])]
    while len(parts) < k:
        i = max(range(len(splits)), key=lambda j: splits[j][0])
        gain, column, limit = splits[i]
        if gain <= 0:
            break
        left, left_sample = unit[parts[i], column] <= limit, samples[i][:, column] <= limit
        parts[i : i + 1] = [parts[i][left], parts[i][~left]]
        samples[i : i + 1] = [samples[i][left_sample], samples[i][~left_sample]]
        splits[i : i + 1] = [_best_split(samples[i]), _best_split(samples[i + 1])]
    return parts


def _best_split(rows: Floats) -> tuple[float, int, float]:
    """The gain, the column, and the limit of the left side, of the best split of a sample [m, d]."""
    best = (0.0, 0, 0.0)
    if len(rows) < 2:
        return best
    whole = float(_cost(rows.max(axis=0) - rows.min(axis=0)))
    for column in range(rows.shape[1]):
        ordered = rows[rows[:, column].argsort()]
        left = np.maximum.accumulate(ordered) - np.minimum.accumulate(ordered)
        right = (np.maximum.accumulate(ordered[::-1]) - np.minimum.accumulate(ordered[::-1]))[::-1]
        gains = whole - _cost(left[:-1]) - _cost(right[1:])
        gains[ordered[1:, column] == ordered[:-1, column]] = 0.0
        at = int(gains.argmax())
        below, above = float(ordered[at, column]), float(ordered[at + 1, column])
        between = below + (above - below) / 2
        best = max(best, (float(gains[at]), column, between if between < above else below))
    return best


def _cost(widths: Floats) -> Floats:
    """The squared sums of the widths of boxes [..., d]."""
    total: Floats = widths.sum(axis=-1)
    return total * total
