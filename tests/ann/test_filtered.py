from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import skipml
from skipml import PredicateError, VectorIndex
from skipml.ann import conditions, filtered
from skipml.ann.metric import Metric
from tests.ann.brute import METRICS, clustered, nearest, table_of

N, D = 5000, 40
CONDITIONS = [
    "share < 50",
    "share < 3 AND name <> 'n1'",
    "maybe > 10",
    "NOT maybe > 10",
    "maybe IS NULL OR share = 4",
    "share < 0",
    "NULL",
    "share < 20 -- a comment",
]


def table(vectors: NDArray[Any]) -> pa.Table:
    n = len(vectors)
    maybe = pa.array([None if i % 3 == 0 else i % 40 for i in range(n)], pa.int32())
    share = np.random.default_rng(7).integers(0, 100, n)
    names = pa.array([f"n{i % 7}" for i in range(n)])
    return table_of(vectors, id=pa.array(np.arange(n)), share=pa.array(share), maybe=maybe, name=names)


def built(path: Path, rows: pa.Table, metric: Metric = "l2", **options: Any) -> VectorIndex:
    return VectorIndex.build(rows, column="v", path=path, metric=metric, **options)


def passing(rows: pa.Table, condition: str) -> list[int]:
    with duckdb.connect() as con:
        con.register("x", rows)
        return [row[0] for row in con.execute(f"SELECT id FROM x WHERE ({condition}\n) ORDER BY id").fetchall()]


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    found: NDArray[np.float32] = clustered(N, D)
    return found


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, vectors: NDArray[np.float32]) -> VectorIndex:
    return built(tmp_path_factory.mktemp("filtered") / "index", table(vectors))


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("k", [1, 300])
def test_exact_is_brute_force(index: VectorIndex, vectors: NDArray[np.float32], condition: str, k: int) -> None:
    ids = np.array(passing(table(vectors), condition), np.int64)
    query = clustered(1, D, 5)[0]
    found = index.search(query, k, exact=True, where=condition)
    near, far = nearest("l2", query, vectors[ids], k)
    assert found["id"].to_pylist() == ids[near].tolist()
    np.testing.assert_array_equal(found["distance"].to_numpy(), far)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", [{}, {"codes": False}])
@pytest.mark.parametrize("int8", [False, True])
def test_any_number_of_lists_gives_k_rows_that_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: Metric, options: dict[str, Any], int8: bool
) -> None:
    monkeypatch.setattr(filtered, "_LEAST_ROWS", 0)
    rows = clustered(600, 40, int8=int8)
    index = built(tmp_path / "index", table(rows), metric, **options)
    queries = clustered(8, 40, 3)
    for condition in ("share < 50", "share < 3", "v[2] > 0 AND maybe = 4", "share < 0"):
        ids = passing(table(rows), condition)
        for nprobe in (1, 1000):  # the last reads every list
            found = index.search(queries, 7, nprobe=nprobe, where=condition)
            assert len(found) == 8 * min(7, len(ids))
            assert set(found["id"].to_pylist()) <= set(ids)
        exact = index.search(queries, 7, exact=True, where=condition)
        same = np.isclose(found["distance"].to_numpy(), exact["distance"].to_numpy(), equal_nan=True)
        assert same.sum() >= 0.9 * len(same)


def test_recall_under_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtered, "_LEAST_ROWS", 100)
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((60, 48))
    rows = (centres[rng.integers(0, 60, 8000)] + 0.6 * rng.standard_normal((8000, 48))).astype(np.float32)
    queries = (centres[rng.integers(0, 60, 60)] + 0.6 * rng.standard_normal((60, 48))).astype(np.float32)
    index = built(tmp_path / "index", table(rows), n_lists=60)
    assert index.calibrate(rows[::4] + 1e-3, [0.9], rule="nearness")
    for condition, source in (("share < 50", "estimated"), ("share < 10", "estimated"), ("share < 1", "exact")):
        exact = index.search(queries, 10, exact=True, where=condition)
        found = index.search(queries, 10, recall=0.9, where=condition)
        assert len(found) == len(exact) == 600
        hits = set(zip(found["query"].to_pylist(), found["id"].to_pylist(), strict=True)) & set(
            zip(exact["query"].to_pylist(), exact["id"].to_pylist(), strict=True)
        )
        assert len(hits) >= 0.88 * 600
        assert index.stats is not None
        assert index.stats.guarantee.startswith(source)


def test_rows_far_from_the_query_are_looked_at_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtered, "_LEAST_ROWS", 100)
    rng = np.random.default_rng(2)
    rows = (rng.standard_normal((6000, 32)) + np.repeat([[0], [4]], 3000, axis=0)).astype(np.float32)
    index = built(tmp_path / "index", table(rows))
    queries = np.stack([rows[0], rows[5000], rows[1]])
    found = index.search(queries, 10, nprobe=4, where="id >= 3000 AND share < 50")
    exact = index.search(queries, 10, exact=True, where="id >= 3000 AND share < 50")
    for far in (0, 2):
        mine = pa.compute.equal(found["query"], far)
        assert found.filter(mine)["id"].equals(exact.filter(pa.compute.equal(exact["query"], far))["id"])
    assert found["query"].to_pylist() == exact["query"].to_pylist()


def test_refused_conditions(index: VectorIndex) -> None:
    for condition in ("nothing = 1", "share <", "1; SELECT 2", "name > (SELECT", "sum(share) > 1"):
        with pytest.raises(PredicateError):
            index.search(np.zeros(D), 3, where=condition)


def test_a_connection_of_the_user(index: VectorIndex, vectors: NDArray[np.float32]) -> None:
    with duckdb.connect() as con:
        con.execute("CREATE TABLE chosen AS SELECT 3 AS share")
        found = index.search(vectors[0], 5, where="share IN (SELECT share FROM chosen)", connection=con)
    assert set(found["share"].to_pylist()) == {3}
    assert len(found) == 5


def test_predicates(index: VectorIndex, vectors: NDArray[np.float32]) -> None:
    query = vectors[1]
    within = index.distance(vectors[2]) < 5
    found = index.search(query, 20, where=within)
    ids = np.flatnonzero(np.linalg.norm(vectors.astype(np.float64) - vectors[2], axis=1) < 5)
    near, _ = nearest("l2", query, vectors[ids], 20)
    assert found["id"].to_pylist() == ids[near].tolist()
    assert skipml.SKIP in index.prune(within).decisions


def test_a_bitmap_of_the_neighbour_list_is_caught(
    index: VectorIndex, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = conditions.mask_of
    monkeypatch.setattr(conditions, "mask_of", lambda s, p: np.roll(right(s, p), 5))
    with pytest.raises(AssertionError):
        test_exact_is_brute_force(index, vectors, "share < 50", 10)


def test_a_search_that_stops_early_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipml.ann.search._Search._wanted", lambda self, active: self.read[active])
    with pytest.raises(AssertionError):
        test_any_number_of_lists_gives_k_rows_that_pass(tmp_path, monkeypatch, "l2", {"n_lists": 30}, False)
