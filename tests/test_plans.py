"""Plans of files whose scores are known: what they say, scan and refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.budget import Budget
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP
from skipml.errors import FileChangedError, FooterError, SchemaError
from skipml.footers import read_footers
from skipml.lake.listing import PrunedFiles
from skipml.lake.snapshot import Snapshot
from skipml.parquet.reading import Ahead
from skipml.plans import common_schema, own_names
from tests.oracle import identity, model

_THOROUGH = Budget.unlimited(boxes_per_block=16, prove_keep=True)
SCORE = model(identity("float64"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Row groups with a from 0 to 1, from 1 to 3 and from 3 to 4."""
    path = tmp_path / "x.parquet"
    table = pa.table({"id": range(12), "A": [0.0, 0.5, 0.7, 1.0, 1.0, 1.5, 2.5, 3.0, 3.0, 3.5, 3.6, 4.0]})
    with pq.ParquetWriter(path, table.schema, store_decimal_as_integer=False) as writer:
        for start in (0, 4, 8):
            writer.write_table(table.slice(start, 4))
    skipml.enrich(path, ["A"])  # there are no NaN
    return path


def test_a_plan_says_what_it_decides_and_scans_what_is_left(path: Path) -> None:
    plan = skipml.plan(path, SCORE > 2, budget=_THOROUGH)
    assert plan.decisions.tolist() == [SKIP, EVALUATE, KEEP]
    assert plan.summary == "Row groups: 3, skipped 1, kept 1, evaluated 1"
    assert plan.table["decision"].to_pylist() == ["SKIP", "EVALUATE", "KEEP"]
    assert plan.table["first_row"].to_pylist() == [0, 4, 8]
    assert plan.table["n_rows"].to_pylist() == [4, 4, 4]
    assert plan.table["row_group"].to_pylist() == [0, 1, 2]
    assert plan.scan(columns=["id"]).read_all()["id"].to_pylist() == [6, 7, 8, 9, 10, 11]
    assert plan.scan().schema.names == ["id", "A"]
    everything = skipml.plan(path, SCORE > -1, budget=_THOROUGH)
    assert everything.decisions.tolist() == [KEEP] * 3
    assert everything.scan().read_all().num_rows == 12
    nothing = skipml.plan(path, SCORE > 9, budget=_THOROUGH)
    assert nothing.scan().read_all().num_rows == 0


def test_files_that_are_left_out_as_a_whole_count(path: Path) -> None:
    plan = replace(skipml.plan(path, SCORE > 2, budget=_THOROUGH), pruned=PrunedFiles(("y.parquet", "z.parquet"), 9, 5))
    assert plan.summary == ("Files: 3, skipped 2 as a whole; Row groups: 8, skipped 6, kept 1, evaluated 1")


def test_a_file_of_which_nothing_is_left_is_not_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = path.with_name("y.parquet")
    pq.write_table(pa.table({"id": [99], "A": [1.0]}), other)
    skipml.enrich(other, ["A"])
    plan = skipml.plan([other, path], SCORE > 2, budget=_THOROUGH)
    opened, open_file = [], Ahead.open

    def noted(ahead: Ahead, file: str) -> pq.ParquetFile:
        opened.append(file)
        return open_file(ahead, file)

    monkeypatch.setattr(Ahead, "open", noted)
    assert plan.scan(["id"]).read_all()["id"].to_pylist() == [6, 7, 8, 9, 10, 11]
    assert opened == [str(path)]


def test_a_file_that_changes_is_noticed_before_and_after_its_rows(path: Path) -> None:
    plan = skipml.plan(path, SCORE > 2, budget=_THOROUGH)
    table = pq.read_table(path)
    reader = plan.scan()
    reader.read_next_batch()
    pq.write_table(table.slice(0, 9), path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    with pytest.raises(FileChangedError):
        reader.read_all()
    with pytest.raises(FileChangedError):
        plan.scan().read_all()


def test_what_cannot_be_scanned_is_refused(path: Path, tmp_path: Path) -> None:
    plan = skipml.plan(path, SCORE > 2)
    with pytest.raises(SchemaError, match="at least one"):
        plan.scan(columns=[])
    with pytest.raises(SchemaError, match="no column 'b'"):
        plan.scan(columns=["b"])
    other = tmp_path / "y.parquet"
    pq.write_table(pa.table({"id": ["text"], "A": [1.0]}), other)
    both = read_footers([str(path), str(other)], ["A"])
    with pytest.raises(SchemaError, match="one schema"):
        common_schema(both, None)
    assert common_schema(both, ["A"]).names == ["A"]
    pq.write_table(pa.table({"id": [1]}), other)
    with pytest.raises(SchemaError, match="one schema"):
        common_schema(read_footers([str(path), str(other)], ["A"]), None)
    other.write_bytes(b"no Parquet")
    with pytest.raises(FooterError, match="repair"):
        skipml.plan([path, other], SCORE > 2).scan()


def test_names_are_found_as_the_file_spells_them(tmp_path: Path) -> None:
    path = tmp_path / "names.parquet"
    pq.write_table(pa.table({"Amount": [1.0], "b": [1.0], "B": [2.0]}), path)
    with pq.ParquetFile(path) as file:
        assert own_names(file, ["amount", "b", "B", "none"]) == ["Amount", "b", "B", "none"]


def test_blocks_of_two_files_and_rows_between(tmp_path: Path) -> None:
    """Finer blocks than row groups, so that a row group is partly kept, partly scored and partly left out."""
    paths = [tmp_path / f"{i}.parquet" for i in range(2)]
    a = np.array([0.0, 0.0, 1.0, 3.0, 4.0, 4.0, 9.0, 8.0])
    for i, path in enumerate(paths):
        pq.write_table(pa.table({"id": np.arange(8) + 8 * i, "a": a - i}), path, row_group_size=6)
    skipml.enrich(list(map(str, paths)), ["a"], block_rows=2)
    plan = skipml.plan(paths, SCORE > 2.5, budget=_THOROUGH)
    assert plan.decisions.tolist() == [SKIP, EVALUATE, KEEP, KEEP, SKIP, SKIP, KEEP, KEEP]
    assert plan.summary == "Row groups: 4 in 8 blocks, skipped 3, kept 4, evaluated 1"
    ids = plan.scan(columns=["id"]).read_all()["id"].to_pylist()
    assert ids == [3, 4, 5, 6, 7, 12, 13, 14, 15]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 5])
def test_decisions_are_those_of_the_rows_whatever_the_batches(
    path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    """A row group of several blocks is read in batches that end within blocks."""
    monkeypatch.setattr("skipml.plans._BATCH_ROWS", batch_rows)
    whole = path.with_name("whole.parquet")
    a = [0.0, 1.0, 1.0, 3.0, 3.0, 9.0, 4.0, 4.0, 0.0, 0.0, 2.0, 3.0]
    pq.write_table(pa.table({"id": range(12), "A": a}), whole)
    skipml.enrich(whole, ["A"], block_rows=2)
    plan = skipml.plan(whole, SCORE > 2.5, budget=_THOROUGH)
    assert plan.decisions.tolist() == [SKIP, EVALUATE, KEEP, KEEP, SKIP, EVALUATE]
    assert plan.scan(columns=["id"]).read_all()["id"].to_pylist() == [3, 4, 5, 6, 7, 11]


def test_a_file_of_a_table_spells_names_its_own_way_and_its_deleted_rows_stay_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skipml.plans._BATCH_ROWS", 2)
    path = str(tmp_path / "x.parquet")
    values = [3.0, 4.0, 0.0, 5.0, 6.0, 0.0, 7.0, 8.0, 9.0]
    pq.write_table(pa.table({"ID": range(9), "A": values, "other": [""] * 9}), path, row_group_size=5)
    schema = pa.schema({"id": pa.int64(), "a": pa.float64(), "added": pa.string()})
    counts, deleted = (np.array([9]), np.array([1])), np.array([1, 3, 6, 8])
    snapshot = Snapshot("table", 1, schema, (path,), *counts, {}, deleted={path: deleted})
    plan = skipml.plan(snapshot, SCORE > 2, budget=_THOROUGH)
    assert plan.scan(["id", "a", "added"]).read_all().to_pylist() == [
        {"id": i, "a": values[i], "added": None} for i in (0, 4, 7)
    ]
    assert plan.scan(["added"]).read_all()["added"].to_pylist() == [None] * 3
