"""Which rows of an index pass a filter: a SQL condition, which DuckDB evaluates, or a predicate, which is proved first.

Columns of fixed width are handed to DuckDB as the arrays that they are in the rows files; for others DuckDB reads the
files, whose row groups are the lists: statistics rule out lists there, and so do models where the connection has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.ann.snapshot import Snapshot
from skipml.decisions import KEEP, SKIP
from skipml.errors import PredicateError
from skipml.plans import Plan

Bools = NDArray[np.bool_]

POSITION = "__skipml_position"
_ROWS = "__skipml_rows"
_IN_PLACE = (
    pa.int32(),
    pa.int64(),
    pa.uint32(),
    pa.uint64(),
    pa.float32(),
    pa.float64(),
    pa.date32(),
    pa.timestamp("us"),
)
"""Types that DuckDB takes from Arrow as from Parquet."""
_SIGNED = (
    "system.main.list_transform(system.main.regexp_extract_all(system.main.hex({}), '..'), "
    "lambda byte: (CAST('0x' || byte AS SMALLINT) + 128) % 256 - 128)"
)
"""The numbers that the bytes of int8 vectors are: DuckDB has no other function for them. Macros of the user's may have
the short names.
"""
_READ_ROWS = 1 << 16


class Connection(Protocol):
    """DuckDB's, or skipml's with models."""

    def execute(self, query: str) -> Any:
        """Run a query."""


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of an index for one query: what stands in FROM, and the Arrow tables that it names."""

    sql: str
    tables: Mapping[str, pa.Table]


def source(snapshot: Snapshot, names: Sequence[str], *, in_place: bool = True) -> Source:
    """The rows with the columns `names`, in lower case, and POSITION; `in_place` where arrays will do."""
    table = _in_place(snapshot, names) if in_place else None
    if table is not None:
        return Source(_ROWS, {_ROWS: table})
    parts = []
    for path, start in zip(rows_files(snapshot), snapshot.starts.tolist(), strict=False):
        parts.append(f"SELECT {columns(snapshot)}, file_row_number + {start} AS {POSITION} FROM {reader(path)}")
    return Source(f"({' UNION ALL '.join(parts)})", {})


def columns(snapshot: Snapshot) -> str:
    """The user's columns as a SELECT list over a rows file; vectors as arrays."""
    manifest = snapshot.manifest
    stored = _quoted(manifest.column)
    values = _SIGNED.format(stored) if manifest.vector.is_int8 else stored
    vector = f"CAST({values} AS FLOAT[{manifest.vector.dimension}]) AS {stored}"
    names = [vector if name == manifest.column else _quoted(name) for name in manifest.schema.names]
    return ", ".join(names)


def reader(path: str) -> str:
    """DuckDB's reader of a rows file."""
    return "read_parquet('{}')".format(path.replace("'", "''"))


def rows_files(snapshot: Snapshot) -> list[str]:
    """The paths of the rows files."""
    return [reader.rows.path for reader in snapshot.readers]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _in_place(snapshot: Snapshot, names: Sequence[str]) -> pa.Table | None:
    """The columns as arrays, if all can be had that way; they are kept with the snapshot."""
    schema = snapshot.manifest.schema
    wanted = [name for name in schema.names if name.lower() in set(names)]
    kept = snapshot.arrays
    for name in wanted:
        if name in kept:
            continue
        if name == snapshot.manifest.column or schema.field(name).type not in _IN_PLACE:
            return None
        parts = []
        for one in snapshot.readers:
            extent = one.segment.columns.get(name)
            if extent is None or (extent.offsets[extent.counts > 0] < 0).any():
                return None
            pieces = [
                one.rows.data[offset : offset + count * extent.n_bytes]
                for offset, count in zip(extent.offsets.tolist(), extent.counts.tolist(), strict=True)
                if count
            ]
            parts += pieces
        data: NDArray[np.uint8] = np.concatenate([np.empty(0, np.uint8), *parts])
        kind: Any = schema.field(name).type
        kept[name] = pa.Array.from_buffers(kind, data.nbytes * 8 // kind.bit_width, [None, pa.py_buffer(data)])
    if POSITION not in kept:
        kept[POSITION] = pa.array(np.arange(snapshot.starts[-1]))
    return pa.table({name: kept[name] for name in [*wanted, POSITION]})


def named_columns(condition: str) -> list[str]:
    """The last parts of the names of columns in a condition, in lower case; raises PredicateError for what is no SQL
    condition.
    """
    with _private().cursor() as connection:
        row = connection.execute("SELECT json_serialize_sql(?)", [f"SELECT 1 WHERE ({condition}\n)"]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    if tree["error"] or len(tree["statements"]) != 1:
        raise PredicateError(f"where= is no SQL condition: {tree.get('error_message', condition)}")
    return sorted({str(name).lower() for node in _nodes(tree) for name in node.get("column_names") or []})


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item)


@cache
def _private() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def sql_mask(snapshot: Snapshot, condition: str, connection: Connection | None = None) -> Bools:
    """Whether a SQL condition is TRUE for the row at each position; raises PredicateError where DuckDB says that it
    cannot be asked.
    """
    own = connection is None
    try:
        names = named_columns(condition)
        rows = source(snapshot, names, in_place=own)
        sql = f"SELECT {POSITION} FROM {rows.sql} AS x WHERE ({condition}\n)"
        if connection is not None:
            return mask_of(snapshot, connection.execute(sql).fetchnumpy()[POSITION])
        with _private().cursor() as private:
            for name, table in rows.tables.items():
                private.register(name, table)
            return mask_of(snapshot, private.execute(sql).fetchnumpy()[POSITION])
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise PredicateError(f"where= cannot be evaluated: {error}") from error


def mask_of(snapshot: Snapshot, positions: NDArray[np.int64]) -> Bools:
    """Whether each row of the index is there and among the positions."""
    found = np.zeros(int(snapshot.starts[-1]), np.bool_)
    found[np.asarray(positions, np.int64)] = True
    found[snapshot.deleted] = False
    return found


def predicate_mask(snapshot: Snapshot, plan: Plan) -> Bools:
    """Whether the predicate of a plan over the rows files is TRUE for the row at each position; lists that are SKIP are
    not read, those that are KEEP are not evaluated.
    """
    found = np.zeros(int(snapshot.starts[-1]), np.bool_)
    footers = plan.footers
    for i, path in enumerate(footers.files):
        mine = np.flatnonzero(footers.file_index == i)
        starts = int(snapshot.starts[i]) + footers.first_row[mine]
        for block, start in zip(mine.tolist(), starts.tolist(), strict=True):
            if plan.decisions[block] == KEEP:
                found[start : start + int(footers.n_rows[block])] = True
        left = [
            (b, s) for b, s in zip(mine.tolist(), starts.tolist(), strict=True) if plan.decisions[b] not in (KEEP, SKIP)
        ]
        if not left:
            continue
        with pq.ParquetFile(path) as file:
            for batch in _batches(left, footers.n_rows):
                groups = [int(footers.row_group[block]) for block, _ in batch]
                rows = file.read_row_groups(groups, columns=list(plan.predicate.inputs), use_threads=False)
                matches, done = plan.predicate.matches(rows), 0
                for block, start in batch:
                    n = int(footers.n_rows[block])
                    found[start : start + n] = matches[done : done + n]
                    done += n
    found[snapshot.deleted] = False
    return found


def _batches(blocks: list[tuple[int, int]], n_rows: NDArray[np.int64]) -> Iterator[list[tuple[int, int]]]:
    batch: list[tuple[int, int]] = []
    size = 0
    for block, start in blocks:
        if batch and size + int(n_rows[block]) > _READ_ROWS:
            yield batch
            batch, size = [], 0
        batch.append((block, start))
        size += int(n_rows[block])
    if batch:
        yield batch
