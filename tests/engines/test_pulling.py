"""Rows that are pulled and scored in large batches: when that is done, what it holds in memory, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.engines import pull_query, pulling, scored_stream
from skipml.engines.pulling import least_rows
from skipml.engines.scored_stream import Scored, ScoredStream
from tests.oracle import ask, identity, model
from tests.soundness.pulled_battery import always, connected

ROWS = 2000


@pytest.fixture
def con() -> Iterator[skipml.Connection]:
    with always(), connected(threads=2) as connection:
        yield connection


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": np.arange(ROWS), "a": np.arange(ROWS) * 1.0}), path, row_group_size=100)
    return str(path)


def test_few_rows_and_many_columns_are_left_to_the_function(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "least_rows", least_rows)
    with connected(threads=1) as con:
        con.execute(f"SELECT same(a) FROM '{table}'")
        assert con.last_report is not None
        assert con.last_report.scoring.startswith(pulling.FUNCTION)
    found = pull_query.Pull(None, {}, dict.fromkeys("abc", "BIGINT"))  # type: ignore[arg-type]
    assert 100_000 < least_rows(found) < 200_000
    found.columns |= dict.fromkeys("defg", "VARCHAR")
    assert least_rows(found) == np.inf


def test_reports_say_how_rows_are_scored_and_why(con: skipml.Connection, table: str) -> None:
    report = con.explain(f"SELECT same(a) FROM '{table}'")
    assert (report.scoring, report.to_dict()["scoring"]) == (pulling.BATCHES, pulling.BATCHES)
    assert "scoring: pulled batches" in str(report)
    report = con.explain(f"SELECT same(a) FROM '{table}' LIMIT 3")
    assert report.scoring == "Arrow function (the query may stop before the end of the table)"


@pytest.mark.parametrize("tail", ["GROUP BY id, a HAVING same(id) > 1849", "GROUP BY a, id ORDER BY same(a) DESC"])
def test_a_call_that_may_stand_where_a_column_may_not_keeps_the_function(
    con: skipml.Connection, table: str, tail: str
) -> None:
    sql = f"SELECT id, a FROM '{table}' {tail}"
    found = con.execute(sql).fetchall()
    assert con.last_report is not None
    assert con.last_report.scoring == "Arrow function (a column may not stand where the model is called)"
    if "HAVING" in tail:
        assert con.last_report.counters["skipped"] > 0
    con.skipping = False
    assert sorted(found) == sorted(con.execute(sql).fetchall())
    con.skipping = True


def test_row_groups_that_are_skipped_are_not_pulled(con: skipml.Connection, table: str) -> None:
    pulled: list[int] = []
    real = ScoredStream._with_answers

    def counted(self: ScoredStream, batch: pa.RecordBatch) -> pa.RecordBatch:
        pulled.append(batch.num_rows)
        return real(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoredStream, "_with_answers", counted)
        found = con.execute(f"SELECT id FROM '{table}' WHERE same(id) > 1849.5 AND id < 1960").fetchall()
    assert sorted(found) == [(i,) for i in range(1850, 1960)]
    assert sum(pulled) == 160
    assert max(pulled) <= scored_stream.BATCH_ROWS


def test_a_stream_can_be_read_again_and_left_before_its_end(con: skipml.Connection, table: str) -> None:
    function = con._shared.registry.functions["same"]
    schema = pa.schema([("y", pa.float32())])
    scored = Scored(con._shared.scorer.arrow_function(function), (0,))
    stream = ScoredStream(f"SELECT a FROM '{table}'", schema, (scored,), 2, con._plain.cursor)
    assert pa.table(stream).num_rows == pa.table(stream).num_rows == ROWS
    batches = stream._batches()
    assert next(batches).num_rows == scored_stream.BATCH_ROWS
    batches.close()  # type: ignore[attr-defined]


def test_relations_statements_and_parameters(con: skipml.Connection, table: str) -> None:
    relation = con.sql(f"SELECT id FROM '{table}' WHERE same(a) >= 1990")
    assert relation is not None
    assert len(relation.fetchall()) == len(relation.df()) == 10
    assert "1990" in str(relation)
    con.execute(f"CREATE TABLE kept AS SELECT id, same(a) AS y FROM '{table}'")
    assert con.execute("SELECT count(*), sum(y) FROM kept").fetchall() == [(ROWS, sum(range(ROWS)))]
    answers = ask(con, f"SELECT id FROM '{table}' WHERE same(a) BETWEEN $low AND 20 AND id > $low", {"low": 5.0})
    assert answers.skipping == answers.plain
    assert answers.report is not None
    assert answers.report.scoring == pulling.BATCHES


def test_names_of_outputs_stay(con: skipml.Connection, table: str) -> None:
    sql = f"SELECT same(a), *, same(a::DOUBLE) + 1, same(a) AS y FROM '{table}' WHERE id = 3"
    names = [[column[0] for column in con.execute(sql).description] for con.skipping in (True, False)]
    assert names[0] == names[1]


def test_an_error_while_scoring_is_that_of_the_function(
    con: skipml.Connection, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(columns: object) -> object:
        raise MemoryError("no memory to score")

    monkeypatch.setattr(type(con._shared.scorer), "_forward", lambda self, chosen: fails)
    con.register_model("broken", model(identity("float64")))
    answers = ask(con, f"SELECT broken(a) FROM '{table}'")
    skipping, plain = (found[0].split("At:")[0] for found in (answers.skipping, answers.plain))  # then a traceback
    assert skipping == plain
    assert "no memory to score" in plain


def test_a_file_that_changes_after_planning_fails_the_query(
    con: skipml.Connection, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ScoredStream._batches

    def changed(self: ScoredStream) -> Iterator[pa.RecordBatch]:
        pq.write_table(pa.table({"id": [1], "a": [7.0]}), table)
        yield from real(self)

    monkeypatch.setattr(ScoredStream, "_batches", changed)
    with pytest.raises(skipml.FileChangedError):
        con.execute(f"SELECT sum(same(a)) FROM '{table}'").fetchall()


def test_a_macro_in_place_of_a_model_is_not_taken_for_it(con: skipml.Connection, table: str) -> None:
    con._plain.execute("CREATE TEMP MACRO same(x) AS -x")  # unknown to skipml
    answers = ask(con, f"SELECT min(same(a)) FROM '{table}'")
    assert answers.skipping == answers.plain
