"""Models of a column of vectors in SQL: the same rows with skipping and without, of files and of loaded tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skipml
from skipml.network import Affine, LeakyRelu, Network

D, N, GROUP = 8, 2400, 100
RNG = np.random.default_rng(11)
ROWS = (np.repeat(RNG.normal(size=(24, D)), GROUP, axis=0) + 0.1 * RNG.normal(size=(N, D))).astype(np.float32)
KINDS = {
    "fixed": pa.list_(pa.float32(), D),
    "lists": pa.list_(pa.float32()),
    "doubles": pa.list_(pa.float64()),
}


def vectors(kind: pa.DataType) -> pa.Array:
    """The rows with some that have no vector, in three row groups, and odd ones in two others."""
    found: list[list[float | None] | None] = [list(map(float, row)) for row in ROWS]
    found[150] = None
    found[350] = [None, *map(float, ROWS[350][1:])]
    if not pa.types.is_fixed_size_list(kind):
        found[250], found[251] = [1.0], []
    for i in range(600, 700):
        found[i] = None
    found[450] = [float("nan")] * D
    found[550] = [float("inf"), *map(float, ROWS[550][1:])]
    return pa.array(found, kind)


def network(*widths: int) -> Network:
    ops: list[Affine | LeakyRelu] = []
    for a, b in pairwise(widths):
        weight, bias = RNG.normal(size=(b, a)).astype(np.float32), RNG.normal(size=b).astype(np.float32)
        ops += [Affine(weight, bias), LeakyRelu(0.0)]
    return Network(widths[0], widths[-1], np.dtype(np.float32), tuple(ops[:-1]))


def logistic() -> skipml.Model:
    target = np.arange(N) // GROUP % 12 == 3
    return skipml.Model.from_sklearn(
        make_pipeline(StandardScaler(), LogisticRegression(C=100)).fit(ROWS.astype(np.float64), target), columns=["e"]
    )


MODELS = {
    "linear": skipml.Model(network(D, 1), ("e",)),
    "layers": skipml.Model(network(D, 6, 1), ("e",)),
    "logistic": logistic(),
    "several": skipml.Model(network(D, 3), ("e",)),
}


@pytest.fixture(scope="module", params=["fixed", "doubles", "duckdb"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("vectors") / "t.parquet"
    kind = KINDS.get(request.param, KINDS["lists"])
    table = pa.table({"id": np.arange(N), "e": vectors(kind)})
    if request.param == "duckdb":
        duckdb.from_arrow(table).query("t", f"COPY (FROM t ORDER BY id) TO '{file}' (ROW_GROUP_SIZE {GROUP})")
    if not file.exists():
        pq.write_table(table, file, row_group_size=GROUP)
    if pq.read_metadata(file).num_row_groups < N // GROUP:  # DuckDB's row groups have at least 2,048 rows
        skipml.enrich(file, columns=["id", "e"], block_rows=GROUP, slices=2)
    else:
        skipml.enrich(file, columns=["e"], slices=2)
    return str(file)


@pytest.fixture
def con(path: str) -> Iterator[skipml.Connection]:
    with skipml.connect() as connection:
        for name, model in MODELS.items():
            connection.register_model(name, model)
        yield connection


def threshold(name: str, rank: int = 20) -> float:
    scores = MODELS[name].evaluate(pa.table({"e": vectors(KINDS["fixed"])}))
    return float(np.sort(scores[np.isfinite(scores).all(axis=1)][:, 0])[-rank])


def conditions(name: str, element: str) -> list[str]:
    call = f"{name}(e)" if element == "FLOAT" or name == "logistic" else f"{name}(e::FLOAT[])"
    high, low = threshold(name), threshold(name, 1800)
    if name == "several":
        return [f"{call}[1] > {high!r}", f"{call.replace('several', 'several_class')} = 2"]
    return [
        f"{call} > {high!r}",
        f"{call} <= {low!r}",
        f"NOT {call} <= {high!r}",
        f"{call} BETWEEN {high!r} AND {high + 0.01!r}",
        f"{call} IS NULL",
        f"{call} > {high!r} AND id % 2 = 0",
        f"{call} > {high!r} OR {call} < {low!r}",
        f"{name}(CAST(e AS DOUBLE[])::FLOAT[]) > {high!r}",
        f"{name}(list_transform(e, lambda v: -v)::FLOAT[]) > {high!r}",
        f"{name}(NULL) > {high!r}",
    ]


def answer(con: skipml.Connection, sql: str) -> list[tuple[object, ...]]:
    return sorted(con.execute(sql).fetchall())


@pytest.mark.parametrize("name", list(MODELS))
def test_the_rows_are_those_without_skipping(con: skipml.Connection, path: str, name: str) -> None:
    element = "DOUBLE" if pq.read_schema(path).field("e").type.value_type == pa.float64() else "FLOAT"
    con.execute(f"CREATE TABLE loaded AS FROM '{path}'")
    skipped = 0
    for condition in conditions(name, element):
        found = answer(con, f"SELECT id FROM '{path}' WHERE {condition}")
        report = con.last_report
        assert report is not None
        assert "failed" not in str(report), report
        skipped += report.counters.get("skipped", 0) if report.scans else 0
        con.skipping = False
        assert found == answer(con, f"SELECT id FROM '{path}' WHERE {condition}"), condition
        con.skipping = True
        assert found == answer(con, f"SELECT id FROM loaded WHERE {condition}"), condition
    assert skipped > 0 or pq.read_metadata(path).num_row_groups < N // GROUP


@pytest.mark.parametrize("name", ["linear", "logistic"])
def test_arrays_of_a_table_have_the_same_scores(con: skipml.Connection, path: str, name: str) -> None:
    whole = "len(e) = 8 AND list_count(e) = 8"
    con.execute(f"CREATE TABLE arrays AS SELECT id, CAST(e AS FLOAT[8]) AS e FROM '{path}' WHERE {whole}")
    condition = f"{name}(e) > {threshold(name)!r}"
    found = answer(con, f"SELECT id FROM arrays WHERE {condition}")
    assert found
    if "DOUBLE" not in str(con.execute(f"DESCRIBE FROM '{path}'").fetchall()):
        assert found == answer(con, f"SELECT id FROM '{path}' WHERE {condition}")


def test_what_has_no_vector_has_no_score(con: skipml.Connection, path: str) -> None:
    ids = answer(con, f"SELECT id FROM '{path}' WHERE logistic(e) IS NULL")
    expected = [150, 350, *range(600, 700)]
    lists = pq.read_schema(path).field("e").type
    assert ids == [(i,) for i in sorted(expected + ([] if pa.types.is_fixed_size_list(lists) else [250, 251]))]
    assert answer(con, f"SELECT id FROM '{path}' WHERE isnan(logistic(e)) AND id < 500") == [(450,)]


def test_the_library_gives_the_same_rows(path: str) -> None:
    for name in ("linear", "layers", "logistic"):
        predicate = MODELS[name] > threshold(name)
        plan = skipml.plan(path, predicate)
        assert plan.result.error == ""
        rows = pq.read_table(path)
        expected = rows.filter(pa.array(predicate.matches(rows)))["id"].to_pylist()
        assert plan.scan(["id"]).read_all()["id"].to_pylist() == expected
        assert (plan.decisions == skipml.SKIP).sum() > (0 if name == "layers" else 10)
        of_row = np.repeat(plan.decisions, plan.footers.n_rows)
        assert not set(np.flatnonzero(of_row == skipml.SKIP)) & set(expected)
        kept = skipml.plan(path, MODELS[name] > -1e6, budget=None)
        assert not (np.repeat(kept.decisions, kept.footers.n_rows)[[150, 350, 450, 600]] == skipml.KEEP).any()


def test_stored_scores_decide_exactly(path: str, tmp_path: Path) -> None:
    copy = tmp_path / "t.parquet"
    copy.write_bytes(Path(path).read_bytes())
    names = ("linear", "layers", "logistic")
    skipml.enrich(copy, columns=["e"], models=[MODELS[name] for name in names], score_bytes=8, block_rows=GROUP)
    for name in names:
        predicate = MODELS[name] > threshold(name)
        plan = skipml.plan(copy, predicate)
        passes = predicate.matches(pq.read_table(path))
        passes |= np.isin(np.arange(N), [450, 550])  # blocks with odd vectors are read
        holds = np.bitwise_or.reduceat(passes, np.cumsum(plan.footers.n_rows) - plan.footers.n_rows)
        np.testing.assert_array_equal(plan.decisions != skipml.SKIP, holds)


def test_a_model_trained_again_profits_of_the_stored_direction(tmp_path: Path) -> None:
    d = 64
    rows = RNG.normal(size=(2000, d)).astype(np.float32)
    weight = RNG.normal(size=(1, d)).astype(np.float32)
    again = (weight + 0.01 * RNG.normal(size=(1, d))).astype(np.float32)
    one, other = (
        skipml.Model(Network(d, 1, np.dtype(np.float32), (Affine(w, np.zeros(1, np.float32)),)), ("e",))
        for w in (weight, again)
    )
    table = pa.table({"e": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), d)})
    limit = float(np.sort(other.evaluate(table)[:, 0])[-2])
    shares = []
    for models in ([], [one]):
        path = tmp_path / f"{len(models)}.parquet"
        pq.write_table(table, path, row_group_size=100)
        skipml.enrich(path, columns=["e"], models=models)
        plan = skipml.plan(path, other > limit)
        shares.append(int((plan.decisions == skipml.SKIP).sum()))
        assert plan.scan().read_all().num_rows == 1
    assert shares[0] == 0
    assert shares[1] > 10


def test_a_partition_hides_the_column_of_the_file(tmp_path: Path) -> None:
    """The vectors of a file say nothing where DuckDB takes the column from elsewhere."""
    folder = tmp_path / "e=1"
    folder.mkdir()
    rows = pa.table({"id": [1, 2], "e": pa.array([[0.0] * D] * 2, pa.list_(pa.float32()))})
    pq.write_table(rows, folder / "t.parquet")
    skipml.enrich(folder / "t.parquet", columns=["e"])
    with skipml.connect() as con:
        con.register_model("m", MODELS["linear"])
        source = f"read_parquet('{folder}/*.parquet', hive_partitioning = true)"
        sql = f"SELECT id FROM {source} WHERE m([e::FLOAT, e, e, e, e, e, e, e]) > -1e9"
        assert len(con.execute(sql).fetchall()) == 2


def test_files_of_other_dimensions_and_without_the_column(tmp_path: Path) -> None:
    kind = pa.list_(pa.float32())
    pq.write_table(pa.table({"id": [1, 2], "e": pa.array([[1.0] * D, [2.0] * D], kind)}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [3, 4], "e": pa.array([[1.0] * 3, [2.0] * D], kind)}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"id": [5, 6], "e": pa.array([[9.0] * 3] * 2, kind)}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"id": [7]}), tmp_path / "d.parquet")
    pq.write_table(pa.table({"id": [8], "e": pa.array([[3.0] * D], pa.list_(pa.float64()))}), tmp_path / "f.parquet")
    for name in "abcf":
        skipml.enrich(tmp_path / f"{name}.parquet", columns=["e"])
    ones = Network(D, 1, np.dtype(np.float32), (Affine(np.ones((1, D), np.float32), np.zeros(1, np.float32)),))
    with skipml.connect() as con:
        con.register_model("m", skipml.Model(ones, ("e",)))
        source = f"read_parquet('{tmp_path}/*.parquet', union_by_name = true)"
        for limit in (-1, 7, 12, 20, 30):
            sql = f"SELECT id FROM {source} WHERE m(e::FLOAT[]) > {limit}"
            expected = [i for i, score in ((1, 8), (2, 16), (4, 16), (8, 24)) if score > limit]
            assert answer(con, sql) == [(i,) for i in expected]


def test_the_first_rows_by_stored_scores(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": np.arange(N), "e": vectors(KINDS["lists"])}), path, row_group_size=GROUP)
    skipml.enrich(path, columns=["e"], models=[MODELS["linear"]])
    with skipml.connect() as con:
        con.register_model("linear", MODELS["linear"])
        sql = f"SELECT id FROM '{path}' ORDER BY linear(e) ASC LIMIT 7"
        found = con.execute(sql).fetchall()
        con.skipping = False
        assert found == con.execute(sql).fetchall()
