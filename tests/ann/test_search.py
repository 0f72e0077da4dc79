from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipml import PredicateError, SchemaError, VectorError, VectorIndex
from skipml.ann.metric import SQL_FUNCTIONS, Metric, distances
from skipml.ann.results import STATS_KEY
from skipml.ann.stopping import Progress
from tests.ann.brute import METRICS, asked, built, clustered, nearest, table_of


def share_found(found: pa.Table, exact: pa.Table, k: int) -> float:
    """How many of the rows are as near as the k-th of those that are nearest."""
    near, nearest_ = (table["distance"].to_numpy().reshape(-1, k) for table in (found, exact))
    return float((near <= nearest_[:, -1:]).mean())


SHAPES = [(2, 300), (3, 1), (5, 30), (31, 700), (32, 700), (65, 400), (384, 200)]


WIDEST = [("l2", False, 2048, 60), ("ip", True, 2048, 60)]


@pytest.mark.parametrize(
    ("metric", "int8", "dimension", "n"),
    [*WIDEST, *((metric, int8, d, n) for metric in METRICS for int8 in (False, True) for d, n in SHAPES)],
)
def test_exact_is_brute_force(tmp_path: Path, metric: Metric, int8: bool, dimension: int, n: int) -> None:
    rows = clustered(n, dimension, int8=int8)
    index = built(tmp_path / "index", rows, metric)
    queries = np.concatenate([rows[:3], clustered(3, dimension, 5)]).astype(np.float32)
    found = index.search(queries, 12, exact=True)
    for i, query in enumerate(queries):
        mine = found.filter(pa.compute.equal(found["query"], i))
        ids, far = nearest(metric, query, rows, 12)
        assert mine["row_id"].to_pylist() == ids
        np.testing.assert_array_equal(mine["distance"].to_numpy(), far)
        assert mine["rank"].to_pylist() == list(range(1, len(ids) + 1))
        assert mine["id"].to_pylist() == [7 * row for row in ids]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", [{}, {"codes": False}, {"n_lists": 1}, {"codes": True, "n_lists": 300}])
@pytest.mark.parametrize("int8", [False, True])
def test_all_lists_hold_all_neighbours(tmp_path: Path, metric: Metric, options: dict[str, int], int8: bool) -> None:
    rows = clustered(600, 40, int8=int8)
    index = built(tmp_path / "index", rows, metric, **options)
    queries = asked(20, 40, 3)
    found = index.search(queries, 5, nprobe=10**6)
    exact = index.search(queries, 5, exact=True)
    assert share_found(found, exact, 5) > (0.5 if options.get("n_lists") == 1 else 0.9)
    assert index.stats is not None
    assert index.stats.lists >= 20


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    metric=st.sampled_from(METRICS),
    dimension=st.integers(2, 70),
    n=st.integers(0, 80),
    k=st.integers(1, 100),
)
def test_small_tables(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, metric: Metric, dimension: int, n: int, k: int
) -> None:
    values = st.sampled_from([0.0, 1.0, -1.0, 0.5, 3.0, 1e-20, -1e10])
    flat = data.draw(st.lists(values, min_size=(n + 1) * dimension, max_size=(n + 1) * dimension))
    rows = np.array(flat, np.float32).reshape(n + 1, dimension)
    rows, query = rows[:-1], rows[-1]
    index = built(tmp_path_factory.mktemp("index") / "index", rows, metric)
    ids, far = nearest(metric, query, rows, k)
    exact = index.search(query, k, exact=True)
    assert exact["row_id"].to_pylist() == ids
    np.testing.assert_array_equal(exact["distance"].to_numpy(), far)
    assert len(index.search(query, k, nprobe=1)) == len(ids)


@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_those_of_duckdb(metric: Metric) -> None:
    rows, query = clustered(200, 48), clustered(1, 48, 9)
    data = table_of(rows)
    sql = f"SELECT {SQL_FUNCTIONS[metric]}(v::FLOAT[48], $1::FLOAT[48]) FROM data"
    theirs = np.array([row[0] for row in duckdb.execute(sql, [query[0].tolist()]).fetchall()])
    assert len(data) == len(theirs)
    ours = distances(metric, query, np.zeros(200, np.int64), rows)
    if metric == "cosine":
        zero = ~rows.any(axis=1)
        assert np.isnan(ours[zero]).all()
        assert (np.isnan(theirs[zero]) | (theirs[zero] == 2)).all(), "NaN in DuckDB 2.0, the largest there is in 1.5"
        ours, theirs = ours[~zero], theirs[~zero]
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_a_distance_does_not_depend_on_the_other_rows() -> None:
    rng = np.random.default_rng(0)
    for dimension in (2, 7, 33, 384):
        rows = rng.standard_normal((97, dimension)).astype(np.float32)
        queries = rng.standard_normal((3, dimension)).astype(np.float32)
        which = rng.integers(0, 3, 97)
        for metric in METRICS:
            together = distances(metric, queries, which, rows)
            alone = [
                distances(metric, queries[w][None], np.zeros(1, np.int64), rows[i : i + 1])[0]
                for i, w in enumerate(which)
            ]
            np.testing.assert_array_equal(together, alone)


class Doubling:
    """Reads on until it has seen so many lists."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen: list[Progress] = []

    def first(self, route: np.ndarray, sizes: np.ndarray, k: int) -> np.ndarray:
        return np.full(len(route), 2, np.int64)

    def more(self, progress: Progress) -> np.ndarray:
        self.seen.append(progress)
        return np.where(progress.lists < self.most, 2 * progress.lists, progress.lists)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimension", [16, 64])
def test_rounds_find_what_one_round_does(tmp_path: Path, metric: Metric, dimension: int) -> None:
    rows, queries = clustered(2000, dimension), asked(9, dimension, 4)
    index = built(tmp_path / "index", rows, metric)
    rule = Doubling(16)
    found = index.search(queries, 5, rule=rule)
    once = index.search(queries, 5, nprobe=16)
    np.testing.assert_allclose(found["distance"], once["distance"], rtol=0.05, atol=0.05)
    best = rule.seen[-1].best
    assert (np.diff(best, axis=1) >= 0).all()
    assert best.shape == (9, 5)
    # squared distances of the space, as the route has them
    placed = index.snapshot.manifest.space
    near = placed.rows(rows[found["row_id"].to_numpy()[::5]])
    expected = ((near - placed.queries(queries)) ** 2).sum(axis=1)
    np.testing.assert_allclose(best[:, 0], expected, rtol=1e-2, atol=1e-3)


def test_batches_and_threads_find_the_same(tmp_path: Path) -> None:
    rows, queries = clustered(3000, 48), clustered(150, 48, 4)
    index = built(tmp_path / "index", rows)
    ways: list[dict[str, Any]] = [{"nprobe": 4}, {"exact": True}]
    for options in ways:
        whole = index.search(queries, 3, threads=3, **options)
        single = [index.search(query, 3, **options) for query in queries]
        assert whole["row_id"].to_pylist() == [row for table in single for row in table["row_id"].to_pylist()]
        assert whole["query"].to_pylist() == np.repeat(np.arange(150), 3).tolist()


def test_cold_reads_find_the_same(tmp_path: Path) -> None:
    rows, queries = clustered(3000, 48), clustered(10, 48, 4)
    index = built(tmp_path / "index", rows)
    cold = VectorIndex.open(tmp_path / "index", cold=True)
    ways: list[dict[str, Any]] = [{"nprobe": 4}, {"exact": True}]
    for options in ways:
        assert cold.search(queries, 3, **options).equals(index.search(queries, 3, **options))


def test_columns_come_back(tmp_path: Path) -> None:
    rows = clustered(400, 32)
    names = pa.array([None if i % 5 == 0 else f"name {i}" for i in range(400)])
    numbers = pa.array([None if i % 7 == 0 else i / 3 for i in range(400)])
    nested = pa.array([{"a": i, "b": [i, i + 1]} for i in range(400)])
    table = table_of(
        rows, name=names, number=numbers, day=pa.array(np.arange(400, dtype=np.int32)).cast(pa.date32()), nested=nested
    )
    index = VectorIndex.build(table, column="v", path=tmp_path / "index")
    found = index.search(rows[:9], 4, nprobe=3)
    wanted = table.take(found["row_id"])
    for name in ("name", "number", "day", "nested"):
        assert found[name].to_pylist() == wanted[name].to_pylist()
    assert "v" not in found.column_names
    with_vectors = index.search(rows[:2], 3, nprobe=3, columns=["v", "day"])
    assert with_vectors.column_names == ["query", "rank", "row_id", "v", "day", "distance"]
    assert with_vectors["v"].combine_chunks().equals(table.take(with_vectors["row_id"])["v"].combine_chunks())


def test_stats_are_with_the_result(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(500, 40))
    found = index.search(clustered(4, 40, 1), 3, nprobe=2)
    stats = json.loads(found.schema.metadata[STATS_KEY])
    assert index.stats is not None
    assert stats == index.stats.to_dict()
    assert stats["queries"] == 4
    assert stats["bytes_read"] > 0
    assert "nprobe" not in stats
    assert index.search(clustered(1, 40, 1), 3, exact=True).num_rows == 3
    assert index.stats.guarantee.startswith("exact")


def test_wrong_questions_are_refused(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(50, 8))
    query = np.zeros(8, np.float32)
    with pytest.raises(VectorError, match="holds vectors of 8 values"):
        index.search(np.zeros(7), 3, nprobe=1)
    with pytest.raises(VectorError, match="row 0 holds nan"):
        index.search(np.full(8, np.nan), 3, nprobe=1)
    with pytest.raises(VectorError, match="numbers"):
        index.search("text", 3, nprobe=1)
    wrong: list[dict[str, Any]] = [{"k": 0}, {"nprobe": 0}, {"nprobe": 1, "exact": True}]
    for options in wrong:
        with pytest.raises(PredicateError):
            index.search(query, **options)
    with pytest.raises(SchemaError, match="no column 'x'"):
        index.search(query, nprobe=1, columns=["x"])
    assert index.search(np.empty((0, 8)), nprobe=1).num_rows == 0
    assert index.search(query, 1000, nprobe=1).num_rows == 50
