from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import skipml
from skipml import PredicateError, RegistrationError, VectorIndex
from skipml.ann.metric import Metric

N, D = 2000, 34
QUERY = np.random.default_rng(4).standard_normal(D).astype(np.float32)
LITERAL = "[" + ",".join(map(repr, QUERY.tolist())) + f"]::FLOAT[{D}]"
CONDITIONS = [
    "share < 50",
    "d.share < 3 AND name <> 'n1'",
    "maybe > 10",
    "NOT (maybe > 10)",
    "maybe IS NULL",
    "maybe IN (SELECT share FROM docs WHERE id < 40)",
    "share < 0",
    "NULL",
    "name LIKE 'n%' AND share % 2 = 1",
    "array_distance(v, array_value({zeros})::FLOAT[34]) < 5",
    "[share] = [4]",
    "d IS NOT NULL AND share < 9",
]


@dataclass
class Pair:
    """A connection with an index, and a plain one with the same rows in a table."""

    con: skipml.engines.duckdb.Connection
    plain: duckdb.DuckDBPyConnection
    index: VectorIndex


def rows() -> pa.Table:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((N, D)).astype(np.float32)
    vectors[::10] = vectors[5]
    return pa.table(
        {
            "id": np.arange(N),
            "share": rng.integers(0, 100, N).astype(np.int32),
            "maybe": pa.array([None if i % 3 == 0 else i % 40 for i in range(N)], pa.int16()),
            "name": [f"n{i % 7}" for i in range(N)],
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), D),
        }
    )


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return rows()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> Path:
    path = tmp_path_factory.mktemp("nearest") / "index"
    VectorIndex.build(table, column="v", path=path).calibrate(
        np.random.default_rng(9).standard_normal((600, D)), [0.8], k=20, rule="nprobe"
    )
    return path


@pytest.fixture
def pair(folder: Path, table: pa.Table) -> Iterator[Pair]:
    con, index = skipml.connect(), VectorIndex.open(folder)
    con.register_index("docs", index)
    with duckdb.connect() as plain:
        plain.register("rows", table)
        plain.execute(f"CREATE TABLE docs AS SELECT * REPLACE (v::FLOAT[{D}] AS v) FROM rows")
        yield Pair(con, plain, index)
    con.close()


def same(pair: Pair, sql: str, *, notes: str) -> None:
    """The same distances, the same rows where they are not tied; `notes` is in the report."""
    mine, theirs = pair.con.execute(sql).fetchall(), pair.plain.execute(sql).fetchall()
    assert pair.con.last_report is not None
    assert notes in " ".join(pair.con.last_report.notes)
    assert [row[-1] for row in mine] == [row[-1] for row in theirs]
    if theirs:
        last = theirs[-1][-1]
        first = theirs[0][-1]
        inside = [sorted(row for row in found if first < row[-1] < last) for found in (mine, theirs)]
        assert inside[0] == inside[1]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_exact_equals_duckdb(pair: Pair, condition: str) -> None:
    condition = condition.replace("{zeros}", ",".join(["0"] * D))
    for limit in ("LIMIT 1 OFFSET 3", "LIMIT 400 OFFSET 5", "LIMIT 0"):
        distance = f"array_distance(v, {LITERAL})"
        sql = f"SELECT id, share, name, {distance} AS far FROM docs AS d WHERE {condition} ORDER BY {distance} {limit}"
        same(pair, sql, notes="no rows are wanted" if limit == "LIMIT 0" else "exact: every one of")


@settings(max_examples=15, deadline=None)
@given(
    column=st.sampled_from(["share", "maybe", "id"]),
    operator=st.sampled_from(["<", ">=", "=", "<>", "IS DISTINCT FROM"]),
    value=st.sampled_from(["NULL", "0", "7", "30", "99", "1500"]),
    second=st.sampled_from(["", "AND name > 'n3'", "OR maybe IS NULL", "AND NOT (maybe = 4)"]),
    k=st.integers(1, 40),
    offset=st.integers(0, 10),
)
def test_random_conditions(
    shared: Pair, column: str, operator: str, value: str, second: str, k: int, offset: int
) -> None:
    sql = (
        f"SELECT id, maybe, array_distance(v, {LITERAL}) AS far FROM docs "
        f"WHERE ({column} {operator} {value}) {second} ORDER BY far LIMIT {k} OFFSET {offset}"
    )
    same(shared, sql, notes="exact: every one of")


@pytest.fixture(scope="module")
def shared(folder: Path, table: pa.Table) -> Iterator[Pair]:
    con = skipml.connect()
    index = VectorIndex.open(folder)
    con.register_index("docs", index)
    with duckdb.connect() as plain:
        plain.register("rows", table)
        plain.execute(f"CREATE TABLE docs AS SELECT * REPLACE (v::FLOAT[{D}] AS v) FROM rows")
        yield Pair(con, plain, index)


@pytest.mark.parametrize("given_as", ["$q", "$q::FLOAT[34]", "?", "text"])
def test_vectors_as_parameters(pair: Pair, given_as: str) -> None:
    sql = "SELECT id, array_distance(v, {}) AS far FROM docs WHERE share < {} ORDER BY far LIMIT {}"
    theirs = pair.plain.execute(sql.format(LITERAL, 30, 7)).fetchall()
    named: dict[str, Any] = {"q": QUERY.tolist(), "s": 30, "k": 7}
    if given_as == "?":
        sql = "SELECT id, array_distance(v, $1) AS far FROM docs WHERE share < $2 ORDER BY far LIMIT $3"
        for value in (QUERY, QUERY.tolist(), tuple(QUERY.tolist())):
            assert pair.con.execute(sql, [value, 30, 7]).fetchall() == theirs
        return
    if given_as == "text":
        given_as, named["q"] = "$q::FLOAT[34]", str(QUERY.tolist())
    sql = sql.format(given_as, "$s", "$k")
    assert pair.con.execute(sql, named).fetchall() == theirs
    found = pair.con.sql(sql, params=named)
    assert found is not None
    assert found.fetchall() == theirs
    unnamed = f"SELECT id, array_distance(v, {given_as}) FROM docs ORDER BY array_distance(v, {given_as}) LIMIT 2"
    pair.con.execute(unnamed, {"q": QUERY.tolist()})
    assert next(column[0] for column in pair.con.description) == "id"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT id FROM docs ORDER BY array_distance(v, {q}), id LIMIT 5", "more than the distance"),
        ("SELECT id FROM docs ORDER BY array_distance(v, {q}) DESC LIMIT 5", "furthest"),
        ("SELECT id, count(*) OVER () FROM docs ORDER BY array_distance(v, {q}) LIMIT 5", "window"),
        ("SELECT id, unnest([1, 2]) FROM docs ORDER BY array_distance(v, {q}) LIMIT 5", "unnest"),
        ("SELECT id FROM docs WHERE random() < 2 ORDER BY array_distance(v, {q}) LIMIT 5", "random"),
        ("SELECT id FROM docs ORDER BY array_cosine_distance(v, {q}) LIMIT 5", "one for l2"),
        ("SELECT id FROM docs ORDER BY array_distance(v, {q}) LIMIT 1999", "quarter"),
        ("SELECT id FROM docs ORDER BY 1 - array_distance(v, {q}) LIMIT 5", ""),
        ("SELECT id FROM docs WHERE id > (SELECT avg(id) FROM docs) ORDER BY array_distance(v, {q}) LIMIT 5", "avg"),
        ("SELECT max(id) FROM docs", ""),
        ("SELECT a.id FROM docs a JOIN docs b USING (id) ORDER BY array_distance(a.v, {q}) LIMIT 5", ""),
        ("WITH docs AS (SELECT 1 AS id, {q} AS v) SELECT id FROM docs ORDER BY array_distance(v, {q}) LIMIT 5", ""),
    ],
)
def test_what_runs_as_it_is(pair: Pair, sql: str, why: str) -> None:
    pair.con.set_recall(0.8)
    sql = sql.replace("{q}", LITERAL)
    mine, theirs = pair.con.execute(sql).fetchall(), pair.plain.execute(sql).fetchall()
    assert len(mine) == len(theirs)
    if "id FROM" in sql and "random" not in sql:
        assert len(set(mine) & set(theirs)) >= len(mine) - 4  # equal rows are tied
    notes = " ".join(pair.con.explain(sql).notes)
    assert why in notes
    assert "nearest by" not in notes


def test_subqueries_and_statements(pair: Pair) -> None:
    inner = f"SELECT id, v <-> {LITERAL} AS far FROM docs d WHERE d.share < 40 ORDER BY d.v <-> {LITERAL} LIMIT 6"
    same(
        pair,
        f"SELECT x.id + 1, x.far FROM ({inner}) AS x WHERE x.far > 0 ORDER BY x.far",
        notes="6 rows nearest by <->",
    )
    same(pair, f"WITH x AS ({inner}) SELECT sum(far) FROM x", notes="6 rows nearest by <->")
    pair.con.execute(f"CREATE TABLE kept AS {inner}")
    assert pair.con.execute("SELECT count(*) FROM kept").fetchall() == [(6,)]


def test_the_table_has_each_row_once(pair: Pair) -> None:
    same(pair, "SELECT id, share, maybe, name, v FROM docs ORDER BY id", notes="")
    same(pair, "SELECT name, count(*) FROM docs GROUP BY ALL ORDER BY 1", notes="")
    assert pair.con.cursor().execute("SELECT count(*) FROM docs").fetchall() == [(N,)]


def test_with_a_recall(pair: Pair) -> None:
    pair.con.set_recall(0.8)
    for condition, n in (("TRUE", N), ("share < 50", N), ("share = 1", N), ("id < 7", 7), ("maybe > 99", 0)):
        for k in (1, 10):
            sql = f"SELECT id FROM docs WHERE {condition} ORDER BY array_distance(v, {LITERAL}) LIMIT {k}"
            found = pair.con.execute(sql).fetchall()
            assert len(found) == min(k, n)
            passing = pair.plain.execute(f"SELECT id FROM docs WHERE {condition}").fetchall()
            assert set(found) <= set(passing)
    sql = f"SELECT id FROM docs ORDER BY array_distance(v, {LITERAL}) LIMIT 10"
    assert "mean recall of at least 0.8" in " ".join(pair.con.explain(sql).notes)
    sql = f"SELECT id FROM docs ORDER BY array_distance(v, {LITERAL}) LIMIT 50"
    assert "promises no recall of 0.8 for k = 50" in " ".join(pair.con.explain(sql).notes)
    pair.con.set_recall(None)
    assert "exact" in " ".join(pair.con.explain(sql).notes)


def test_a_model_skips_lists(pair: Pair) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    model = skipml.Model.from_torch(network, columns=["share", "id"])
    pair.con.register_model("fraud", model)
    limit = pair.con.execute("SELECT quantile_cont(fraud(share, id), 0.9) FROM docs").fetchall()[0][0]
    sql = f"SELECT id FROM docs WHERE fraud(share, id) > {limit!r} ORDER BY array_distance(v, {LITERAL}) LIMIT 12"
    mine = pair.con.execute(sql).fetchall()
    assert pair.con.last_report is not None
    assert pair.con.last_report.scans
    pair.con.skipping = False
    theirs = pair.con.execute(sql).fetchall()
    assert len(mine) == len(theirs) == 12
    assert len(set(mine) & set(theirs)) >= 11
    found = pair.index.search(QUERY, 12, where=model > limit)
    assert set(found["id"].to_pylist()) <= {
        row[0] for row in pair.con.execute(f"SELECT id FROM docs WHERE fraud(share, id) > {limit!r} - 1e-5").fetchall()
    }


def test_metrics(tmp_path: Path, table: pa.Table) -> None:
    for metric, function in (
        ("cosine", "array_cosine_distance"),
        ("ip", "array_negative_inner_product"),
        ("cosine", "<=>"),
    ):
        index = VectorIndex.build(table, column="v", path=tmp_path / function.strip("<=>") / metric, metric=metric)
        call = f"v <=> {LITERAL}" if function == "<=>" else f"{function}(v, {LITERAL})"
        with skipml.connect() as con, duckdb.connect() as plain:
            con.register_index("docs", index)
            plain.register("rows", table)
            plain.execute(f"CREATE TABLE docs AS SELECT * REPLACE (v::FLOAT[{D}] AS v) FROM rows")
            sql = f"SELECT id, {call} AS far FROM docs WHERE share < 30 ORDER BY far LIMIT 9"
            same(Pair(con, plain, index), sql, notes="nearest by")


@pytest.fixture(scope="module")
def whole_numbers() -> pa.Table:
    """Vectors of int8, every value among them, zeros and equal ones too."""
    rng = np.random.default_rng(7)
    vectors = rng.integers(-128, 128, (N, D)).astype(np.int8)
    vectors[: N // 2] //= 8
    vectors[::10], vectors[1::50] = vectors[5], 0
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), D)
    return rows().set_column(4, "v", column).append_column("byte", pa.array(range(N)))


@pytest.mark.parametrize(
    ("metric", "function"),
    [("l2", "array_distance"), ("cosine", "array_cosine_distance"), ("ip", "array_negative_inner_product")],
)
def test_int8_vectors_are_floats_in_sql(tmp_path: Path, whole_numbers: pa.Table, metric: Metric, function: str) -> None:
    index = VectorIndex.build(whole_numbers.slice(0, N - 100), column="v", path=tmp_path / "index", metric=metric)
    index.append(whole_numbers.slice(N - 100))
    index.delete([3, 5, N - 7], column="id")
    with skipml.connect() as con, duckdb.connect() as plain:
        con.execute("CREATE MACRO hex(x) AS 'FF'")
        con.register_index("docs", index)
        plain.register("rows", whole_numbers)
        plain.execute(
            f"CREATE TABLE docs AS SELECT * REPLACE (v::FLOAT[{D}] AS v) FROM rows WHERE id NOT IN (3, 5, {N - 7})"
        )
        pair = Pair(con, plain, index)
        same(pair, "SELECT id, name, byte, typeof(v), v FROM docs ORDER BY id", notes="")
        whole = f"[{','.join(map(str, range(-17, 17)))}]::FLOAT[{D}]"
        for query in (LITERAL, whole):
            call = f"{function}(v, {query})"
            same(
                pair,
                f"SELECT id, v, v::DOUBLE[{D}], {call} AS far FROM docs ORDER BY {call} LIMIT 300",
                notes="exact: every",
            )
            for condition in ("share < 50", "name = 'n1'", "v[2] < -20 AND maybe > 3", f"{call} > 1 AND byte < 900"):
                found = f"SELECT id, v, {call} AS far FROM docs WHERE {condition} ORDER BY {call} LIMIT 9"
                same(pair, found, notes="exact: every")
        as_doubles = f"{function}(v::DOUBLE[{D}], {whole}::DOUBLE[{D}])"
        same(pair, f"SELECT id, {as_doubles} AS far FROM docs ORDER BY far LIMIT 50", notes="")


def test_bad_input(pair: Pair) -> None:
    with pytest.raises(PredicateError, match="recall lies between"):
        pair.con.set_recall(1.5)
    with pytest.raises(RegistrationError, match="identifier"):
        pair.con.register_index("my docs", pair.index)
    pair.con.execute("CREATE TABLE taken AS SELECT 1")
    with pytest.raises(RegistrationError, match="already"):
        pair.con.register_index("taken", pair.index)
    sql = "SELECT id FROM docs ORDER BY array_distance(v, $q) LIMIT 3"
    for vector in ([1.0, 2.0], [float("nan")] * D):
        with pytest.raises(duckdb.Error):
            pair.con.execute(sql, {"q": vector}).fetchall()


def test_a_smaller_candidate_set_is_caught(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from skipml.ann import filtered

    right = filtered.nearest_among

    def fewer(*args: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], Any]:
        query, position, work = right(*args)
        return query[1:], position[1:], work

    monkeypatch.setattr(filtered, "nearest_among", fewer)
    with pytest.raises(AssertionError):
        test_exact_equals_duckdb(pair, "share < 50")


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e-4, 1e14])
def test_vectors_of_any_length_are_as_near_as_duckdb_has_it(tmp_path: Path, scale: float) -> None:
    """Zero vectors, and lengths whose squares leave the range of float32: its versions say different things of them."""
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((400, 8)) * np.where(rng.random((400, 1)) < 0.5, scale, 1.0)).astype(np.float32)
    vectors[::7] = 0
    data = pa.table({"id": range(400), "v": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 8)})
    index = VectorIndex.build(data, column="v", path=tmp_path / "index", metric="cosine")
    with skipml.connect() as con, duckdb.connect() as plain:
        con.register_index("docs", index)
        plain.execute("CREATE TABLE docs AS SELECT id, v::FLOAT[8] AS v FROM data")
        for query in (vectors[1], vectors[2], (vectors[1] * np.float32(scale)).astype(np.float32)):
            distance = f"array_cosine_distance(v, {query.tolist()}::FLOAT[8])"
            for k in (5, 90):
                sql = f"SELECT {distance} FROM docs ORDER BY 1 LIMIT {k}"
                named = f"SELECT {distance} AS far FROM docs ORDER BY {distance} LIMIT {k}"
                assert str(con.execute(named).fetchall()) == str(plain.execute(sql).fetchall())
