"""The benchmark of scoring, on small tables: all ways find the same scores, and the figures are what they say."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from benchmarks.scoring.__main__ import _by_turns
from benchmarks.scoring.differences import differences
from benchmarks.scoring.idle import idle
from benchmarks.scoring.systems import PYTORCH, network, queries, systems

_ROWS = """
    SELECT (hash(i) % 50)::DECIMAL(15, 2) AS l_quantity, (hash(i + 1) % 90_000)::DECIMAL(15, 2) AS l_extendedprice,
           (hash(i + 2) % 11 / 100)::DECIMAL(15, 2) AS l_discount, (hash(i + 3) % 9 / 100)::DECIMAL(15, 2) AS l_tax,
           DATE '1992-01-01' + (i % 2500)::INT AS l_shipdate FROM range(20_000) AS t(i)"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "lineitem.parquet"
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute(f"COPY ({_ROWS}) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    return path


def test_every_way_scores_all_rows_and_those_behind_a_filter(table: Path) -> None:
    contenders = systems(network((8, 8), seed=0))
    for query in queries(table):
        found = _by_turns("4-8-8-1", 1, query, contenders, 2)
        assert [len(one.seconds) for one in found] == [2, 2, 2]
        assert [one.ratio for one in found if one.system == PYTORCH] == [1.0]
        assert all(one.without > 0 for one in found)


def test_scores_are_compared_at_random_rows_and_edges() -> None:
    found = differences(network((8, 8), seed=0), 1000, seed=1)
    assert found.rows == 1000 + 14**4
    assert found.contradictions == 0
    assert 0 < found.share_of_margin <= 1


def test_a_filter_that_prunes_nothing_is_measured_with_both_scorers(table: Path) -> None:
    python, again, *native = idle(table, 1)
    assert python.scorer == again.scorer == "Python"
    assert [one.statement for one in (python, again, *native)] == ["new", "again"] * 2
    for one in (python, again, *native):
        assert one.ratio > 0
        assert one.processor > 0
        assert one.planning > one.verification > 0
        assert one.first_planning > 0
