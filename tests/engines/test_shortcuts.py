"""Rows that are read without scoring: which queries ask the model of none, which of some, and what reports say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.engines import routes, scorers, shortcuts
from tests.engines.conftest import Lake, rows, write
from tests.oracle import ask, identity, linear, model, rows_of, standing_clock

Counter = list[int]


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_LEAST_GAIN", 0.0)
    monkeypatch.setattr(shortcuts, "_AT_LEAST", 0.0)
    monkeypatch.setattr(shortcuts, "_WORTH_KEEP", 0.0)


@pytest.fixture
def scored() -> Counter:
    """How many rows were scored, in its only item."""
    return [0]


@pytest.fixture
def counting(scored: Counter, monkeypatch: pytest.MonkeyPatch) -> Iterator[skipml.Connection]:
    """A connection on which Python scores, and counts."""

    def forward(_: scorers.Scorer, chosen: skipml.Model) -> Any:
        def counted(columns: Any) -> Any:
            scored[0] += len(columns[0])
            return chosen.function.forward_columns(columns)

        return counted

    monkeypatch.setattr(scorers.Scorer, "_forward", forward)
    monkeypatch.setattr(scorers, "measured_seconds_per_row", lambda function, estimate, private: estimate)
    with standing_clock(), skipml.connect(config={"threads": 1, "allow_unsigned_extensions": "false"}) as con:
        con.register_model("minus", model(linear([[1, -1]], [0])))
        con.register_model("same", model(identity()))
        con.execute("CREATE TABLE small AS SELECT i AS id FROM range(0, 400, 3) t(i)")
        yield con


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM {one} WHERE same(a) > 199.5",
        "SELECT count(*) FROM {one} WHERE same(a) > -1",
        "SELECT id FROM {one} WHERE same(a) > 199.5 LIMIT 3",
        "SELECT EXISTS (FROM {one} WHERE same(a) > 199.5)",
        "SELECT sum(id) FROM {many} WHERE same(a) > 199.5 AND same(a) < 1149.5",
        "SELECT * FROM {hive} WHERE same(a) > 199.5 AND id % 2 = 0",
        "SELECT id, filename, file_row_number FROM {one} WHERE same(a) > 199.5",
        "SELECT x.id FROM {one} x JOIN {one} y ON x.id = y.id WHERE same(x.a) > 199.5 AND same(y.a) < 299.5",
        "SELECT s.id FROM small s WHERE EXISTS (FROM {one} t WHERE t.id = s.id AND same(t.a) > 199.5)",
        "SELECT id FROM {union} WHERE same(id) > 199.5",
    ],
)
def test_nothing_is_scored_where_all_is_kept_or_skipped(
    counting: skipml.Connection, scored: Counter, lake: Lake, query: str
) -> None:
    found = rows_of(counting, lake.sql(query))
    assert scored == [0]
    counting.skipping = False
    assert sorted(map(repr, found)) == sorted(map(repr, rows_of(counting, lake.sql(query))))
    assert scored[0] > 0


@pytest.mark.parametrize("parameters", [[230.5], [231.0], [float(np.nextafter(np.float32(231), np.float32(0)))]])
def test_only_what_is_undecided_is_scored(
    counting: skipml.Connection, scored: Counter, lake: Lake, parameters: list[float]
) -> None:
    found = rows_of(counting, lake.sql("SELECT id FROM {one} WHERE same(a) >= ?"), parameters)
    assert [row[0] for row in found] == list(range(231, 400))
    assert scored == [50]
    assert counting.last_report is not None
    assert counting.last_report.counters["rows_unscored"] == 150
    assert "150 rows are read without scoring" in str(counting.last_report)
    assert counting.last_report.to_dict()["scans"][0]["rows_unscored"] == 150


@pytest.mark.parametrize("block_rows", [5, 10, 25])
def test_of_finer_blocks_only_undecided_ones_are_scored(
    counting: skipml.Connection, scored: Counter, tmp_path: Path, block_rows: int
) -> None:
    paths = [write(tmp_path / f"{i}.parquet", rows(400 * i), group=100) for i in range(2)]
    skipml.enrich(paths, ["a", "b"], block_rows=block_rows)
    found = rows_of(counting, f"SELECT id FROM '{tmp_path}/*.parquet' WHERE same(a) >= 532 AND id % 2 = 0")
    assert [row[0] for row in found] == list(range(532, 800, 2))
    assert scored[0] <= block_rows


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM {one} WHERE same(a) >= 200 OR id % 7 = 0",
        "SELECT id, same(a) >= 200 FROM {one}",
        "SELECT id FROM {one} WHERE (same(a) >= 200) IS NOT FALSE",
        "SELECT max(a) FROM {one} GROUP BY b HAVING same(max(a)) > 200",
        "SELECT s.id, t.id FROM small s LEFT JOIN {one} t ON s.id = t.id AND same(t.a) >= 200",
        "SELECT id FROM {one} WHERE same(n) > -1",
    ],
)
def test_other_places_of_a_condition_are_left_alone(con: skipml.Connection, lake: Lake, query: str) -> None:
    answers = ask(con, lake.sql(query))
    assert answers.skipping == answers.plain
    assert answers.report is None or answers.report.counters.get("rows_unscored", 0) == 0


def test_what_would_not_pay_is_left_alone(con: skipml.Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_LEAST_GAIN", 1.0)
    answers = ask(con, lake.sql("SELECT count(*) FROM {one} WHERE same(a) > -1"))
    assert answers.skipping == answers.plain
    assert answers.report is not None
    assert answers.report.scans[0].counts["keep"] == 8
    assert answers.report.counters["rows_unscored"] == 0


@pytest.mark.parametrize(("condition", "unscored"), [("same(a) > 230.5", 150), ("same(a) BETWEEN 280.5 AND 375.5", 0)])
def test_scores_that_a_case_would_ask_for_twice_are_counted(
    con: skipml.Connection, lake: Lake, condition: str, unscored: int
) -> None:
    answers = ask(con, lake.sql(f"SELECT id FROM {{one}} WHERE {condition}"))
    assert answers.skipping == answers.plain
    assert answers.report is not None
    assert answers.report.counters["rows_unscored"] == unscored


def test_rows_come_in_the_order_of_the_files(con: skipml.Connection, lake: Lake) -> None:
    found = rows_of(con, lake.sql("SELECT id FROM {list} WHERE same(a) > 230.5 LIMIT 700"))
    assert [row[0] for row in found] == [*range(800, 1200), *range(231, 400)]


def test_a_file_that_comes_later_is_not_taken_for_kept(
    con: skipml.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "1.parquet", rows(400))
    real = routes.choose

    def choose(*given: Any) -> Any:
        write(tmp_path / "0.parquet", rows())
        return real(*given)

    monkeypatch.setattr(routes, "choose", choose)
    found = rows_of(con, f"SELECT min(id), count(*) FROM '{tmp_path}/*.parquet' WHERE same(a) >= 300")
    assert found == [(400, 400)]


def test_a_file_that_changes_after_it_was_kept_fails_the_query(
    con: skipml.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    write(path, rows(400))
    real = routes.choose

    def choose(*given: Any) -> Any:
        write(path, rows())
        return real(*given)

    monkeypatch.setattr(routes, "choose", choose)
    with pytest.raises(skipml.FileChangedError, match=r"x\.parquet"):
        rows_of(con, f"SELECT count(*) FROM '{path}' WHERE same(a) >= 300")


def test_nan_and_null_are_not_kept(con: skipml.Connection, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    a = pa.array([5.0] * 10 + [5.0, None] * 5 + [5.0, float("nan")] * 5)
    pq.write_table(pa.table({"a": a}), path, row_group_size=10)
    skipml.enrich(path, ["a"])
    for condition, n in (("> 4", 25), ("< 6", 20), ("BETWEEN 4 AND 6", 20), ("<> 7", 25)):
        answers = ask(con, f"SELECT count(*) FROM '{path}' WHERE same(a) {condition}")
        assert answers.skipping == answers.plain == [f"({n},)"]
