"""Bitmaps cover every score, and their bits are those that are documented."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skipml.metadata.bitmaps import build, decode, estimate


@given(st.lists(st.booleans(), min_size=7, max_size=8 * 40 - 1))
def test_runs_of_bits_are_the_runs_of_cells(cells: list[bool]) -> None:
    cells = cells[: (len(cells) + 1) // 8 * 8 - 1]
    expected, place = [], 0
    for occupied, run in itertools.groupby(cells):
        length = len(list(run))
        expected += [[place, place + length]] if occupied else []
        place += length
    found = decode(np.packbits([False, *cells])[None])
    assert found.edges.tolist() == expected
    assert (found.cells.tolist(), found.count.tolist()) == ([len(cells)], [len(expected)])


def test_a_cell_each_and_the_first_is_the_highest_bit_but_one() -> None:
    values = np.array([0.0, 0.5, 8.0 * 32 - 1])
    payload, free = build(values, values, 32)
    assert payload.tolist() == [0x40, *[0] * 30, 0x01]
    assert free == 1 - 2 / 255
    assert decode(payload[None]).edges.tolist() == [[0, 1], [254, 255]]


def test_what_lies_around_a_score_fills_the_cells_that_it_reaches() -> None:
    values = np.array([0.0, 4.1, 7.0])
    assert build(values, values, 1)[0].tolist() == [0b01000101]
    assert build(np.array([0.0, 3.9, 6.5]), np.array([0.5, 4.3, 7.0]), 1)[0].tolist() == [0b01001101]


def test_about_as_much_is_free_as_is_estimated() -> None:
    values = np.sort(np.random.default_rng(0).random(500))
    for size in (64, 128, 256, 1024):
        assert abs(estimate(values, values, size) - build(values, values, size)[1]) < 0.03
