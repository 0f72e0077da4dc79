"""Ranges that are stored hold no score, are the widest, and fill the bytes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.metadata import gaps
from skipml.metadata.runs import Intervals, intervals
from skipml.metadata.widest import build

Floats = NDArray[np.float64]


def decoded(low: Floats, high: Floats, payload: NDArray[np.uint8]) -> Intervals:
    return intervals([gaps.decode(payload[None])], low[:1], high[-1:])


@pytest.mark.parametrize("size", [4, 8, 32, 100, 256, 1024])
@pytest.mark.parametrize("n", [2, 3, 20, 1000])
def test_ranges_hold_no_score_and_what_is_free_is_answered(n: int, size: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = np.sort(rng.standard_cauchy(n) * 10 ** float(rng.integers(-9, 9)))
        low, high = values - 1e-7, values + 1e-7
        built = build(low, high, size)
        if built is None:
            continue
        found = decoded(low, high, built[0])
        at = np.searchsorted(found.lower, low, side="right") - 1
        assert (high <= found.upper[at]).all()
        assert (found.upper[:-1] < found.lower[1:]).all()
        free = 1 - (found.upper - found.lower).sum() / (high[-1] - low[0])
        assert free == pytest.approx(built[1], abs=1e-6)


def test_the_widest_ranges_are_stored() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=1000))
    payload, _ = build(values, values, 32) or (np.zeros(0, np.uint8), 0.0)
    found = decoded(values, values, payload)
    free = found.lower[1:] - found.upper[:-1]
    widths = np.sort(np.diff(values))[::-1]
    assert len(free) > 20
    assert np.sort(free)[::-1] == pytest.approx(widths[: len(free)], abs=2 * (values[-1] - values[0]) / 512)


@pytest.mark.parametrize("size", [32, 64, 256, 512])
def test_the_bytes_are_filled(size: int) -> None:
    values = np.sort(np.random.default_rng(1).normal(size=5000))
    built = build(values, values, size)
    assert built is not None
    assert np.flatnonzero(np.unpackbits(built[0]))[-1] > 0.93 * 8 * size


@pytest.mark.parametrize("size", [32, 512])
def test_scores_on_the_edges_of_cells(size: int) -> None:
    values = np.arange(0.0, 4097.0, 64)
    built = build(values, values, size)
    assert built is not None
    found = decoded(values, values, built[0])
    at = np.searchsorted(found.lower, values, side="right") - 1
    assert (values <= found.upper[at]).all()
    assert built[1] > 0.4


@pytest.mark.parametrize("size", [4, 32, 512])
@pytest.mark.parametrize(
    "values",
    [
        [-1e300, 0.0, 5e-324, 1e-320, 1e300],
        [0.0, 5e-324, 1.0],
        [1.0, np.nextafter(1.0, 2), 1.0 + 3 * 2.0**-52],
        [-(2.0**1000), 2.0**1000],
        [0.0, 2.0**-900],
    ],
)
def test_extreme_ranges(values: list[float], size: int) -> None:
    low = np.array(values)
    built = build(low, low, size)
    if built is not None:
        found = decoded(low, low, built[0])
        at = np.searchsorted(found.lower, low, side="right") - 1
        assert (low <= found.upper[at]).all()


def test_no_list_of_scores_that_leave_no_range() -> None:
    values = np.array([1.0, 2.0])
    assert build(values - 1.0, values + 1.0, 32) is None
    assert build(values[:1], values[1:], 32) is None
    for size in (1, 2, 3, gaps.LARGEST + 1):
        assert build(values, values, size) is None
