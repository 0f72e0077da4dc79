"""Blocks of which it is known which texts occur: a box for each run of places that do, in place of one from the first
to the last.

Blocks whose texts have no gap stay one box. Of many runs the narrowest gaps are closed, so that there are few boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from skipml.regions import Regions

Floats = NDArray[np.float64]
Places = tuple[int, ...]
Run = tuple[int, int]

_MOST_BOXES, _ALL_BOXES = 32, 1 << 18
"""In place of one box, and of all blocks together."""


def divided(regions: Regions, places: Mapping[int, Sequence[Places | None]]) -> Regions:
    """The same with the boxes of some inputs divided into the runs of their places [N], ascending, None where they are
    not known; the blocks as they were are the coarser ones then.

    Sound because a row that has a text in each of them lies in the box of its runs, and one that lacks a text in any.
    """
    inputs = sorted(places)
    most = min(_MOST_BOXES, _ALL_BOXES // max(len(regions.block), 1))
    if not inputs or most < 2:
        return regions
    numbers: dict[tuple[Places | None, ...], int] = {}
    of_block = [
        numbers.setdefault(tuple(found), len(numbers)) for found in zip(*(places[i] for i in inputs), strict=True)
    ]
    combined = [_combinations(several, most) for several in numbers]
    if all(boxes is None for boxes in combined):
        return regions
    kind = np.array(of_block, np.int64)[regions.block]
    counts = np.array([1 if boxes is None else len(boxes) for boxes in combined], np.int64)[kind]
    part = np.repeat(np.arange(len(kind)), counts)
    lower, upper = regions.lower[part], regions.upper[part]
    start = np.cumsum(counts) - counts
    for number, boxes in enumerate(combined):
        mine = np.flatnonzero(kind == number)
        if boxes is None or not len(mine):
            continue
        rows = start[mine][:, None] + np.arange(len(boxes))
        for k, i in enumerate(inputs):
            if not np.isnan(boxes[0, k]).any():
                lower[rows, i], upper[rows, i] = boxes[:, k, 0], boxes[:, k, 1]
    block = regions.block[part]
    return replace(regions, lower=lower, upper=upper, block=block, coarser=regions, parent=np.arange(len(regions)))


def _combinations(several: Sequence[Places | None], most: int) -> Floats | None:
    """The runs of the inputs together [K, t, 2], NaN for an input that stays as it is; None where no text is missing
    between two that occur.
    """
    runs = [_runs(places) if places else [] for places in several]
    if not any(_has_gap(found) for found in runs):
        return None
    sides: list[list[Run] | None] = [None] * len(runs)
    for k in sorted(range(len(runs)), key=lambda k: (not _has_gap(runs[k]), len(runs[k]))):
        room = min(len(runs[k]), most)
        if room > 1:
            sides[k] = _joined(runs[k], room)
            most //= room
    nothing: list[tuple[float, float]] = [(np.nan, np.nan)]
    return np.array(list(product(*(nothing if side is None else side for side in sides))), np.float64)


def _runs(places: Places) -> list[Run]:
    """The first and the last of the places that follow each other."""
    breaks = [k for k, (a, b) in enumerate(pairwise(places), start=1) if b > a + 1]
    return [(places[a], places[b - 1]) for a, b in pairwise([0, *breaks, len(places)])]


def _has_gap(runs: Sequence[Run]) -> bool:
    """Whether a word, which has an odd place, is missing between two runs."""
    return any(place % 2 for before, after in pairwise(runs) for place in range(before[1] + 1, after[0]))


def _joined(runs: list[Run], most: int) -> list[Run]:
    """At most so many runs, the narrowest gaps closed. Sound because a run holds those that it is made of."""
    gaps = [after[0] - before[1] for before, after in pairwise(runs)]
    kept = sorted(sorted(range(len(gaps)), key=lambda k: -gaps[k])[: most - 1])
    starts, ends = [0, *(k + 1 for k in kept)], [*kept, len(runs) - 1]
    return [(runs[a][0], runs[b][1]) for a, b in zip(starts, ends, strict=True)]
