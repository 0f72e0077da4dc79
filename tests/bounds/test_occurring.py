"""Boxes of runs hold every combination of places that occur, and as little else as so many boxes can."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.bounds import occurring
from skipml.bounds.occurring import Places, divided
from skipml.regions import Regions

PLACES = st.none() | st.sets(st.integers(0, 10), max_size=6).map(lambda places: tuple(sorted(places)))
BLOCKS = st.lists(st.tuples(PLACES, PLACES), min_size=1, max_size=5)


def _regions(sets: list[tuple[Places | None, Places | None]], boxes: int) -> Regions:
    n = len(sets)
    low, high = np.zeros((n * boxes, 3)), np.full((n * boxes, 3), 10.0)
    block = np.repeat(np.arange(n), boxes)
    low[:, 2], high[:, 2] = np.arange(n * boxes), np.arange(n * boxes) + 0.5
    for i, several in enumerate(sets):
        for k, places in enumerate(several):
            if places:
                low[block == i, k], high[block == i, k] = places[0], places[-1]
    no = np.zeros((n, 3), np.bool_)
    return Regions(("s", "t", "a"), low, high, block, np.ones(n, np.int64), no, no, no, no)


@settings(max_examples=200)
@given(BLOCKS, st.integers(1, 2), st.sampled_from([2, 3, 32]))
def test_every_row_that_may_be_is_in_a_box(
    sets: list[tuple[Places | None, Places | None]], boxes: int, most: int
) -> None:
    whole = _regions(sets, boxes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(occurring, "_MOST_BOXES", most)
        found = divided(whole, {0: [s for s, _ in sets], 1: [t for _, t in sets]})
    assert (np.diff(found.block) >= 0).all()
    assert np.bincount(found.block).max() <= most * boxes
    for part in range(len(whole.block)):
        here = found.lower[:, 2] == whole.lower[part, 2]
        assert set(found.block[here].tolist()) == {whole.block[part]}
        ends = [(int(whole.lower[part, k]), int(whole.upper[part, k])) for k in (0, 1)]
        of = sets[int(whole.block[part])]
        choices = [places or range(a, b + 1) for places, (a, b) in zip(of, ends, strict=True)]
        for row in product(*choices):
            inside = (found.lower[here, :2] <= row) & (row <= found.upper[here, :2])
            assert inside.all(axis=1).any()
        assert (found.lower[here, :2] >= whole.lower[part, :2]).all()
        assert (found.upper[here, :2] <= whole.upper[part, :2]).all()


def test_boxes_of_a_block_with_a_gap_leave_out_what_does_not_occur() -> None:
    found = divided(_regions([((1, 5), (3, 5)), ((1, 3), None)], 1), {0: [(1, 5), (1, 3)], 1: [(3, 5), None]})
    assert found.block.tolist() == [0, 0, 0, 0, 1]  # no word is missing in the second
    sides = np.stack([found.lower[:4, :2], found.upper[:4, :2]], axis=2).tolist()
    assert sides == [[[1, 1], [3, 3]], [[1, 1], [5, 5]], [[5, 5], [3, 3]], [[5, 5], [5, 5]]]


def test_a_word_that_is_missing_between_unknown_ones_is_a_gap() -> None:
    found = divided(_regions([((2, 4), None)], 1), {0: [(2, 4)], 1: [None]})
    assert found.lower[:, 0].tolist() == [2, 4]


def test_the_narrowest_gaps_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurring, "_MOST_BOXES", 2)
    found = divided(_regions([((1, 3, 9, 11), None)], 1), {0: [(1, 3, 9, 11)]})
    assert np.stack([found.lower[:, 0], found.upper[:, 0]], axis=1).tolist() == [[1, 3], [9, 11]]


def test_blocks_that_are_very_many_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurring, "_ALL_BOXES", 3)
    whole = _regions([((1, 5), None)] * 2, 1)
    assert divided(whole, {0: [(1, 5)] * 2}) is whole
