"""The part of the battery on score maps by themselves: many shapes of scores in many numbers of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skipml.metadata import gaps, scoremaps, widest
from skipml.metadata.runs import divisible, intervals
from tests.soundness.battery import INF, NAN, Battery

Floats = NDArray[np.float64]

_SIZES = (0, 1, 2, 3, 4, 5, 8, 32, 100, 256, 2048)
_MARGINS = (0.0, 1e-9, 1e-3)


def _blocks() -> Iterator[Floats]:
    rng = np.random.default_rng(5)
    for n in (1, 2, 30, 1000):
        yield rng.normal(size=n)
        yield rng.random(n)
        yield rng.standard_cauchy(n)
        yield 1e9 + rng.random(n)
        yield rng.choice([0.0, 1.0, 1.5, 1e4], n)
        yield rng.integers(0, 2048, n) / 2
        yield np.asarray(rng.integers(-40, 40, n) * 5e-324, np.float64)
        yield rng.choice([-1.7e308, 0.0, 1e-300, 1.7e308], n)
        yield np.square(np.square(rng.random(n)))
    for low, high in ((0.1, 0.8), (-1 / 3, 2 / 3), (0.001, 0.7), (0.0, 3.3), (1e6, 1e6 + 0.1)):
        near = rng.choice(512, 60, replace=False) * ((high - low) / 512) + low  # next to the edges of cells
        yield np.concatenate([[low, high], np.nextafter(near, rng.choice([low, high], 60))])
    yield np.full(5, 0.1)
    yield np.empty(0)
    yield np.array([1.0, NAN])
    yield np.array([1.0, -INF])


def score_maps(folder: Path) -> list[str]:
    """Every score, give or take its margin, is in an interval of its own block."""
    found, blocks = [], list(_blocks())
    for size in _SIZES:
        for margin in _MARGINS:
            built = [scoremaps.build(block, margin, size) for block in blocks]
            answer = scoremaps.decode(*(np.array([each[k] for each in built]) for k in range(3)))
            for i, block in enumerate(blocks):
                mine = answer.block == i
                lower, upper = answer.lower[mine], answer.upper[mine]
                low, high = np.sort(block) - margin, np.sort(block) + margin
                if not len(block) or not mine.any() or not np.isfinite(lower[0]):
                    unknown = bool(len(block)) and not (mine.any() and (lower[0], upper[-1]) == (-INF, INF))
                    found += [f"block {i}, {size} bytes: rows, but no interval"] * int(unknown)
                    continue
                at = np.searchsorted(lower, low, side="right") - 1
                out = (at < 0) | (high > upper[at])
                found += [f"block {i}, {size} bytes, margin {margin}: a score is in no interval"] * int(out.any())
    return found


def gap_lists(folder: Path) -> list[str]:
    """Every score is in an interval of a list, whether or not a bitmap would be stored in its place."""
    found = []
    for i, block in enumerate(_blocks()):
        values = np.sort(block)
        if not (np.isfinite(block).all() and len(block) and divisible(values[0] / 2, values[-1] / 2)):
            continue
        for size in _SIZES:
            if (built := widest.build(values, values, size)) is not None:
                answer = intervals([gaps.decode(built[0][None])], values[:1], values[-1:])
                at = np.searchsorted(answer.lower, values, side="right") - 1
                out = (at < 0) | (values > answer.upper[at])
                found += [f"block {i}, {size} bytes: a score is in no interval"] * int(out.any())
    return found


def damaged_maps(folder: Path) -> list[str]:
    """Bytes that make no sense exclude nothing, and their neighbours stay what they are."""
    found = []
    values = np.sort(np.random.default_rng(6).standard_cauchy(1000))
    lower, upper = values[0], values[-1]
    for size in (4, 32, 256):
        payload, _ = widest.build(values, values, size) or (np.zeros(size, np.uint8), 0.0)
        one = scoremaps.decode(np.array([lower]), np.array([upper]), payload[None])
        for byte in range(1, int(np.flatnonzero(payload)[-1])):
            cut = payload.copy()
            cut[byte:] = 0  # as where a copy ended
            answer = scoremaps.decode(np.full(3, lower), np.full(3, upper), np.stack([payload, cut, payload]))
            limits = [side[answer.block == 1].tolist() for side in (answer.lower, answer.upper)]
            found += [f"{size} bytes cut at {byte}: something is excluded"] * int(limits != [[lower], [upper]])
            others = [answer.lower[answer.block == k] for k in (0, 2)]
            changed = any(not np.array_equal(other, one.lower) for other in others)
            found += [f"{size} bytes cut at {byte}: another block changes"] * int(changed)
    return found


MAP_BATTERIES: Mapping[str, Battery] = {
    "score maps": score_maps,
    "gap lists": gap_lists,
    "damaged maps": damaged_maps,
}
