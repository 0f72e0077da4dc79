"""Diagonal cuts are the levels just below the smallest s + t of each corner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.metadata.diagonals import SIZE, encode, reach
from skipml.metadata.hulls import build, decode, merge, vertices

Floats = NDArray[np.float64]
_ROUNDING = 1e-12
_ZERO, _ONE = np.zeros(2), np.ones(2)


def free(x: Floats, y: Floats) -> Floats:
    """The smallest s + t at the corners (0, 0), (1, 0), (0, 1), (1, 1)."""
    return np.array([(s + t).min() for t in (y, 1 - y) for s in (x, 1 - x)])


def area(polygon: Floats) -> float:
    x, y = polygon.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
@settings(max_examples=300)
def test_a_cut_is_the_highest_level_that_keeps_every_row(rows: list[tuple[float, float]]) -> None:
    x, y = np.array(rows).T
    payload = encode(x, y)
    levels = reach(np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, SIZE)))[:, 0, 0]
    assert (levels[payload] <= free(x, y) + _ROUNDING).all()
    assert (levels[np.minimum(payload + 1, 255)] > free(x, y))[payload < 255].all()


def test_levels_rise_from_no_cut_to_the_whole_diagonal() -> None:
    levels = reach(np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, SIZE)))
    assert (levels[..., 0] == levels[..., 1]).all()
    assert (np.diff(levels[:, 0, 0]) > 0).all()
    assert levels[0, 0, 0] == 0.0
    assert levels[255, 0, 0] == 1.0


def test_the_bytes_stay_what_they_are() -> None:
    assert build(np.array([[0.0, 0.0], [1.0, 1.0]]), _ZERO, _ONE, SIZE).tobytes().hex() == "00ffff00"
    diamond = np.array([[0.5, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]])
    assert build(diamond, _ZERO, _ONE, SIZE).tobytes().hex() == "7f7f7f7f"  # the level of 128 is above 0.5
    one_corner = np.array([[0.0, 0.01], [0.01, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert build(one_corner, _ZERO, _ONE, SIZE).tobytes().hex() == "0f000000"


@pytest.mark.parametrize("corner", range(4))
def test_a_byte_cuts_its_own_corner(corner: int) -> None:
    payload = np.zeros((1, SIZE), np.uint8)
    payload[0, corner] = 255
    planes = decode(payload)
    assert planes.offset.shape == (1, 1)
    places = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    outside = places @ planes.normal[0, 0] > planes.offset[0, 0]
    assert outside.tolist() == [i == corner for i in range(4)]


def test_rows_that_nearly_fill_their_box_and_rows_near_a_diagonal_are_cut_closely() -> None:
    rng = np.random.default_rng(1)
    full = rng.random((10_000, 2))
    full[:4] = [(0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)]
    slivers = float((free(*full.T) ** 2).sum() / 2)
    assert 0.8 * slivers < 1 - area(vertices(build(full, _ZERO, _ONE, SIZE))) <= slivers + _ROUNDING
    x = np.linspace(0, 1, 1000)
    near = np.stack([x, x + 0.002 * np.sin(50 * x) * x * (1 - x)], axis=1)
    assert area(vertices(build(near, _ZERO, _ONE, SIZE))) < 0.004


def test_a_merge_of_diagonals_loses_at_most_a_level() -> None:
    x = np.linspace(0, 1, 50)
    rows = np.stack([x, x], axis=1)
    payloads = np.array([build(rows, _ZERO, _ONE, SIZE)] * 2)
    payload, lower, upper = merge(payloads, np.array([_ZERO, _ONE]), np.array([_ONE, 2 * _ONE]), SIZE)
    assert payload.tolist() == [0, 254, 254, 0]  # decoded polygons leave room around their rows
    assert (lower == _ZERO).all()
    assert (upper == 2 * _ONE).all()
