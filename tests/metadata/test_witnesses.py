"""Witnesses are rows of their block, reach its sides, and their second half is a fair sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.metadata.witnesses import choose, decode, encode, n_extremes

Floats = NDArray[np.float64]
LARGEST = float(np.finfo(np.float32).max)


@st.composite
def blocks(draw: st.DrawFn) -> Floats:
    """Rows [n, d] of all scales, with repeats and constant columns."""
    n, d = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["any", "normal", "few", "constant"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "any":
        number = st.floats(allow_nan=False, allow_infinity=False)
        return np.array(draw(st.lists(st.lists(number, min_size=d, max_size=d), min_size=1, max_size=8)))
    if kind == "few":
        return np.asarray(rng.integers(0, 3, (n, d)).astype(np.float64))
    return rng.normal(size=(n, d)) if kind == "normal" else np.full((n, d), 0.1)


def stored(values: Floats) -> NDArray[np.float32]:
    """The values as witnesses hold them."""
    return np.asarray(np.clip(values, -LARGEST, LARGEST).astype(np.float32))


@given(blocks(), st.integers(0, 20))
def test_every_witness_is_a_row(values: Floats, count: int) -> None:
    rows = choose(values, count)
    assert rows.shape == (count, values.shape[1])
    assert rows.dtype == np.float32
    known = {row.tobytes() for row in stored(values) + np.float32(0)}
    assert all(row.tobytes() in known for row in rows + np.float32(0))
    assert np.array_equal(rows, choose(values.copy(order="F"), count))


@given(blocks(), st.integers(0, 20))
def test_extremes_reach_the_sides_of_the_box(values: Floats, more: int) -> None:
    count = 4 * values.shape[1] + more
    extremes = choose(values, count)[: n_extremes(count)].astype(np.float64)
    sides = values.min(axis=0), values.max(axis=0)
    low, high = (stored(side).astype(np.float64) for side in sides)
    nearly = 1e-12 * sides[1] - 1e-12 * sides[0]  # rows as good as equally far out may stand for each other
    assert (np.abs(extremes.min(axis=0) - low) <= nearly).all()
    assert (np.abs(extremes.max(axis=0) - high) <= nearly).all()


def test_sides_are_reached_by_a_single_row_among_many() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((10_000, 3))
    values[7001, 0], values[7002, 1] = -0.01, 1.01
    extremes = choose(values, 12)[:6]
    assert extremes[:, 0].min() == np.float32(-0.01)
    assert extremes[:, 1].max() == np.float32(1.01)


def test_few_extremes_lie_near_opposite_corners() -> None:
    values = np.random.default_rng(0).random((16_384, 3))
    extremes = choose(values, 8)[: n_extremes(8)].astype(np.float64)
    towards_corner = np.abs(extremes - 0.5).min(axis=1)
    assert (towards_corner > 0.3).all()
    assert len(np.unique(extremes > 0.5, axis=0)) == 4
    assert np.array_equal(extremes[::2] > 0.5, extremes[1::2] < 0.5)


def test_more_extremes_find_every_corner() -> None:
    values = np.random.default_rng(0).random((16_384, 3))
    extremes = choose(values, 28)[6 : n_extremes(28)]
    assert len(np.unique(extremes > 0.5, axis=0)) == 8
    assert choose(np.random.default_rng(0).random((100, 40)), 400).shape == (400, 40)


@pytest.mark.parametrize("ordered", [False, True])
def test_the_sample_estimates_a_selectivity(ordered: bool) -> None:
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(600):
        values = rng.random((2000, 2))
        values = values[values[:, 0].argsort()] if ordered else values
        sample = choose(values, 8)[n_extremes(8) :]
        shares.append([(sample[:, 0] > 0.9).mean(), (sample[:, 0] < 0.3).mean(), (sample[:, 1] > 0.5).mean()])
    assert np.mean(shares, axis=0) == pytest.approx([0.1, 0.3, 0.5], abs=0.03)


def test_extremes_and_samples_of_counts() -> None:
    assert [n_extremes(count) for count in (0, 1, 2, 7, 8)] == [0, 0, 1, 3, 4]


@pytest.mark.parametrize("count", [0, 8])
def test_no_row_is_nan(count: int) -> None:
    rows = choose(np.empty((0, 3)), count)
    assert rows.shape == (count, 3)
    assert np.isnan(rows).all()
    assert np.isnan(decode(encode(rows)[None], 3)).all()


@given(blocks(), st.integers(1, 9), st.integers(1, 3))
def test_witnesses_survive_encoding(values: Floats, count: int, n: int) -> None:
    rows = choose(values, count)
    payload = encode(rows)
    assert payload.dtype == np.uint8
    assert payload.shape == (4 * rows.size,)
    found = decode(np.tile(payload, (n, 1)), values.shape[1])
    assert found.dtype == np.float64
    assert np.array_equal(found, np.tile(rows.astype(np.float64), (n, 1, 1)))


def test_bytes_are_little_endian_float32() -> None:
    assert encode(np.array([[1.0, -2.0]], np.float32)).tolist() == [0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0]


@given(st.binary(max_size=50), st.integers(0, 3), st.integers(0, 4))
def test_any_bytes_decode(data: bytes, n: int, d: int) -> None:
    found = decode(np.tile(np.frombuffer(data, dtype=np.uint8), (n, 1)), d)
    fits = d > 0 and len(data) % (4 * d) == 0
    assert found.shape == (n, len(data) // (4 * d) if fits else 0, d)
