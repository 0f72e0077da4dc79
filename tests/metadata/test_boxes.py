"""Boxes contain every row exactly, and follow the rows where one region cannot."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.errors import EnrichmentError
from skipml.metadata.boxes import build, decode, size

Floats = NDArray[np.float64]
EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 1e-300, 1e300, -1e300, 1.7e308, -1.7e308, 2.0**53, 2.0**53 - 1, -(2.0**53) + 1]
bits = st.sampled_from([8, 16])


@st.composite
def rows(draw: st.DrawFn) -> Floats:
    """Points [n, d] on all scales: any numbers, a few neighbouring integers, clusters."""
    n, d = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["any", "integers", "denormal", "clusters", "normal"]))
    if kind == "any":
        number = st.sampled_from(EXTREMES) | st.floats(-1.7e308, 1.7e308)
        return np.array(draw(st.lists(st.lists(number, min_size=d, max_size=d), min_size=n, max_size=n)))
    if kind == "integers":
        return np.asarray((2.0**53 - rng.integers(0, 7, (n, d))) * rng.choice([-1, 1]))
    if kind == "denormal":
        return np.asarray(rng.integers(-3, 4, (n, d)) * 5e-324)
    if kind == "clusters":
        return np.asarray(rng.choice([0.0, 1.0, 1e6], (n, d)) + rng.random((n, d)) * 1e-6)
    return rng.normal(size=(n, d)) * 10.0 ** rng.integers(-100, 100, d)


def contained(points: Floats, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
    """Which of the points [n, d] are in one of the boxes [m, d]."""
    inside = np.all((points[:, None] >= lower) & (points[:, None] <= upper), axis=2)
    found: NDArray[np.bool_] = np.any(inside, axis=1)
    return found


@given(st.lists(rows(), min_size=1, max_size=4), st.sampled_from([1, 2, 3, 8]), bits)
@settings(max_examples=200)
def test_every_row_is_in_a_box_of_its_block(blocks: list[Floats], k: int, b: int) -> None:
    d = min(points.shape[1] for points in blocks)
    blocks = [points[:, :d] for points in blocks]
    lower, upper = np.array([p.min(axis=0) for p in blocks]), np.array([p.max(axis=0) for p in blocks])
    payloads = np.array([build(*rest, k, b) for rest in zip(blocks, lower, upper, strict=True)])
    assert payloads.shape == (len(blocks), size(k, d, b))
    low, high, block = decode(payloads, lower, upper, b)
    assert (np.bincount(block, minlength=len(blocks)) <= k).all()
    assert (low <= high).all()
    assert (low >= lower[block]).all()
    assert (high <= upper[block]).all()
    for i, points in enumerate(blocks):
        mine = low[block == i], high[block == i]
        assert contained(points, *mine).all()
        assert all(contained(points, a[None], b[None]).any() for a, b in zip(*mine, strict=True))


@given(st.binary(min_size=0, max_size=64), st.integers(1, 3), st.integers(0, 4), st.sampled_from([8, 16, 12]))
def test_any_bytes_decode(data: bytes, n: int, d: int, b: int) -> None:
    payloads = np.tile(np.frombuffer(data, dtype=np.uint8), (n, 1))
    lower, upper = np.zeros((n, d)), np.ones((n, d))
    low, high, block = decode(payloads, lower, upper, b)
    assert (np.unique(block) == np.arange(n)).all()
    assert (np.diff(block) >= 0).all()
    assert ((low >= 0) & (low <= high) & (high <= 1)).all()


@pytest.mark.parametrize("b", [8, 16])
def test_a_box_for_each_cluster(b: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.random((6, 3)) * 100
    points = np.concatenate([centre + rng.random((1000, 3)) for centre in centres])
    lower, upper = points.min(axis=0), points.max(axis=0)
    low, high, block = decode(build(points, lower, upper, 8, b)[None], lower[None], upper[None], b)
    assert len(block) <= 8
    assert contained(points, low, high).all()
    assert (high - low).max() < 1 + 2 * (upper - lower).max() / (2**b - 1)


def test_outliers_do_not_stretch_the_boxes() -> None:
    points = np.random.default_rng(0).random((10_000, 2))
    points[1234] = 1000.0, 1000.0
    lower, upper = points.min(axis=0), points.max(axis=0)
    low, high, _ = decode(build(points, lower, upper, 2, 16)[None], lower[None], upper[None], 16)
    assert contained(points, low, high).all()
    assert float((high - low).prod(axis=1).sum()) < 1.2


def test_more_boxes_take_less_room() -> None:
    x = np.random.default_rng(3).random(5000)
    points = np.stack([x, x * x, 1 - x], axis=1)
    lower, upper = points.min(axis=0), points.max(axis=0)
    volumes = []
    for k in (1, 2, 4, 16, 64):
        low, high, _ = decode(build(points, lower, upper, k, 8)[None], lower[None], upper[None], 8)
        volumes.append(float((high - low).prod(axis=1).sum()))
    assert volumes[0] == pytest.approx(1, abs=1e-3)
    assert all(more < 0.7 * fewer for fewer, more in itertools.pairwise(volumes))


def test_repeats_are_dropped_and_nonsense_is_the_whole_block() -> None:
    lower, upper = np.array([[0.0], [10.0], [-1.0]]), np.array([[1.0], [20.0], [1.0]])
    payloads = np.array([[0, 51, 0, 51], [0, 255, 9, 3], [0, 0, 255, 255]], dtype=np.uint8)
    low, high, block = decode(payloads, lower, upper, 8)
    assert block.tolist() == [0, 1, 2, 2]
    assert low[:, 0].tolist() == [0, 10, -1, 1]
    assert high[:, 0].tolist() == [0.2, 20, -1, 1]


def test_bits_are_8_or_16() -> None:
    assert (size(3, 4, 8), size(3, 4, 16)) == (24, 48)
    with pytest.raises(EnrichmentError, match="use 8 or 16"):
        size(1, 2, 12)
