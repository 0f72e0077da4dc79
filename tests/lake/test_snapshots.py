"""Snapshots of Iceberg and Delta tables: the rows are those of the table at that version, whatever is skipped."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, FileScanTask, Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, LongType, NestedField

import skipml
from skipml.lake.stated import Stated
from skipml.parquet import footer
from tests.lake.iceberg_catalog import table as iceberg_table
from tests.lake.tables import ids, rows, score

total = score()


def passing(table: pa.Table, above: float) -> list[int]:
    """The ids that pass, by Arrow."""
    sums = pc.add(table.column("a").cast(pa.float64()), table.column("b").cast(pa.float64()))
    kept = pc.or_kleene(pc.greater(sums, above), pc.is_nan(sums))
    found: list[int] = table.filter(kept).column("id").to_pylist()
    return sorted(found)


def floats(start: float, broken: float | None = None) -> pa.Table:
    """`a` from a start on, its last value another one."""
    values: list[float | None] = [start + i for i in range(9)]
    return pa.table({"id": np.arange(10) + int(start), "a": pa.array([*values, broken], pa.float64()), "b": [0.0] * 10})


@pytest.fixture
def iceberg(tmp_path: Path) -> Table:
    made = iceberg_table(tmp_path / "iceberg", rows(0).schema)
    for i in range(4):
        made.append(rows(1000 * i))
    return made


@pytest.fixture
def delta(tmp_path: Path) -> str:
    path = str(tmp_path / "delta")
    for i in range(4):
        write_deltalake(path, rows(1000 * i), mode="append")
    return path


def test_iceberg_files_are_ruled_out_unopened(iceberg: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = footer.read_files

    def noting(files: list[str], columns: list[str]) -> object:
        opened.extend(files)
        return read(files, columns)

    monkeypatch.setattr("skipml.footers.read_files", noting)
    snapshot = skipml.Snapshot.iceberg(iceberg)
    plan = skipml.plan(snapshot, total > 2900)
    assert len(plan.pruned.files) == 3
    assert opened == list(plan.footers.files)
    assert ids(plan) == passing(iceberg.scan().to_arrow(), 2900)


@pytest.mark.parametrize("above", [-1, 1005, 2045, 9999])
def test_same_rows_as_the_table(iceberg: Table, delta: str, above: float, tmp_path: Path) -> None:
    for snapshot, table in (
        (skipml.Snapshot.iceberg(iceberg), iceberg.scan().to_arrow()),
        (skipml.Snapshot.delta(delta), DeltaTable(delta).to_pyarrow_table()),
    ):
        for cache in (None, tmp_path / "cache"):
            assert ids(skipml.plan(snapshot, total > above, cache=cache)) == passing(table, above)
            assert ids(skipml.plan(snapshot, total <= above, cache=cache)) == sorted(
                set(table.column("id").to_pylist()) - set(passing(table, above))
            )


def test_snapshot_stays_as_it_was(iceberg: Table, delta: str) -> None:
    first = iceberg.current_snapshot()
    version = DeltaTable(delta).version()
    assert first is not None
    pinned = skipml.Snapshot.iceberg(iceberg), skipml.Snapshot.delta(delta)
    iceberg.append(rows(8000))
    iceberg.delete("a < 1000")
    write_deltalake(delta, rows(8000), mode="append")
    DeltaTable(delta).delete("a < 1000")
    again = skipml.Snapshot.iceberg(iceberg, first.snapshot_id), skipml.Snapshot.delta(delta, version)
    for snapshot in (*pinned, *again):
        assert len(ids(skipml.plan(snapshot, total > -1))) == 160
    for snapshot in (skipml.Snapshot.iceberg(iceberg), skipml.Snapshot.delta(delta)):
        assert ids(skipml.plan(snapshot, total > -1))[:1] == [1000]
        assert ids(skipml.plan(snapshot, total > 5000)) == list(range(8000, 8040))
    with pytest.raises(skipml.SnapshotError):
        skipml.Snapshot.delta(delta, 99)
    with pytest.raises(skipml.SnapshotError):
        skipml.Snapshot.iceberg(iceberg, 99)


def test_nan_in_iceberg_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iceberg_table(tmp_path, floats(0).schema)
    for start, broken in ((0, 1.0), (100, float("nan")), (200, None)):
        made.append(floats(start, broken))
    plan = skipml.plan(skipml.Snapshot.iceberg(made), total > 1000)
    assert (ids(plan), plan.pruned.files) == ([109], ())  # pyiceberg counts none, others do

    def counted(file: DataFile) -> dict[int, int]:
        return {2: int(struct.unpack("<d", file.lower_bounds[2])[0] == 100), 3: 0}

    monkeypatch.setattr(DataFile, "nan_value_counts", property(counted))
    plan = skipml.plan(skipml.Snapshot.iceberg(made), total > 1000)
    assert ids(plan) == [109]
    assert len(plan.pruned.files) == 2


def test_nan_in_delta_is_not_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "delta")
    for start, broken in ((0, 1.0), (100, float("nan")), (200, None)):
        write_deltalake(path, floats(start, broken), mode="append")
    plan = skipml.plan(skipml.Snapshot.delta(path), total > 1000)
    assert ids(plan) == [109]
    assert not plan.pruned.files
    below = skipml.plan(skipml.Snapshot.delta(path), total < -5)
    assert len(below.pruned.files) == 3


def _with_deletes(
    table: Table,
    folder: Path,
    positions: dict[str, list[int]],
    content: DataFileContent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Let the plan of a table name a delete file, as other writers make them."""
    path = folder / "deletes.parquet"
    named = [(file, position) for file, mine in positions.items() for position in mine]
    pq.write_table(
        pa.table({"file_path": [file for file, _ in named], "pos": [position for _, position in named]}), path
    )
    delete = DataFile.from_args(
        content=content,
        file_path=path.as_uri(),
        file_format=FileFormat.PARQUET,
        record_count=len(named),
        file_size_in_bytes=1,
    )
    plan_files = DataScan.plan_files

    def patched(scan: DataScan) -> list[FileScanTask]:
        return [FileScanTask(task.file, {delete}) for task in plan_files(scan)]

    monkeypatch.setattr(DataScan, "plan_files", patched)


def test_positional_deletes_of_iceberg_are_applied(
    iceberg: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_start = {}
    for task in iceberg.scan().plan_files():
        start = pq.read_table(task.file.file_path.removeprefix("file://")).column("id")[0].as_py()
        by_start[start] = task.file.file_path
    _with_deletes(
        iceberg, tmp_path, {by_start[3000]: [0, 39], by_start[2000]: [5]}, DataFileContent.POSITION_DELETES, monkeypatch
    )
    snapshot = skipml.Snapshot.iceberg(iceberg)
    everything = {*range(40), *range(1000, 1040), *range(2000, 2040), *range(3000, 3040)}
    left = everything - {3000, 3039, 2005}
    assert ids(skipml.plan(snapshot, total > -1)) == sorted(left)  # files that are KEEP as a whole
    assert ids(skipml.plan(snapshot, total > 3010)) == passing(
        rows(3000).slice(1, 38), 3010
    )  # row groups that are scored
    plan = skipml.plan(snapshot, total > 2900)
    for read in (plan.to_polars, lambda: plan.candidates().to_table()):
        with pytest.raises(skipml.SnapshotError, match="deleted"):
            read()


def test_equality_deletes_are_refused(iceberg: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_deletes(iceberg, tmp_path, {"x": [1]}, DataFileContent.EQUALITY_DELETES, monkeypatch)
    with pytest.raises(skipml.SnapshotError, match="does not apply"):
        skipml.Snapshot.iceberg(iceberg)


def test_added_renamed_and_widened_columns_of_iceberg(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.int64()), ("a", pa.int32()), ("c", pa.int64())])
    made = iceberg_table(tmp_path, schema)
    made.append(pa.table({"id": [1, 2], "a": [10, 20], "c": [0, 0]}).cast(schema))
    with made.update_schema() as update:
        update.add_column("b", LongType())
        update.update_column("a", LongType())
        update.rename_column("c", "d")
    made.append(pa.table({"id": [3, 4], "a": [2**40, 5], "d": [1, 1], "b": [7, None]}, schema=made.schema().as_arrow()))
    snapshot = skipml.Snapshot.iceberg(made)
    assert ids(skipml.plan(snapshot, total > 0)) == [3]
    assert ids(skipml.plan(snapshot, ~(total > 0))) == []
    with pytest.raises(skipml.SnapshotError, match="'d' was renamed"):
        skipml.plan(snapshot, total > 0).scan(["d"])
    with pytest.raises(skipml.SnapshotError, match="no column 'a' of type int64"):
        skipml.plan(snapshot, skipml.Model(total.function, ("a", "id")) > 0).candidates(["id"])


def test_name_that_belonged_to_another_column_is_refused(tmp_path: Path) -> None:
    made = iceberg_table(tmp_path, rows(0).schema)
    made.append(rows(0))
    with made.update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("b")
    with made.update_schema() as update:
        update.add_column("b", DoubleType())
    with pytest.raises(skipml.SnapshotError, match="another column"):
        skipml.plan(skipml.Snapshot.iceberg(made), total > 0)


def test_partition_values_of_iceberg_that_files_lack(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "a", LongType()), NestedField(3, "b", LongType()))
    spec = PartitionSpec(PartitionField(3, 1000, IdentityTransform(), "b"))
    made = iceberg_table(tmp_path, schema, partition_spec=spec)
    made.append(pa.table({"id": [1, 2, 3], "a": [1, 2, 3], "b": [0, 0, 500]}))
    snapshot = skipml.Snapshot.iceberg(made)
    plan = skipml.plan(snapshot, total > 400)
    assert (ids(plan), len(plan.pruned.files)) == ([3], 1)
    for file in snapshot.files:  # as an imported file is
        pq.write_table(pq.read_table(file, partitioning=None).drop_columns(["b"]), file)
    assert ids(skipml.plan(snapshot, total > 400)) == [3]
    assert ids(skipml.plan(snapshot, total < 400)) == [1, 2]


def test_partition_columns_of_delta(tmp_path: Path) -> None:
    path = str(tmp_path / "delta")
    table = pa.table(
        {"id": range(60), "a": range(60), "b": pa.array([None, 0, 500] * 20, pa.int64()), "p q": ["x y/%"] * 60}
    )
    write_deltalake(path, table, partition_by=["b", "p q"])
    plan = skipml.plan(skipml.Snapshot.delta(path), total > 400)
    assert (ids(plan), len(plan.pruned.files)) == (list(range(2, 60, 3)), 2)
    read = plan.scan(["id", "b", "p q"]).read_all()
    assert set(read.column("b").to_pylist()) == {500}
    assert set(read.column("p q").to_pylist()) == {"x y/%"}
    with pytest.raises(skipml.SnapshotError, match="no column 'b'"):
        plan.candidates(["id"])


def test_milliseconds_of_delta_are_widened(tmp_path: Path) -> None:
    """The log cuts microseconds off, so that the largest time of a file lies above what it states."""
    path = str(tmp_path / "delta")
    times = pa.array([0, 1_999_999], pa.timestamp("us"))
    write_deltalake(path, pa.table({"id": [1, 2], "a": times, "b": [0, 0]}))
    plan = skipml.plan(skipml.Snapshot.delta(path), total > 1.9995)
    assert ids(plan) == [2]
    assert skipml.plan(skipml.Snapshot.delta(path), total > 2.5).pruned.files


def _vector(rows_deleted: list[int]) -> str:
    """A deletion vector as the log holds it: a 64-bit Roaring bitmap in Z85."""
    low = struct.pack("<IIHHI", 12346, 1, 0, len(rows_deleted) - 1, 16)
    raw = struct.pack("<IQI", 1681511377, 1, 0) + low + struct.pack(f"<{len(rows_deleted)}H", *rows_deleted)
    raw += bytes(-len(raw) % 4)
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    text = ""
    for (word,) in struct.iter_unpack(">I", raw):
        text += "".join(digits[word // 85**k % 85] for k in (4, 3, 2, 1, 0))
    return text


def test_deletion_vectors_of_delta_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "delta"
    write_deltalake(str(path), rows(0))
    (log,) = (path / "_delta_log").glob("*.json")
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    add: dict[str, Any] = next(action["add"] for action in actions if "add" in action)
    vector = {"storageType": "i", "pathOrInlineDv": _vector([0, 1, 38]), "sizeInBytes": 34 + 4, "cardinality": 3}
    features = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    removed = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}
    changed = [{"protocol": protocol}, {"remove": removed}, {"add": {**add, "deletionVector": vector}}]
    log.with_name("00000000000000000001.json").write_text("\n".join(map(json.dumps, changed)))
    snapshot = skipml.Snapshot.delta(path)
    assert ids(skipml.plan(snapshot, total > -1)) == [*range(2, 38), 39]
    assert ids(skipml.plan(snapshot, total > 36)) == [i for i in (*range(2, 38), 39) if i + i % 7 > 36]
    assert ids(skipml.plan(skipml.Snapshot.delta(path, 0), total > -1)) == list(range(40))


def test_column_mapping_of_delta_is_refused(delta: str) -> None:
    (log,) = Path(delta, "_delta_log").glob("*0.json")
    log.write_text(log.read_text().replace('"configuration":{}', '"configuration":{"delta.columnMapping.mode":"name"}'))
    with pytest.raises(skipml.SnapshotError):
        skipml.Snapshot.delta(delta)


def test_unknown_columns_are_named(iceberg: Table) -> None:
    with pytest.raises(skipml.SnapshotError, match="has no column 'x'"):
        skipml.plan(skipml.Snapshot.iceberg(iceberg), skipml.Model(total.function, ("a", "x")) > 0)


def test_what_a_catalog_states_is_doubted() -> None:
    """Limits that make no sense are not used, and counts of another size prove nothing."""
    nothing, number = pa.nulls(6, pa.float64()), pa.array([1.0, 5.0, float("nan"), None, None, -0.0])
    largest = pa.array([2.0, 4.0, 9.0, 3.0, None, 0.0])
    counts = pa.array([10, 10, 10, 10, 10, 10]), pa.array([0, 0, 0, 0, 10, None]), pa.array([0, 0, 0, 0, 0, None])
    stated = Stated.of(number, largest, counts)
    assert stated.known.tolist() == [True, False, False, False, True, True]
    assert stated.all_null.tolist() == [False, False, False, False, True, False]
    assert stated.null_count.tolist() == [0, 0, 0, 0, 10, -1]
    assert stated.may_be_nan.tolist() == [False, False, False, False, False, True]
    assert np.signbit(stated.lower[5])
    assert not Stated.of(nothing, nothing, (nothing, nothing, None)).known.any()
    assert not Stated.of(pa.array(["a"]), pa.array(["b"]), (pa.array([1]), pa.array([0]), None)).known.any()


@pytest.mark.parametrize("kind", [pa.float32(), pa.decimal128(38, 2), pa.int64(), pa.date32(), pa.timestamp("us")])
def test_limits_hold_after_a_round_trip_through_json(kind: pa.DataType, tmp_path: Path) -> None:
    """What Delta's log has of large and odd values still encloses them."""
    rng = np.random.default_rng(0)
    if pa.types.is_floating(kind):
        values = pa.array(rng.standard_normal(50).astype(np.float32) * 1e7)
    elif pa.types.is_decimal(kind):
        values = pc.cast(pa.array(rng.integers(-(2**62), 2**62, 50)).cast(pa.decimal128(20, 0)), kind)
    else:
        top = 2**31 - 2 if pa.types.is_date(kind) else 2**53
        values = pa.array(rng.integers(0, min(top, 10**4 if pa.types.is_date(kind) else 10**15), 50))
        values = values.cast(pa.int32()).cast(kind) if pa.types.is_date(kind) else values.cast(kind)
    path = str(tmp_path / "delta")
    write_deltalake(path, pa.table({"a": values}))
    stated = skipml.Snapshot.delta(path).stated["a"]
    inputs, _ = skipml.features.model_inputs(pa.table({"a": values}), ["a"])
    assert stated.lower[0] <= inputs.min() <= inputs.max() <= stated.upper[0]
    assert stated.known.all() or pa.types.is_decimal(kind)  # deltalake leaves out what no double holds
