"""What a name in a query means: files, globs, views, tables, functions, columns and outputs that look like another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import skipml
from tests.engines.conftest import rows, write
from tests.oracle import DUCKDB_2, ask, both_ways, identity, linear, model, rows_of

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def con() -> Iterator[skipml.Connection]:
    with skipml.connect(config={"threads": 1}) as connection:
        connection.register_model("same", model(identity()))
        connection.register_model("minus", model(linear([[1, -1]], [0])))
        yield connection


@pytest.fixture
def low(tmp_path: Path) -> str:
    """`a` is 0 to 399."""
    return write(tmp_path / "low.parquet", rows())


@pytest.fixture
def high(tmp_path: Path) -> str:
    """`a` is 400 to 799."""
    return write(tmp_path / "high.parquet", rows(400))


@pytest.mark.parametrize("name", ["file_row_number", "file_row_group_number", "file_index"])
@pytest.mark.parametrize("pattern", ["one.parquet", "*.parquet"])
def test_a_column_of_the_file_hides_a_virtual_column(
    con: skipml.Connection, tmp_path: Path, name: str, pattern: str
) -> None:
    for i, file in enumerate(("one", "two")):
        write(tmp_path / f"{file}.parquet", rows(400 * i).append_column(name, pa.array([7] * 400)))
    for what in ("id", "id, filename"):
        answers = ask(con, f"SELECT {what} FROM '{tmp_path}/{pattern}' WHERE same(a) > 390")
        assert len(answers.plain) > 8
        assert answers.skipping == answers.plain


@pytest.mark.parametrize("pattern", ["*.parquet", "f[1].parquet", "f[[]1].parquet", "f?1?.parquet"])
def test_a_file_whose_name_is_a_pattern(con: skipml.Connection, tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "f1.parquet", rows())
    write(tmp_path / "f[1].parquet", rows(400))
    write(tmp_path / "g*.parquet", rows(800))
    answers = ask(con, f"SELECT id FROM '{tmp_path}/{pattern}' WHERE same(a) BETWEEN 390 AND 410")
    assert answers.plain
    assert answers.skipping == answers.plain
    if pattern in ("*.parquet", "f[[]1].parquet"):
        assert answers.skipped > 6


def test_a_directory_named_like_a_file(con: skipml.Connection, tmp_path: Path) -> None:
    write(tmp_path / "d.parquet" / "x.parquet", rows())
    answers = ask(con, f"SELECT id FROM '{tmp_path}/d.parquet' WHERE same(a) > 390")
    assert answers.skipping == answers.plain


def test_a_temporary_view_hides_one_of_the_schema(con: skipml.Connection, low: str, high: str) -> None:
    con.execute(
        f"CREATE SCHEMA s; SET schema = 's'; CREATE VIEW s.v AS FROM '{low}'; CREATE TEMP VIEW v AS FROM '{high}'"
    )
    answers = ask(con, "SELECT id FROM v WHERE same(a) < 450")
    assert len(answers.plain) == 50
    assert answers.skipping == answers.plain


def test_a_view_of_another_schema_is_not_taken_for_a_variable(con: skipml.Connection, low: str, high: str) -> None:
    con.execute(f"CREATE SCHEMA s; CREATE VIEW s.frame AS FROM '{low}'")

    def run(frame: pa.Table) -> object:
        return con.execute("SELECT id FROM frame WHERE same(a) > 390").fetchall()

    answers = both_ways(con, lambda: run(rows(400)))
    assert len(answers.plain) == 400
    assert answers.skipping == answers.plain


def test_a_view_named_like_the_file(con: skipml.Connection, low: str, high: str) -> None:
    con.execute(f"""CREATE SCHEMA s; CREATE VIEW s."{low}" AS FROM '{high}'; SET search_path = 'main,s'""")
    answers = ask(con, f"SELECT id FROM '{low}' WHERE same(a) > 390")
    assert len(answers.plain) == 400
    assert answers.skipping == answers.plain


def test_a_view_whose_name_holds_a_query(con: skipml.Connection, low: str, high: str) -> None:
    name = f"as select * from '{high}' --"
    con.execute(f"""CREATE VIEW "{name}" AS SELECT * FROM '{low}'""")
    answers = ask(con, f'SELECT id FROM "{name}" WHERE same(a) > 390')
    assert len(answers.plain) == 9
    assert (answers.skipping, answers.skipped) == (answers.plain, 7)


@pytest.mark.parametrize("name", ["read_parquet", "parquet_scan"])
def test_a_macro_that_hides_the_reader(con: skipml.Connection, low: str, high: str, name: str) -> None:
    con.execute(f"CREATE MACRO {name}(file) AS TABLE SELECT 1 AS id, 500 AS a")
    answers = ask(
        con, f"SELECT id FROM '{low}' WHERE same(a) > 450 UNION ALL SELECT id FROM {name}('{low}') WHERE same(a) > 450"
    )
    assert answers.plain
    assert answers.skipping == answers.plain


def test_a_glob_gives_its_table_no_name(con: skipml.Connection, tmp_path: Path, low: str) -> None:
    con.execute("CREATE TABLE o AS SELECT 1 AS a")
    inner = f"""SELECT count(*) FROM '{tmp_path}/l*.parquet' WHERE same(a) > 390 AND "l*".a > 5"""
    answers = ask(con, f'SELECT ({inner}) FROM o AS "l*"')
    assert answers.plain == ["(0,)"]
    assert answers.skipping == answers.plain


def test_another_function_of_the_models_name_is_not_the_model(low: str) -> None:
    plain = duckdb.connect(config={"threads": 1})
    with skipml.connect(plain) as con:
        con.register_model("same", model(identity()))
        cursor = plain.cursor()
        cursor.create_function("same", lambda a: 1.0, ["INTEGER"], "FLOAT")
        answers = ask(con, f"SELECT id FROM '{low}' WHERE same(a::INTEGER) = 1")
        is_native = con.explain("").scorer.startswith("native")  # a macro of the connection comes before any function
        assert len(answers.plain) == (1 if is_native else 400)
        assert answers.skipping == answers.plain


def test_a_function_may_not_take_the_name_of_a_model(con: skipml.Connection) -> None:
    with pytest.raises(skipml.RegistrationError, match="is a model"):
        con.create_function("Same", lambda a: 1.0, ["INTEGER"], "FLOAT")
    con.create_function("one", lambda: 1.0, [], "FLOAT", side_effects=False)
    assert rows_of(con, "SELECT one()") == [(1.0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x.filename, id FROM '{low}' x NATURAL JOIN '{odd}' y WHERE same(x.a) > 390 AND same(y.c) > 390",
        "SELECT x, x.filename FROM '{low}' x WHERE same(x.a) > 390",
        "SELECT count(DISTINCT X), max(filename) FROM '{low}' x WHERE same(a) > 390",
        "SELECT *, filename FROM '{low}' WHERE same(a) > 390",
        "SELECT COLUMNS(c -> c LIKE 'f%'), filename FROM '{low}' WHERE same(a) > 390",
        "SELECT * FROM (PIVOT (SELECT id, b, filename FROM '{low}' WHERE same(a) > 390) ON filename USING sum(b))",
    ],
)
def test_virtual_columns_stay_out_of_what_names_no_columns(
    con: skipml.Connection, tmp_path: Path, low: str, sql: str
) -> None:
    odd = write(tmp_path / "odd.parquet", rows().rename_columns(["id", "c", *(f"x{i}" for i in range(6))]))
    answers = ask(con, sql.format(low=low, odd=odd))
    assert answers.plain
    assert answers.skipping == answers.plain


@pytest.mark.parametrize(
    "columns",
    [
        "(SELECT count(*) FROM '{low}' WHERE same(a) > 390)",
        "EXISTS (FROM '{low}' WHERE same(a) > 390)",
        "5 IN (SELECT a FROM '{low}' WHERE same(a) > 390) AS x, 1 + (SELECT min(a) FROM '{low}' WHERE same(a) > 390)",
        "CAST(1 AS NUMERIC), a::DECIMAL, a::DECIMAL(5, 2), a::INTEGER",
        "CAST(1 AS NUMERIC), a::DECIMAL",
        "a::DECIMAL(9), [1]::DECIMAL[]",
        "INTERVAL 1 DAY, 'a'::VARCHAR(10), '2020-01-01'::TIMESTAMP(3), list_transform([1], lambda z: z + 1)",
        "a + 1, -a, 'x', sum(a) OVER (), CASE WHEN a > 1 THEN 2 END, [a], {{'k': a}}",
    ],
)
def test_outputs_keep_their_names(con: skipml.Connection, low: str, columns: str) -> None:
    sql = f"SELECT {columns} FROM '{low}' WHERE same(a) > 390".format(low=low)
    names = []
    for con.skipping in (False, True):
        names.append([column[0] for column in con.execute(sql).description])
        assert len(rows_of(con, sql)) == 9
    assert con.last_report is not None
    if DUCKDB_2 or not ("DECIMAL" in columns or "VARCHAR" in columns):  # 1.5 forgets how some types were written
        assert con.last_report.counters["skipped"] >= 7
    assert names[1] == names[0]


def test_a_setting_that_folds_names(con: skipml.Connection, low: str) -> None:
    con.execute("SET preserve_identifier_case = false")
    names = []
    for con.skipping in (False, True):
        names.append(
            [c[0] for c in con.execute(f"""SELECT id AS "Other" FROM '{low}' WHERE same(a) > 390""").description]
        )
    assert names[1] == names[0]


@pytest.mark.skipif(DUCKDB_2, reason="DuckDB 2.0 serializes the plan by the setting")
def test_the_setting_that_divides_integers(con: skipml.Connection, low: str) -> None:
    con.execute("SET integer_division = true")
    answers = ask(con, f"SELECT id FROM '{low}' WHERE same(a / 1000) <= 0")
    assert len(answers.plain) == 400
    assert answers.skipping == answers.plain


@pytest.mark.parametrize("argument", ["-u", "u - 300", "u::TINYINT", "b - u"])
def test_arguments_that_leave_their_type(con: skipml.Connection, tmp_path: Path, argument: str) -> None:
    table = pa.table(
        {"id": np.arange(400), "u": pa.array(np.arange(400), pa.uint32()), "b": pa.array([3] * 400, pa.uint32())}
    )
    path = write(tmp_path / "u.parquet", table)
    answers = ask(con, f"SELECT id FROM '{path}' WHERE same({argument}) > 100000")
    assert answers.skipping == answers.plain


def test_a_cte_read_by_a_table_function_keeps_its_rows(con: skipml.Connection, low: str) -> None:
    answers = ask(
        con,
        f"WITH c AS (FROM '{low}') SELECT count(*) FROM range((SELECT count(*) FROM c)) "
        "UNION ALL SELECT count(*) FROM c WHERE same(a) > 390",
    )
    assert answers.plain == ["(400,)", "(9,)"]
    assert answers.skipping == answers.plain


def test_a_lateral_table_function_beside_a_join(con: skipml.Connection, low: str) -> None:
    answers = ask(
        con,
        f"SELECT f.id, r FROM '{low}' f, LATERAL range(f.id, f.id + 2) g(r) JOIN '{low}' h ON r = h.b "
        "WHERE same(f.a) < 60 AND same(h.a) < 60",
    )
    assert answers.plain
    assert answers.skipping == answers.plain
