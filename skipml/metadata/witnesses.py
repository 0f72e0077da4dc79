"""Witnesses: a few real rows of each block. One that passes a test proves that the block cannot be skipped, one that
fails that not all of it qualifies, before anything is bounded.

    payload    row after row, column after column: the value as a little-endian float32
    rows       the first half (`n_extremes`) are extremes, the others a random sample of all rows
    NaN        in every column: no row

Nothing rests on their being exact: they only end work early. Float32 keeps values up to 3.4e38; larger ones are cut to
that.
"""

from __future__ import annotations

import functools
import zlib

import numpy as np
from numpy.typing import NDArray

from skipml.metadata.hulls import to_unit

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Integers = NDArray[np.int64]
Payload = NDArray[np.uint8]

_NUMBER = np.dtype("<f4")
_SAMPLE = 512
"""Rows among which extremes are looked for, beside those of every column, which are exact."""
_CORNER_BITS = 10
"""Columns, after the first, of which every combination of sides comes up."""
_LARGEST = float(np.finfo(np.float32).max)


def n_extremes(count: int) -> int:
    """How many of `count` witnesses, the first, are extremes; the others are a sample from which shares can be
    estimated.
    """
    return count // 2


def choose(values: Floats, count: int) -> Floats32:
    """The witnesses [count, d] of a block's rows [n, d], finite numbers; NaN if there is no row.

    Extremes are the rows farthest along fixed directions of the unit box. The sample takes a random row of each of as
    many equal runs of rows, repeated if there are fewer rows. The same rows always give the same witnesses.
    """
    n, d = values.shape
    if not n:
        return np.full((count, d), np.nan, dtype=np.float32)
    extremes = values[_extremes(values, n_extremes(count))]
    # positions that follow the data, so that blocks that are sorted alike are not sampled at the same places
    rng = np.random.default_rng(zlib.crc32(extremes.tobytes(), n))
    left = count - len(extremes)
    sample = ((np.arange(left) + rng.random(left)) * (n / max(left, 1))).astype(np.int64)
    rows = np.concatenate([extremes, values[np.minimum(sample, n - 1)]])
    witnesses: Floats32 = np.clip(rows, -_LARGEST, _LARGEST).astype(np.float32)
    return witnesses


def encode(rows: Floats32) -> Payload:
    """The payload [4 * count * d] of witnesses [count, d]."""
    return np.frombuffer(rows.astype(_NUMBER).tobytes(), dtype=np.uint8).copy()


def decode(payloads: Payload, d: int) -> Floats:
    """The witnesses [N, count, d] of payloads [N, size]; count is 0 if the size does not fit d columns."""
    n, size = payloads.shape
    if not d or size % (_NUMBER.itemsize * d):
        return np.empty((n, 0, d))
    numbers = np.ascontiguousarray(payloads).view(_NUMBER) if size else np.empty((n, 0), _NUMBER)
    return numbers.reshape(n, size // (_NUMBER.itemsize * d), d).astype(np.float64)


def _extremes(values: Floats, count: int) -> Integers:
    """The rows [count] farthest along the directions, among a sample of the rows [n, d] and the extremes of every
    column.
    """
    n, d = values.shape
    columns = np.ascontiguousarray(values.T)
    ends = [end for column in columns for end in (int(column.argmin()), int(column.argmax()))]
    sample = np.arange(min(n, _SAMPLE)) * n // min(n, _SAMPLE)
    candidates = np.concatenate([np.array(ends, dtype=np.int64), sample])
    unit = to_unit(values[candidates], values[ends[::2], np.arange(d)], values[ends[1::2], np.arange(d)])
    farthest: Integers = candidates[(unit @ _directions(count, d).T).argmax(axis=0)]
    return farthest


@functools.cache
def _directions(count: int, d: int) -> Floats:
    """Directions [count, d], each followed by its opposite: down and up every column if there are enough, then
    towards pairs of opposite corners, in random order and none twice while there are others.
    """
    axes = -np.eye(d) if count >= 2 * d else np.empty((0, d))
    pairs = -(-count // 2) - len(axes)
    rng = np.random.default_rng(0)
    corner = np.resize(rng.permutation(2 ** min(d - 1, _CORNER_BITS)), pairs)
    sides = rng.choice([-1.0, 1.0], (pairs, d))
    for column in range(min(d, _CORNER_BITS + 1)):
        sides[:, column] = 1.0 - 2.0 * (corner << 1 >> column & 1)
    half = np.concatenate([axes, sides * rng.uniform(0.5, 1.0, (pairs, d))])
    return np.stack([half, -half], axis=1).reshape(-1, d)[:count]
