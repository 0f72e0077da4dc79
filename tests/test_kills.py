"""The kill benchmark sees what it looks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.progress import Progress

import skipml
from benchmarks.kills.__main__ import run
from benchmarks.kills.checks import check
from benchmarks.kills.lake import COLUMNS, ROW_GROUP_ROWS, Lake
from skipml.metadata.format import encode
from skipml.metadata.loading import load
from skipml.metadata.storage import sidecar_path
from skipml.metadata.tie import tie


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def lose_a_row(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path, row_group_size=ROW_GROUP_ROWS)


def change_a_number(path: Path) -> None:
    table = pq.read_table(path)
    column = pa.array([None, *table["c"].to_pylist()[1:]])
    pq.write_table(table.set_column(3, "c", column), path, row_group_size=ROW_GROUP_ROWS)


def damage_the_sidecar(path: Path) -> None:
    cut_off(Path(sidecar_path(path)))


def lie_in_the_sidecar(path: Path) -> None:
    metadata = load(path).metadata
    assert metadata is not None
    for column in metadata.columns:
        column.lower.flags.writeable = column.upper.flags.writeable = True
        column.upper[:] = column.lower
        column.null_count.flags.writeable = column.nan_count.flags.writeable = True
        column.null_count[:] = column.nan_count[:] = 0
    Path(sidecar_path(path)).write_bytes(encode(metadata, tie(path)))


def leave_a_file(path: Path) -> None:
    path.with_name("half").touch()


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (cut_off, "0.parquet: "),
        (lose_a_row, "not those that were written"),
        (change_a_number, "not those that were written"),
        (damage_the_sidecar, "0.parquet.skipml: "),
        (lie_in_the_sidecar, "is SKIP, and"),
        (leave_a_file, "nobody asked"),
    ],
)
def test_harm_is_found(tmp_path: Path, harm: Callable[[Path], None], problem: str) -> None:
    lake = Lake(tmp_path / "lake")
    expected = lake.write()
    skipml.enrich(lake.files, COLUMNS, pairs=[])
    assert check(lake, expected).problems == []
    harm(lake.files[0])
    assert any(problem in found for found in check(lake, expected).problems)


def test_killed_writers_do_no_harm(tmp_path: Path) -> None:
    with Progress(disable=True) as progress:
        figures = run(Lake(tmp_path / "lake"), 2, 0, progress)
    assert figures["problems"] == []
    assert sum(figures["during"].values()) == 2
    assert figures["leftovers_after_clean_run"] == 0
