"""How long building and reading enriched metadata takes on one thread: hulls, boxes, score maps.

OMP_NUM_THREADS=1 pytest benchmarks/micro/test_metadata.py --benchmark-enable; `us_each` is the time per block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.micro.timing import timed
from skipml.metadata import boxes, hulls, scoremaps

Floats = NDArray[np.float64]

BLOCK_ROWS = 16_384
N_BLOCKS = 367
BOXES, BITS = 16, 8
SCORE_BYTES = 32


def rows(d: int) -> Floats:
    """The rows [n, d] of one block: d columns that follow each other."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(BLOCK_ROWS, 1))
    points: Floats = common + rng.normal(size=(BLOCK_ROWS, d))
    return points


def limits(points: Floats) -> tuple[Floats, Floats]:
    """The minimum and the maximum of each column."""
    return points.min(axis=0), points.max(axis=0)


@pytest.mark.parametrize("size", hulls.SIZES)
def test_build_hull(benchmark: Any, size: int) -> None:
    """The hull of one column pair of one block."""
    points = rows(2)
    timed(benchmark, 1, hulls.build, points, *limits(points), size)


@pytest.mark.parametrize("size", hulls.SIZES)
def test_decode_hulls(benchmark: Any, size: int) -> None:
    """The half-planes of one pair of every block."""
    points = rows(2)
    payloads = np.tile(hulls.build(points, *limits(points), size), (N_BLOCKS, 1))
    timed(benchmark, N_BLOCKS, hulls.decode, payloads)


@pytest.mark.parametrize("d", [2, 4])
def test_build_boxes(benchmark: Any, d: int) -> None:
    """Sixteen boxes of one block."""
    points = rows(d)
    timed(benchmark, 1, boxes.build, points, *limits(points), BOXES, BITS)


@pytest.mark.parametrize("d", [2, 4])
def test_decode_boxes(benchmark: Any, d: int) -> None:
    """The boxes of every block."""
    points = rows(d)
    lower, upper = limits(points)
    payloads = np.tile(boxes.build(points, lower, upper, BOXES, BITS), (N_BLOCKS, 1))
    every_lower, every_upper = np.tile(lower, (N_BLOCKS, 1)), np.tile(upper, (N_BLOCKS, 1))
    timed(benchmark, N_BLOCKS, boxes.decode, payloads, every_lower, every_upper, BITS)


def test_build_score_map(benchmark: Any) -> None:
    """The score map of one block whose rows are scored."""
    timed(benchmark, 1, scoremaps.build, rows(1)[:, 0], 1e-6, SCORE_BYTES)


def test_decode_score_maps(benchmark: Any) -> None:
    """The intervals of every block."""
    scores = rows(1)[:, 0].reshape(64, -1)[np.arange(N_BLOCKS) % 64]
    lower, upper, payloads = zip(*(scoremaps.build(block, 1e-6, SCORE_BYTES) for block in scores), strict=True)
    timed(benchmark, N_BLOCKS, scoremaps.decode, np.array(lower), np.array(upper), np.stack(payloads))
