"""Regions as a model reads them: text as places, NULL as NaN where that has a value, vectors of its dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.occurring import Places, divided
from skipml.function import Function
from skipml.heads import Head
from skipml.parquet.texts import TextLimits
from skipml.pipelines import Pipeline, Words
from skipml.recent import Derived
from skipml.regions import Regions

Floats = NDArray[np.float64]


def as_read(regions: Regions, function: Function) -> Regions:
    """The same blocks as the numbers that go into a function, made once."""
    if isinstance(function, Head):
        return _read_vectors(regions, function)
    if not isinstance(function, Pipeline):
        return regions
    made = _made(regions)
    if function.hash not in made:
        made[function.hash] = _read(regions, function)
    return made[function.hash]


def _read_vectors(regions: Regions, head: Head) -> Regions:
    """Sound because vectors of another dimension leave the input unknown, and where all of a block are finite it holds
    no NaN.
    """
    vectors = regions.vectors.get(0)
    if vectors is None or vectors.dimension != head.dimension:
        return regions
    known = vectors.known[:, None]
    return replace(
        regions,
        unknown=~known,
        all_null=known & vectors.all_null[:, None],
        may_be_null=~known | vectors.may_be_null[:, None],
        may_be_nan=~known,
        coarser=None,
        parent=None,
    )


def _nothing(_: Regions) -> dict[str, Regions]:
    return {}


_made = Derived(_nothing)
"""By the hash of the function."""


def _read(regions: Regions, pipeline: Pipeline) -> Regions:
    """Sound because every text has a place between those of its limits, and one of those that occur, a NULL that has a
    value is NaN for the function inside, and a row that is refused has a NULL score.
    """
    lower, upper, unknown = regions.lower.copy(), regions.upper.copy(), regions.unknown.copy()
    all_null, may_be_null = regions.all_null.copy(), regions.may_be_null.copy()
    may_be_nan = regions.may_be_nan.copy()
    occurring = _occurring(regions, pipeline)
    for i, words in pipeline.words.items():
        low, high = _places(regions.texts.get(i), words, len(regions))
        _tighten(low, high, occurring.get(i, ()))
        lower[:, i], upper[:, i] = low[regions.block], high[regions.block]
        unknown[:, i] = may_be_nan[:, i] = False
    for i, fill in pipeline.fills.items():
        nothing = all_null[:, i].copy()
        may_be_nan[:, i] |= may_be_null[:, i] | nothing | unknown[:, i]
        may_be_null[:, i] = all_null[:, i] = False
        lower[nothing[regions.block], i] = upper[nothing[regions.block], i] = fill
        unknown[nothing, i] = False
    for i, numbers in pipeline.accepted.items():
        single = np.bincount(regions.block, minlength=len(regions)) == 1
        accepted = np.isin(lower[:, i], numbers) & (lower[:, i] == upper[:, i])
        certain = single & (np.bincount(regions.block[accepted], minlength=len(regions)) > 0)
        certain |= _all_among(occurring.get(i, ()), numbers, len(regions))
        may_be_null[:, i] |= ~certain
        if i not in pipeline.fills:
            may_be_null[:, i] |= may_be_nan[:, i]
            may_be_nan[:, i] = False
    seen = replace(
        regions,
        lower=lower,
        upper=upper,
        unknown=unknown,
        all_null=all_null,
        may_be_null=may_be_null,
        may_be_nan=may_be_nan,
        coarser=None,
        parent=None,
    )
    return divided(seen, occurring)


def _occurring(regions: Regions, pipeline: Pipeline) -> dict[int, list[Places | None]]:
    """The places of the texts that occur in each block [N], ascending, of the inputs of which that is known."""
    found: dict[int, list[Places | None]] = {}
    for i, words in pipeline.words.items():
        limits = regions.texts.get(i)
        if limits is None or limits.sets is None:
            continue
        sets = limits.sets.tolist()
        made = {texts: tuple(sorted({words.place(text) for text in texts})) for texts in set(sets) - {None}}
        found[i] = [None if texts is None else made[texts] for texts in sets]
    return found


def _tighten(low: Floats, high: Floats, places: Sequence[Places | None]) -> None:
    """Move the first and the last place of blocks to those that occur."""
    for k, several in enumerate(places):
        if several:
            low[k], high[k] = several[0], several[-1]


def _all_among(places: Sequence[Places | None], numbers: Floats, n: int) -> NDArray[np.bool_]:
    """Whether it is known that all texts of a block [N] have one of these numbers for their place."""
    accepted = set(numbers.tolist())
    found = [bool(several) and accepted.issuperset(several or ()) for several in places]
    return np.array(found or [False] * n, np.bool_)


def _places(limits: TextLimits | None, words: Words, n: int) -> tuple[Floats, Floats]:
    """The first and last place [N] of the texts of blocks."""
    last = float(words.n_places - 1)
    if limits is None:
        return np.zeros(n), np.full(n, last)
    low = [0.0 if text is None else float(words.place(text)) for text in limits.lower.tolist()]
    high = [last if text is None else float(words.place(text)) for text in limits.upper.tolist()]
    return np.array(low), np.maximum(np.array(high), low)
