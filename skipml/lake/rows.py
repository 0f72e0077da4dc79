"""The rows of a file of a snapshot as those of its table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.errors import SnapshotError
from skipml.lake.snapshot import Snapshot


def as_table(rows: pa.Table, columns: Sequence[str], snapshot: Snapshot, path: str) -> pa.Table:
    """Some columns of the table, by their names in its schema, out of rows of a file: one that the file lacks has the
    file's value in the catalog or is NULL, one of a narrower type is widened. Raises SnapshotError.
    """
    spelled = {name.lower(): name for name in rows.column_names}
    arrays = []
    for name in columns:
        field, own = snapshot.schema.field(name), spelled.get(name.lower())
        if own is None:
            arrays.append(_absent(rows.num_rows, field, snapshot, path))
            continue
        try:
            arrays.append(rows.column(own).cast(field.type))
        except pa.ArrowException as error:
            raise SnapshotError(f"{snapshot.name}: column {name!r} of '{path}' is no {field.type}: {error}") from error
    return pa.table(arrays, schema=pa.schema([snapshot.schema.field(name) for name in columns]))


def stored_names(own: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Which of the columns of a file are read for those of the table; one at least, for the number of rows."""
    wanted = {name.lower() for name in columns}
    return [name for name in own if name.lower() in wanted] or list(own[:1])


def is_deleted(snapshot: Snapshot, path: str, first_row: int, n_rows: int) -> NDArray[np.bool_]:
    """Which of a run of rows of a file are deleted."""
    positions = snapshot.deleted.get(path, np.zeros(0, np.int64))
    start, stop = np.searchsorted(positions, (first_row, first_row + n_rows))
    gone = np.zeros(n_rows, np.bool_)
    gone[positions[start:stop] - first_row] = True
    return gone


def _absent(n: int, field: pa.Field, snapshot: Snapshot, path: str) -> pa.Array:
    constant, file = snapshot.constants.get(field.name), snapshot.files.index(path)
    if constant is None or not constant.given[file]:
        return pa.nulls(n, field.type)
    return pa.repeat(constant.values[file], n)
