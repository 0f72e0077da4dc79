"""What a search gives: the rows that were found as a table, and what was read for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann.found import Found
from skipml.ann.postings import ROW_ID
from skipml.ann.snapshot import Snapshot

Indices = NDArray[np.int64]

STATS_KEY = b"skipml.stats"


@dataclass(frozen=True, slots=True)
class SearchStats:
    """What a search read, summed over its queries, and on what guarantee its result rests."""

    queries: int
    lists: int
    scanned: int
    """Codes, or vectors where the index has no codes."""
    vectors: int
    """Vectors whose distance was computed."""
    bytes_read: int
    guarantee: str

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def to_json(self) -> str:
        """The same as JSON, put together here: a query takes not much longer than `json.dumps`."""
        counts = f'"lists": {self.lists}, "scanned": {self.scanned}, "vectors": {self.vectors}'
        return (
            f'{{"queries": {self.queries}, {counts}, "bytes_read": {self.bytes_read}, '
            f'"guarantee": {_text(self.guarantee)}}}'
        )


def result_table(snapshot: Snapshot, found: Found, names: Sequence[str], stats: SearchStats) -> pa.Table:
    """`query`, `rank` from 1, `row_id`, the named columns and `distance`, with the stats as metadata."""
    n, schema = len(found.query), _schema(snapshot, tuple(names))
    if stats.queries == 1:
        query, rank = _numbers(n)
    else:
        query = _int64(found.query)
        rank = _int64(np.arange(1, n + 1) - np.searchsorted(found.query, found.query))
    arrays = [
        query,
        rank,
        _int64(found.row_id),
        *rows_of(snapshot, found.position, names, found.lists),
        pa.Array.from_buffers(pa.float64(), n, [None, pa.py_buffer(np.ascontiguousarray(found.distance))]),
    ]
    return pa.Table.from_arrays(arrays, schema=schema.with_metadata({STATS_KEY: stats.to_json()}))


def _schema(snapshot: Snapshot, names: tuple[str, ...]) -> pa.Schema:
    found = snapshot.schemas.get(names)
    if found is None:
        own = [pa.field(name, pa.int64()) for name in ("query", "rank", ROW_ID)]
        columns = [snapshot.manifest.schema.field(name) for name in names]
        found = snapshot.schemas[names] = pa.schema([*own, *columns, pa.field("distance", pa.float64())])
    return found


@lru_cache(maxsize=64)
def _text(text: str) -> str:
    return json.dumps(text)


@lru_cache(maxsize=16)
def _numbers(n: int) -> tuple[pa.Array, pa.Array]:
    """The columns `query` and `rank` of one query with so many rows."""
    return pa.array(np.zeros(n, np.int64)), pa.array(np.arange(1, n + 1))


def _int64(values: Indices) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values, np.int64))])


def rows_of(
    snapshot: Snapshot, positions: Indices, names: Sequence[str], lists: Indices | None = None
) -> list[pa.Array]:
    """Columns of the rows at positions [n], whose lists [n] may be known."""
    schema = snapshot.manifest.schema
    if len(snapshot.readers) == 1:
        return snapshot.readers[0].arrays(positions, names, schema, lists)
    parts = snapshot.by_segment(positions)
    back = np.argsort(np.concatenate([places for _, _, places in parts])) if parts else np.empty(0, np.int64)
    columns = []
    for i, name in enumerate(names):
        chunks = [reader.arrays(mine, names, schema)[i] for reader, mine, _ in parts]
        columns.append(pa.chunked_array(chunks, schema.field(name).type).take(pa.array(back)).combine_chunks())
    return columns
