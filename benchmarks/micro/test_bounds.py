"""How long bounding a box, scoring a row and deciding a block take on one thread.

OMP_NUM_THREADS=1 pytest benchmarks/micro/test_bounds.py --benchmark-enable; `us_each` is the time per box, row, block.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.micro.timing import timed
from skipml.bounds.branch import Budget, branch_and_bound
from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network, Op

Floats = NDArray[np.float64]

SHAPES = [(4, 16, 16, 1), (4, 64, 64, 1), (8, 128, 128, 1)]


def trained_like(dims: tuple[int, ...]) -> Network:
    """A float32 network whose weights have the size that training gives them."""
    rng = np.random.default_rng(0)
    ops: list[Op] = []
    for n_in, n_out in pairwise(dims):
        weight = (rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)).astype(np.float32)
        ops += [Affine(weight, (0.1 * rng.normal(size=n_out)).astype(np.float32)), LeakyRelu(0.0)]
    return Network(dims[0], dims[-1], np.dtype(np.float32), tuple(ops[:-1]))


@dataclass(frozen=True, eq=False)
class Blocks:
    """One box per block."""

    lower: Floats
    upper: Floats
    block: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    hulls: tuple[()] = ()


def blocks(n: int, d: int, side: float) -> Blocks:
    """Boxes with sides up to `side` around normally distributed centres, 10,000 rows each."""
    rng = np.random.default_rng(1)
    centre, radius = rng.normal(size=(n, d)), rng.random((n, d)) * side / 2
    return Blocks(centre - radius, centre + radius, np.arange(n), np.full(n, 10_000))


@dataclass(frozen=True)
class Above:
    """The test `score > limit`."""

    limit: float

    def never(self, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
        """Whether no score passes."""
        return upper[:, 0] <= self.limit

    def always(self, lower: Floats, upper: Floats) -> NDArray[np.bool_]:
        """Whether every score passes."""
        return lower[:, 0] > self.limit

    def holds(self, values: Floats) -> NDArray[np.bool_]:
        """Whether these scores pass."""
        return values[:, 0] > self.limit


def named(shape: tuple[int, ...]) -> str:
    """4-16-16-1 for (4, 16, 16, 1)."""
    return "-".join(map(str, shape))


@pytest.mark.parametrize("n", [16, 367, 1000, 10_000])
@pytest.mark.parametrize("shape", SHAPES, ids=named)
@pytest.mark.parametrize("method", ["interval", "crown"])
def test_bounds(benchmark: Any, method: str, shape: tuple[int, ...], n: int) -> None:
    """Upper and lower bounds with margins."""
    parts = blocks(n, shape[0], 1.0)
    timed(benchmark, n, getattr(Verifier(trained_like(shape)), method), parts.lower, parts.upper)


@pytest.mark.parametrize("shape", [(3, 32, 32, 1), *SHAPES], ids=named)
def test_forward(benchmark: Any, shape: tuple[int, ...]) -> None:
    """One DuckDB chunk of 2,048 rows."""
    x = np.random.default_rng(0).normal(size=(2048, shape[0])).astype(np.float32)
    timed(benchmark, 2048, trained_like(shape).forward, x)


@pytest.mark.parametrize("percentile", [90, 99.9], ids=["needed by a tenth", "needed by few"])
@pytest.mark.parametrize("shape", [(2, 16, 16, 1), *SHAPES[:2]], ids=named)
def test_branch_and_bound(benchmark: Any, shape: tuple[int, ...], percentile: float) -> None:
    """367 blocks; the limit is that percentile of the highest score sampled in each block."""
    network = trained_like(shape)
    parts = blocks(367, shape[0], 1.0)
    share = np.random.default_rng(2).random((200, *parts.lower.shape))
    scores = network.forward((parts.lower + share * (parts.upper - parts.lower)).reshape(-1, shape[0]))
    limit = float(np.percentile(scores.reshape(200, 367).max(axis=0), percentile))
    timed(benchmark, 367, branch_and_bound, Verifier(network), parts, Above(limit), Budget(cost_per_row=150e-9))
