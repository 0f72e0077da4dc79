"""Iceberg tables as snapshots, by `pyiceberg`.

Limits are stored as single values in binary, of the type that the column had when its file was written; those of floats
leave NaN out, which is counted apart, and those of text are cut short.
Source: https://iceberg.apache.org/spec/#appendix-d-single-value-serialization
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.errors import SnapshotError
from skipml.lake.snapshot import Constant, Snapshot
from skipml.lake.stated import Stated

_FILE = "file:"


def snapshot(table: Any, snapshot_id: int | None) -> Snapshot:
    """See `Snapshot.iceberg`."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    name = f"the Iceberg table {'.'.join(table.name())}"
    current = table.current_snapshot()
    pinned = snapshot_id if snapshot_id is not None else (current.snapshot_id if current is not None else None)
    try:
        scan = table.scan(snapshot_id=snapshot_id)
        schema = scan.projection()
        tasks = [] if pinned is None else list(table.scan(snapshot_id=pinned).plan_files())
    except (ValueError, NotImplementedError) as error:
        raise SnapshotError(f"{name} cannot be read exactly: {error}") from error
    for task in tasks:
        if _tag(task.file.file_format) != "PARQUET":
            raise SnapshotError(f"{name} has a file that is no Parquet: '{task.file.file_path}'")
    files = [task.file for task in tasks]
    arrow = schema_to_pyarrow(schema, include_field_ids=False)
    ids = {field.name: field.field_id for field in schema.fields}
    return Snapshot(
        name=name,
        version=pinned if pinned is not None else -1,
        schema=arrow,
        files=tuple(_local(file.file_path) for file in files),
        n_rows=np.array([max(file.record_count, 1) for file in files], np.int64),
        n_bytes=np.array([file.file_size_in_bytes for file in files], np.int64),
        stated={field.name: _stated(files, ids[field.name], field.type) for field in arrow},
        constants=_constants(table, files, ids, arrow),
        deleted=_deleted(table, tasks, name),
        refused=_refused(table, schema),
    )


def _tag(value: Any) -> str:
    """The name of a member of an enumeration, or a text."""
    return str(getattr(value, "name", value)).upper()


def _local(uri: str) -> str:
    """A path without the scheme of local files."""
    if not uri.startswith(_FILE):
        return uri
    path = uri.removeprefix(_FILE)
    return "/" + path.lstrip("/")


def _stated(files: Sequence[Any], field: int, kind: pa.DataType) -> Stated:
    if pa.types.is_nested(kind):
        return Stated.nothing(len(files))
    lower, upper = (
        _values([(getattr(file, side) or {}).get(field) for file in files], kind)
        for side in ("lower_bounds", "upper_bounds")
    )
    # values, not rows: what is said of a column that is flat
    rows, nulls, nans = (
        pa.array([(getattr(file, counts) or {}).get(field) for file in files], pa.int64())
        for counts in ("value_counts", "null_value_counts", "nan_value_counts")
    )
    return Stated.of(lower, upper, (rows, nulls, nans))


def _values(stored: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
    """Limits as values of the column's type, NULL for what is none of it."""
    return pa.array([None if raw is None else _value(raw, kind) for raw in stored], _storage(kind)).cast(kind)


def _storage(kind: pa.DataType) -> pa.DataType:
    """What a type is made of."""
    if pa.types.is_date32(kind):
        return pa.int32()
    return pa.int64() if pa.types.is_timestamp(kind) or pa.types.is_time(kind) else kind


def _value(raw: bytes, kind: pa.DataType) -> Any:
    """One limit; a number may be narrower than the column, which was widened since. None for text and the like."""
    number = int.from_bytes(raw, "little", signed=True)
    if pa.types.is_boolean(kind):
        return raw != b"\0" if len(raw) == 1 else None
    if pa.types.is_integer(kind):
        return number if len(raw) in (4, kind.bit_width // 8) else None
    if pa.types.is_floating(kind):
        form = {4: "<f", 8: "<d"}.get(len(raw))
        return struct.unpack(form, raw)[0] if form is not None and len(raw) <= kind.bit_width // 8 else None
    if pa.types.is_decimal(kind):
        unscaled = Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-kind.scale)
        return unscaled if 0 < len(raw) <= 16 and abs(unscaled) < Decimal(10) ** (kind.precision - kind.scale) else None
    if pa.types.is_date32(kind):
        return number if len(raw) == 4 else None
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return number if len(raw) == 8 else None
    return None


def _constants(table: Any, files: Sequence[Any], ids: Mapping[str, int], schema: pa.Schema) -> dict[str, Constant]:
    """The values of columns that files are partitioned by as they are, which an imported file may lack."""
    names, specs = {field: name for name, field in ids.items()}, table.specs()
    found: dict[str, dict[int, Any]] = {}
    for i, file in enumerate(files):
        for place, field in enumerate(specs[file.spec_id].fields):
            name = names.get(field.source_id)
            if str(field.transform) == "identity" and name is not None:
                found.setdefault(name, {})[i] = file.partition[place]
    return {name: _constant(values, len(files), schema.field(name).type) for name, values in found.items()}


def _constant(values: Mapping[int, Any], n: int, kind: pa.DataType) -> Constant:
    """The values by file; dates and times are numbers in the manifests of some versions."""
    is_number = all(value is None or isinstance(value, int) for value in values.values())
    array = pa.array([values.get(i) for i in range(n)], _storage(kind) if is_number else kind).cast(kind)
    return Constant(array, np.isin(np.arange(n), list(values)))


def _refused(table: Any, schema: Any) -> dict[str, str]:
    """Columns whose name has not always been that of the same field, or that are not NULL where a file lacks them."""
    others = list(table.schemas().values())
    refused = {}
    for field in schema.fields:
        names = {old.name for other in others for old in other.fields if old.field_id == field.field_id}
        same = {old.field_id for other in others for old in other.fields if old.name.lower() == field.name.lower()}
        if names - {field.name} or same - {field.field_id}:
            refused[field.name] = "was renamed, or its name belonged to another column; rewrite the files of the table"
        elif not field.field_type.is_primitive and len(others) > 1:
            refused[field.name] = "is nested in a table whose schema has changed; leave it out"
        elif getattr(field, "initial_default", None) is not None:
            refused[field.name] = "has a default for files that lack it, which skipml does not fill in"
    return refused


def _deleted(table: Any, tasks: Sequence[Any], name: str) -> dict[str, NDArray[np.int64]]:
    """The positions that delete files name, by data file."""
    wanted = {task.file.file_path: {file.file_path: file for file in task.delete_files} for task in tasks}
    read: dict[str, Mapping[str, Any]] = {}
    found = {}
    for path, deletes in wanted.items():
        parts = []
        for location, file in deletes.items():
            if location not in read:
                read[location] = _positions(table.io, file, name)
            if path in read[location]:
                parts.append(np.asarray(read[location][path], np.int64))
        if parts:
            found[_local(path)] = np.unique(np.concatenate(parts))
    return found


def _positions(io: Any, file: Any, name: str) -> dict[str, Any]:
    """What one delete file says, by the path of the data file as the table has it."""
    kind = _tag(file.file_format)
    if _tag(file.content) != "POSITION_DELETES" or kind not in ("PARQUET", "PUFFIN"):
        raise SnapshotError(f"{name} has deletes that skipml does not apply: '{file.file_path}'; compact the table")
    with io.new_input(file.file_path).open() as stream:
        content = stream.read()
    if kind == "PUFFIN":
        from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
        from pyiceberg.table.puffin import PuffinFile

        vectors = deletion_vectors_from_puffin_file(PuffinFile(content))
        return {vector.referenced_data_file: vector.to_vector() for vector in vectors}
    rows = pq.read_table(pa.BufferReader(content), columns=["file_path", "pos"])
    paths, positions = (
        np.asarray(rows.column("file_path").to_pylist(), object),
        np.asarray(rows.column("pos"), np.int64),
    )
    return {path: positions[paths == path] for path in set(paths.tolist())}
