"""Delta tables as snapshots, by `deltalake`.

Statistics of the log come from JSON: times are cut to milliseconds, decimals go through doubles, nothing counts NaNs.
Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.errors import SnapshotError
from skipml.lake.snapshot import Constant, Snapshot
from skipml.lake.stated import Stated

_MILLISECOND = 1e-3
_FILE = "file://"
_UNDERSTOOD = frozenset({"deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "columnMapping"})
"""Features of readers that change nothing here, or that are looked at below."""


def snapshot(table: Any, version: int | None) -> Snapshot:
    """See `Snapshot.delta`."""
    table = _opened(table, version)
    name = f"the Delta table {table.table_uri}"
    _check_features(table, name)
    actions = pa.table(table.get_add_actions(flatten=True))
    files = [_local(uri) for uri in table.file_uris()]
    paths = _paths(actions.column("path").to_pylist(), _local(str(table.table_uri)))
    if sorted(paths) != sorted(files):
        odd = min({*paths} ^ {*files})
        raise SnapshotError(f"{name} has a path that skipml does not understand: '{odd}'")
    schema = pa.schema(table.schema().to_arrow())
    partitions = list(table.metadata().partition_columns)
    n_rows = _column(actions, "num_records", pa.int64())
    stated = {field.name: _stated(actions, field, n_rows) for field in schema if field.name not in partitions}
    values = {column: _column(actions, f"partition.{column}", schema.field(column).type) for column in partitions}
    given = np.ones(len(paths), np.bool_)
    return Snapshot(
        name=name,
        version=table.version(),
        schema=schema,
        files=tuple(paths),
        n_rows=np.maximum(np.asarray(n_rows.fill_null(1), np.int64), 1),
        n_bytes=np.asarray(actions.column("size_bytes"), np.int64),
        stated=stated,
        constants={column: Constant(array, given) for column, array in values.items()},
        deleted=_deleted(table),
    )


def _opened(table: Any, version: int | None) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        if not isinstance(table, DeltaTable):
            return DeltaTable(os.fspath(table), version=version)
        if version in (None, table.version()):
            return table
        return DeltaTable(table.table_uri, version=version)
    except (DeltaError, OSError, ValueError) as error:
        raise SnapshotError(f"the Delta table cannot be opened: {error}; check its path and version") from error


def _check_features(table: Any, name: str) -> None:
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mapping != "none":
        raise SnapshotError(f"{name} maps its columns by {mapping}, and skipml finds them by name; rewrite the table")
    unknown = sorted(set(table.protocol().reader_features or ()) - _UNDERSTOOD)
    if unknown:
        raise SnapshotError(f"{name} needs a reader that knows {', '.join(unknown)}, which skipml does not")


def _paths(stored: Sequence[str], root: str) -> list[str]:
    """The log has paths as URIs, relative to the table or absolute."""
    names = [unquote(path) for path in stored]
    return [_local(name) if "://" in name else os.path.join(root, name) for name in names]


def _local(uri: str) -> str:
    return uri.removeprefix(_FILE) if uri.startswith(_FILE) else uri


def _column(actions: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    """A column of the actions, NULL where no file has it."""
    if name not in actions.column_names:
        return pa.nulls(actions.num_rows, kind)
    return actions.column(name).combine_chunks().cast(kind)


def _stated(actions: pa.Table, field: pa.Field, n_rows: pa.Array) -> Stated:
    """Sound with a deletion vector too: limits and counts are then those of a file that has more rows."""
    if pa.types.is_nested(field.type):
        return Stated.nothing(actions.num_rows)
    minimum, maximum = (_column(actions, f"{side}.{field.name}", field.type) for side in ("min", "max"))
    nulls = _column(actions, f"null_count.{field.name}", pa.int64())
    return Stated.of(minimum, maximum, (n_rows, nulls, None), lost=_MILLISECOND)


def _deleted(table: Any) -> dict[str, NDArray[np.int64]]:
    """The rows that deletion vectors hide, by file."""
    found = {}
    for batch in table.deletion_vectors():
        rows = pa.record_batch(batch)
        for path, kept in zip(rows.column(0).to_pylist(), rows.column(1), strict=True):
            found[_local(path)] = np.flatnonzero(~np.asarray(kept.values, np.bool_))
    return found
