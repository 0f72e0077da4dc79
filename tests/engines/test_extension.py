"""Scores of the DuckDB extension against torch and the network's own forward pass, and against themselves elsewhere."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import skipml
from skipml.bounds.verifier import Verifier
from skipml.models import from_torch
from skipml.models.native import to_bytes
from skipml.network import Affine, Array, Divide, LeakyRelu, Network, Op, Scale, Shift
from tests.oracle import identity, relu
from tests.strategies import networks

EXTENSION = Path(
    os.environ.get("SKIPML_EXTENSION")
    or Path(skipml.__file__).parents[1] / "extension" / "build" / "skipml.duckdb_extension"
)
CHUNK = 2048
Floats = NDArray[np.float64]

pytestmark = pytest.mark.skipif(not EXTENSION.exists(), reason=f"make extension builds it: {EXTENSION} is not there")

EDGES = np.array([0.0, -0.0, 1.0, -1.0, 5e-324, -1e-310, 1e-45, 2.0**-127, -(2.0**-149), 1e-20, 3.5, -1e4])
"""Values that any sum can take without coming near overflow."""
NOT_FINITE = np.array([np.nan, np.inf, -np.inf])
HUGE = np.array([3e38, -3e38, 3.5e38, 1e39, -1e200, 1e308, -1e308])


class Scorer:
    """A connection with the extension, through which arrays are scored."""

    def __init__(self) -> None:
        self.con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        self.con.execute(f"LOAD '{EXTENSION}'")

    def register(self, network: Network, name: str = "m") -> None:
        self.con.execute("CALL skipml_register(?, ?)", [name, to_bytes(network)])

    def outputs(self, network: Network, x: Floats, where: str = "TRUE") -> Array:
        """Outputs [n, n_outputs] of the rows of x [n, n_inputs] of which `where`, on column `id`, holds, by id."""
        self.register(network)
        self.load(x)
        wide = "_double" if network.dtype == np.float64 else ""
        arguments = ", ".join(f"x{i}" for i in range(network.n_inputs))
        query = f"SELECT id, skipml_scores{wide}('m', {arguments}) AS y FROM t WHERE {where} ORDER BY id"
        found = self.con.execute(query).fetchnumpy()["y"]
        return np.array([list(y) for y in found], network.dtype).reshape(-1, network.n_outputs)

    def load(self, x: Floats) -> None:
        """The rows as the table t(id, x0, x1, ...); NaN is NaN and not NULL."""
        columns = {"id": pa.array(np.arange(len(x)))} | {f"x{i}": pa.array(c) for i, c in enumerate(x.T)}
        rows = pa.table(columns)
        self.con.register("rows", rows)
        self.con.execute("CREATE OR REPLACE TABLE t AS FROM rows")
        self.con.unregister("rows")

    def one(self, sql: str) -> object:
        row = self.con.execute(sql).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    made = Scorer()
    yield made
    made.con.close()


def mlp(widths: Sequence[int], dtype: str = "float32", slope: float = 0.0, scaled: bool = False) -> Network:
    """Affine layers with activations between them, behind Shift, Divide and Scale if `scaled`."""
    kind: np.dtype[np.floating] = np.dtype(dtype)
    rng = np.random.default_rng(sum(widths))
    ops: list[Op] = []
    if scaled:
        n = widths[0]
        ops = [
            Shift(rng.random(n).astype(kind)),
            Divide(1 + rng.random(n).astype(kind)),
            Scale(rng.random(n).astype(kind)),
        ]
    for n_in, n_out in pairwise(widths):
        weight = (rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)).astype(kind)
        ops += [Affine(weight, rng.standard_normal(n_out).astype(kind)), LeakyRelu(slope)]
    return Network(widths[0], widths[-1], kind, tuple(ops[:-1]))


NETWORKS = {
    "one input": mlp([1, 8, 1]),
    "64 inputs": mlp([64, 33, 2]),
    "wide": mlp([5, 517, 3]),
    "deep": mlp([3] + [11] * 30 + [2], slope=0.01),
    "float64": mlp([4, 32, 32, 1], "float64"),
    "leaky": mlp([4, 32, 32, 1], slope=0.3),
    "scaled": mlp([6, 17, 5, 7], scaled=True),
    "scaled float64": mlp([6, 18, 5], "float64", slope=1.0, scaled=True),
    "nothing": identity(),
    "relu": relu("float64"),
}


def rows_of(network: Network, rng: np.random.Generator, n: int = 300) -> Floats:
    """Rows of all sizes, some with edge values in a few of their inputs."""
    x = rng.standard_normal((n, network.n_inputs)) * np.exp(rng.normal(0, 3, (n, 1)))
    edge = rng.random(x.shape) < rng.choice([0.0, 0.2, 1.0], (n, 1))
    return np.where(edge, rng.choice(EDGES, x.shape), x)


def assert_near(network: Network, x: Floats, y: Array, expected: Array) -> None:
    """Equal within what the bounds allow two computations of the same row; most rows have such a margin."""
    margin = Verifier(network).margin(x, x, np.zeros_like(x))
    assert np.isfinite(margin).mean() > 0.9
    apart = np.abs(y.astype(np.float64) - expected.astype(np.float64))
    assert ((apart <= margin) | ~np.isfinite(margin)).all()


def bits(values: Array) -> NDArray[np.integer]:
    kind: NDArray[np.integer] = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    return kind


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_within_the_margin_of_the_bounds(scorer: Scorer, name: str) -> None:
    network = NETWORKS[name]
    x = rows_of(network, np.random.default_rng(1))
    assert_near(network, x, scorer.outputs(network, x), network.forward(x))


@settings(deadline=None, max_examples=60)
@given(networks(), st.integers(0, 2**32 - 1))
def test_any_network(network: Network, seed: int) -> None:
    scorer = _shared()
    x = rows_of(network, np.random.default_rng(seed), 60)
    assert_near(network, x, scorer.outputs(network, x), network.forward(x))


@functools.cache
def _shared() -> Scorer:
    """One connection for all examples of a property."""
    return Scorer()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_are_within_the_margin_of_torch(scorer: Scorer, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 32),
        torch.nn.LeakyReLU(0.1),
        torch.nn.Linear(32, 2),
    ).to(dtype)
    network = from_torch(module)
    assert isinstance(network, Network)
    x = rows_of(network, np.random.default_rng(2), 5000)
    with torch.no_grad():
        expected = module(torch.from_numpy(x).to(dtype)).numpy()
    assert_near(network, x, scorer.outputs(network, x), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_nan_and_infinity_propagate_as_in_forward(scorer: Scorer, name: str) -> None:
    network = NETWORKS[name]
    rng = np.random.default_rng(3)
    x = np.where(rng.random((200, network.n_inputs)) < 0.3, rng.choice(NOT_FINITE, (200, network.n_inputs)), 0.5)
    y, expected = scorer.outputs(network, x), network.forward(x)
    assert (np.isnan(y) == np.isnan(expected)).all()
    assert (np.isinf(y) == np.isinf(expected)).all()
    assert (y[np.isinf(y)] == expected[np.isinf(y)]).all()


def test_inputs_are_cast_to_the_dtype_once(scorer: Scorer) -> None:
    x = np.concatenate([EDGES, NOT_FINITE, HUGE, np.random.default_rng(4).standard_normal(500)])[:, None]
    for dtype in ("float32", "float64"):
        with np.errstate(over="ignore"):
            expected: Array = x.astype(dtype)
        expected[expected == 0] = 0  # -0.0 becomes 0.0
        y = scorer.outputs(identity(dtype), x)
        assert (np.isnan(y) == np.isnan(expected)).all()
        assert (bits(y)[~np.isnan(x)] == bits(expected)[~np.isnan(x)]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_score_does_not_depend_on_the_rows_around_it(scorer: Scorer, name: str) -> None:
    network = NETWORKS[name]
    rng = np.random.default_rng(5)
    x = rows_of(network, rng, 2 * CHUNK + 77)
    x[rng.random(x.shape) < 0.01] = np.nan
    everything = bits(scorer.outputs(network, x))
    filters: dict[str, Callable[[NDArray[np.integer]], NDArray[np.bool_]]] = {
        "id % 7 = 3": lambda i: i % 7 == 3,
        "id % 100 = 42": lambda i: i % 100 == 42,
        "id >= 1": lambda i: i >= 1,
        "id >= 7": lambda i: i >= 7,
        "id = 2047": lambda i: i == CHUNK - 1,
        "id = 4101": lambda i: i == 4101,
    }
    ids = np.arange(len(x))
    for threads in (1, 2):
        scorer.con.execute(f"SET threads = {threads}")
        for where, holds in filters.items():
            assert (bits(scorer.outputs(network, x, where)) == everything[holds(ids)]).all(), where
    for n in (1, 2, 7, 23, 25, 49):  # a chunk of n rows, each at another place than before
        assert (bits(scorer.outputs(network, x[-n:])) == everything[-n:]).all()
    assert (bits(scorer.outputs(network, x[::-1].copy())) == everything[::-1]).all()


def test_functions_agree_bit_for_bit(scorer: Scorer) -> None:
    for dtype, suffix in (("float32", ""), ("float64", "_double")):
        network = mlp([4, 19, 1], dtype)
        x = rows_of(network, np.random.default_rng(6), 5000)
        y = scorer.outputs(network, x)
        found = scorer.con.execute(
            f"SELECT skipml_score{suffix}('m', x0, x1, x2, x3) AS y FROM t ORDER BY id"
        ).fetchnumpy()
        assert found["y"].dtype == network.dtype
        assert (bits(np.asarray(found["y"])) == bits(y[:, 0])).all()


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99, 1.0])
@pytest.mark.parametrize("name", ["one input", "scaled", "float64"])
def test_null_in_any_argument_is_null(scorer: Scorer, name: str, share: float) -> None:
    network = NETWORKS[name]
    rng = np.random.default_rng(7)
    x = rows_of(network, rng, 3 * CHUNK)
    expected = scorer.outputs(network, x)
    missing = rng.random(x.shape) < share
    columns = {f"x{i}": pa.array(c, mask=missing[:, i]) for i, c in enumerate(x.T)}
    scorer.con.register("rows", pa.table({"id": pa.array(np.arange(len(x)))} | columns))
    wide = "_double" if network.dtype == np.float64 else ""
    arguments = "'m', " + ", ".join(columns)
    one = f"skipml_score{wide}" if network.n_outputs == 1 else f"skipml_scores{wide}"
    query = (
        f"SELECT {one}({arguments}), skipml_scores{wide}({arguments}), skipml_class({arguments}) FROM rows ORDER BY id"
    )
    found = scorer.con.execute(query).fetchall()
    scorer.con.unregister("rows")
    for row, (first, every, best) in enumerate(found):
        y = expected[row].tolist()
        if missing[row].any():
            assert (first, every, best) == (None, None, None)
        else:
            assert (every, best) == (y, int(np.argmax(y)))
            assert first == (y[0] if network.n_outputs == 1 else y)


def test_class_is_argmax_with_ties_and_nan(scorer: Scorer) -> None:
    rng = np.random.default_rng(8)
    x = rng.choice([0.0, -0.0, 1.0, 2.0, np.inf, -np.inf, np.nan], (5000, 4), p=[0.2, 0.1, 0.2, 0.2, 0.1, 0.1, 0.1])
    for dtype in ("float32", "float64"):
        network = Network(4, 4, np.dtype(dtype), ())
        scorer.register(network)
        scorer.load(x)
        found = scorer.con.execute("SELECT skipml_class('m', x0, x1, x2, x3) AS c FROM t ORDER BY id").fetchnumpy()["c"]
        assert (found == np.argmax(x, axis=1)).all()


def test_a_network_wider_than_a_block_of_rows(scorer: Scorer) -> None:
    network = mlp([2, 40_000])
    x = rows_of(network, np.random.default_rng(9), 130)
    scorer.register(network)
    scorer.load(x)
    found = scorer.con.execute(
        "SELECT skipml_class('m', x0, x1) AS c FROM t WHERE id % 3 = 0 ORDER BY id"
    ).fetchnumpy()["c"]
    y = network.forward(x)[::3]
    assert (y.max(axis=1) - y[np.arange(len(y)), found] <= 1e-6 * np.abs(y).max(axis=1)).all()


def test_models_belong_to_the_database(scorer: Scorer) -> None:
    scorer.register(identity(), "mine")
    assert scorer.con.cursor().execute("SELECT skipml_score('mine', 1)").fetchall() == [(1.0,)]
    other = Scorer()
    with pytest.raises(duckdb.InvalidInputException, match="no model 'mine'"):
        other.one("SELECT skipml_score('mine', 1)")
    other.con.close()


def test_models_are_replaced_while_others_score(scorer: Scorer) -> None:
    one, two = (Network(1, 1, np.dtype("f4"), (Scale(np.array([f], "f4")),)) for f in (1, 2))
    scorer.register(one, "changing")
    stop = False

    def replace() -> None:
        cursor = scorer.con.cursor()
        for i in range(10_000):
            if stop:
                return
            cursor.execute("CALL skipml_register('changing', ?)", [to_bytes((one, two)[i % 2])])

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(20):
            found = scorer.con.execute(
                "SELECT DISTINCT skipml_score('changing', 1 + i * 0) FROM range(300000) t(i) ORDER BY 1"
            ).fetchall()
            assert found in ([(1.0,)], [(2.0,)], [(1.0,), (2.0,)])
    finally:
        stop = True
        thread.join()
