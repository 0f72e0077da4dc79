"""Routes: whatever makes DuckDB skip, it reads the row groups that are left and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.engines.routes import Kept
from skipml.footers import Footers, read_footers
from tests.engines.conftest import ROWS, Lake
from tests.oracle import DUCKDB_2, identity, model, rows_of, standing_clock

_CHOICES = [
    [0],
    [7],
    [3],
    [0, 7],
    [0, 1, 2],
    [5, 6, 7],
    [1, 3, 5, 7],
    [0, 2, 4, 6],
    [0, 1, 3, 4, 6],
    [],
]
_CONDITION = "row groups" if DUCKDB_2 else "rows"


@pytest.fixture(scope="module")
def con() -> Iterator[skipml.Connection]:
    with standing_clock(), skipml.connect() as connection:
        connection.register_model("same", model(identity()))
        yield connection


def _keep(monkeypatch: pytest.MonkeyPatch, chosen: Sequence[Sequence[int] | None]) -> None:
    """Let the analysis keep these row groups of each file, whatever the query asks."""

    def kept(footers: Footers, _: object) -> Kept:
        starts = [
            np.concatenate([[0], np.cumsum(footers.n_rows[footers.file_index == i])]) for i in range(len(footers.files))
        ]
        groups = tuple(None if g is None else np.array(g, np.int64) for g in chosen)
        return Kept(footers.files, footers.identities, groups, tuple(starts))

    monkeypatch.setattr(Kept, "of", kept)


def _ids(path: Path, groups: Sequence[int] | None) -> list[int]:
    with pq.ParquetFile(path) as file:
        chosen = range(file.num_row_groups) if groups is None else groups
        return [int(i) for i in file.read_row_groups(list(chosen))["id"].to_pylist()]


def _route(con: skipml.Connection) -> str:
    assert con.last_report is not None
    return con.last_report.scans[0].route


@pytest.mark.parametrize("groups", _CHOICES)
@pytest.mark.parametrize(
    ("query", "route"),
    [
        ("SELECT id FROM {one} WHERE same(a) >= 0", "virtual files"),
        ("SELECT id FROM read_parquet([{one}]) WHERE same(a) >= 0", "virtual files"),
        ("SELECT id FROM {one} WHERE same(a) >= 0 ORDER BY id LIMIT 1000", "virtual files"),
        ("SELECT id FROM read_parquet([{one}], filename = true) WHERE same(a) >= 0", _CONDITION),
    ],
)
def test_one_file_gives_the_row_groups_chosen(
    con: skipml.Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch, groups: list[int], query: str, route: str
) -> None:
    _keep(monkeypatch, [groups])
    assert sorted(row[0] for row in rows_of(con, lake.sql(query))) == _ids(lake.folder / "one.parquet", groups)
    assert _route(con) == route


@pytest.mark.parametrize("groups", _CHOICES)
def test_row_numbers_and_names_stay_real(
    con: skipml.Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch, groups: list[int]
) -> None:
    _keep(monkeypatch, [groups])
    sql = "SELECT id, file_row_number, filename FROM {one} WHERE same(a) >= 0"
    path = lake.folder / "one.parquet"
    assert sorted(rows_of(con, lake.sql(sql))) == [(i, i, str(path)) for i in _ids(path, groups)]
    assert _route(con) == _CONDITION


@pytest.mark.parametrize("first", _CHOICES)
@pytest.mark.parametrize("second", [None, [0], [1, 6], []])
def test_many_files_give_the_row_groups_chosen(
    con: skipml.Connection,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    first: list[int],
    second: list[int] | None,
) -> None:
    chosen = [first, second, [2]]
    _keep(monkeypatch, chosen)
    ids = sorted(row[0] for row in rows_of(con, lake.sql("SELECT id FROM {many} WHERE same(a) >= 0")))
    paths = [lake.folder / f"many{i}.parquet" for i in range(3)]
    assert ids == [i for path, groups in zip(paths, chosen, strict=True) for i in _ids(path, groups)]
    assert _route(con) == "virtual files"


def test_the_first_file_gives_the_schema_even_if_nothing_of_it_is_left(
    con: skipml.Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    _keep(monkeypatch, [[], [], [0]])
    con.execute(lake.sql("SELECT * FROM {many} WHERE same(a) >= 0"))
    names = [column[0] for column in con.description]
    assert len(con.fetchall()) == 50
    assert names == pq.read_schema(lake.folder / "many0.parquet").names


def test_partitions_stay_when_nothing_is_left_of_a_file(
    con: skipml.Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    _keep(monkeypatch, [[], [1], []])
    rows = rows_of(con, lake.sql("SELECT p, q, min(id), count(*) FROM {hive} WHERE same(a) >= 0 GROUP BY ALL"))
    assert rows == [(1, "x", ROWS + 50, 50)]


@pytest.mark.skipif(not DUCKDB_2, reason="DuckDB 1.5 has no route that keeps names real in many files")
@pytest.mark.parametrize("first", _CHOICES)
def test_names_and_row_numbers_stay_real_in_many_files(
    con: skipml.Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch, first: list[int]
) -> None:
    _keep(monkeypatch, [first, None, []])
    sql = "SELECT id, filename, file_row_number FROM {many} WHERE same(a) >= 0"
    paths = [lake.folder / f"many{i}.parquet" for i in range(2)]
    expected = [(i, str(paths[0]), i) for i in _ids(paths[0], first)]
    expected += [(i, str(paths[1]), i - ROWS) for i in _ids(paths[1], None)]
    assert sorted(rows_of(con, lake.sql(sql))) == expected
    assert _route(con) == _CONDITION


def test_many_gaps_are_read_too(con: skipml.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": np.arange(400), "a": np.arange(400)}), path, row_group_size=4)
    assert len(read_footers([str(path)], ["a"])) == 100
    _keep(monkeypatch, [list(range(0, 100, 2))])
    ids = sorted(row[0] for row in rows_of(con, f"SELECT id FROM '{path}' WHERE same(a) >= 0"))
    assert ids == _ids(path, range(0, 100, 2))
