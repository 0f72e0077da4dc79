"""What a search gives: the rows that were found as a table, and what was read for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann.postings import ROW_ID
from skipml.ann.search import Found, Snapshot

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


def result_table(snapshot: Snapshot, found: Found, names: Sequence[str], stats: SearchStats) -> pa.Table:
    """`query`, `rank` from 1, `row_id`, the named columns and `distance`, with the stats as metadata."""
    rank = np.arange(1, len(found.query) + 1) - np.searchsorted(found.query, found.query)
    arrays = [
        *(pa.array(values) for values in (found.query, rank, found.row_id)),
        *rows_of(snapshot, found.position, names),
        pa.array(found.distance),
    ]
    metadata = {STATS_KEY: json.dumps(stats.to_dict())}
    return pa.Table.from_arrays(arrays, names=["query", "rank", ROW_ID, *names, "distance"], metadata=metadata)


def rows_of(snapshot: Snapshot, positions: Indices, names: Sequence[str]) -> list[pa.Array]:
    """Columns of the rows at positions [n]."""
    schema = snapshot.manifest.schema
    parts = snapshot.by_segment(positions)
    if len(parts) == 1:
        reader, mine, _ = parts[0]
        return reader.arrays(mine, names, schema)
    back = np.argsort(np.concatenate([places for _, _, places in parts])) if parts else np.empty(0, np.int64)
    columns = []
    for i, name in enumerate(names):
        chunks = [reader.arrays(mine, names, schema)[i] for reader, mine, _ in parts]
        columns.append(pa.chunked_array(chunks, schema.field(name).type).take(pa.array(back)).combine_chunks())
    return columns
