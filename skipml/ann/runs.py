"""Runs: chunks of rows that know their lists, sorted by them, and the merge of runs into the files of a segment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann import clusters
from skipml.ann.codes import Codec
from skipml.ann.manifest import Segment
from skipml.ann.metric import Matrix, Singles, Space
from skipml.ann.postings import (
    CODE,
    LIST_ID,
    POSITION,
    ROW_ID,
    FileState,
    ListWriter,
    codes_schema,
    locate,
    rows_schema,
    verify,
    writing,
)
from skipml.ann.vectors import VectorType, matrix
from skipml.errors import EnrichmentError
from skipml.metadata.replacement import publish, synchronise, temporary

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

_BATCH_ROWS = 1 << 13
_MOST_ROWS = np.iinfo(np.int32).max
_BLOCK_ROWS = 512
_UNIT_SLACK = 2.0**-21
"""How far a row that is normalised in float32 may be from where it belongs."""


@dataclass(frozen=True)
class Placement:
    """Says in which lists rows are, and encodes them; the vectors are in `column`."""

    column: str
    vector: VectorType
    space: Space
    centroids: Singles
    rotation: Singles | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels without faiss's index."""
        return type(self), (self.column, self.vector, self.space, self.centroids, self.rotation)

    @cached_property
    def codec(self) -> Codec | None:
        """None where rows have no codes."""
        return None if self.rotation is None else Codec(self.centroids @ self.rotation)

    @property
    def row_bytes(self) -> int:
        """About what a row takes in the space."""
        return 4 * self.space.width + 64

    @property
    def n_lists(self) -> int:
        """How many lists there are."""
        return len(self.centroids)

    def lists(self, rows: Singles) -> tuple[Indices, Indices]:
        """The first and the second list of rows [n] in the space; the second is -1 where there is none."""
        if self.codec is None:
            return clusters.assign(rows, self.centroids, 1)[:, 0], np.full(len(rows), -1, np.int64)
        return clusters.two_lists(rows, self.centroids)

    def extents(self, vectors: Matrix, placed: Singles, lists: Indices) -> tuple[Floats, Floats]:
        """How far the furthest of some rows is from the centroid of each list [lists], rounded upward, and between
        which lengths the vectors lie [lists, 2].
        """
        radii, norms = no_extents(self.n_lists)
        slack = _UNIT_SLACK if self.space.metric == "cosine" else 0.0
        for start in range(0, len(placed), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            away = placed[part].astype(np.float64) - self.centroids[lists[part]]
            np.maximum.at(radii, lists[part], _lengths(away) * (1 + 2.0**-40) + slack)
            length = _lengths(vectors[part].astype(np.float64))
            np.minimum.at(norms[:, 0], lists[part], length)
            np.maximum.at(norms[:, 1], lists[part], length)
        return radii, norms


def no_extents(n_lists: int) -> tuple[Floats, Floats]:
    """Those of lists without rows."""
    return np.zeros(n_lists), np.tile([np.inf, 0.0], (n_lists, 1))


def joined_extents(extents: Sequence[tuple[Floats, Floats]], n_lists: int) -> tuple[Floats, Floats]:
    """Those of the rows of several together."""
    radii, norms = (list(each) for each in zip(no_extents(n_lists), *extents, strict=True))
    least, most = np.min([n[:, 0] for n in norms], axis=0), np.max([n[:, 1] for n in norms], axis=0)
    return np.max(radii, axis=0), np.stack([least, most], axis=1)


def _lengths(rows: Floats) -> Floats:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))


def write_run(path: str, chunk: pa.Table, first_row: int, placement: Placement, first_id: int = 0) -> int:
    """Write a chunk of the source, rows without a vector left out: `path.rows`, `path.second` and, when these are
    whole, `path.npz`. The first row of the source gets the number `first_id` -> rows left out.
    """
    column = chunk.column(placement.column).combine_chunks()
    whole = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    vectors, valid = matrix(whole, placement.vector.dimension, f"column '{placement.column}'", first_row)
    row_ids = first_id + first_row + np.flatnonzero(valid)
    write_rows(path, chunk.filter(pa.array(valid)), vectors, row_ids, placement, first_row + len(chunk))
    return int(len(chunk) - valid.sum())


def write_rows(  # noqa: PLR0917
    path: str, rows: pa.Table, vectors: Matrix, row_ids: Indices, placement: Placement, end: int
) -> None:
    """The same for rows that all have a vector [n, d]; `end` is the row of the source behind them."""
    column, placed = placement.column, placement.space.rows(vectors)
    first, second = placement.lists(placed)
    radii, norms = placement.extents(vectors, placed, first)
    order = np.argsort(first, kind="stable")
    schema = rows_schema(rows.schema, column, placement.vector)
    sorted_rows = rows.drop_columns(column).take(pa.array(order))
    own = {
        LIST_ID: pa.array(first[order].astype(np.int32)),
        ROW_ID: pa.array(row_ids[order]),
        column: placement.vector.to_arrow(vectors[order]),
    }
    arrays = [own[name] if name in own else sorted_rows[name] for name in schema.names]
    table = pa.Table.from_arrays(arrays, schema=schema)
    found: dict[str, Any] = {"first": np.bincount(first, minlength=placement.n_lists), "end": end}
    found |= {"radii": radii, "norms": norms}
    codec = placement.codec
    if codec is not None and placement.rotation is not None:
        rotated = placed @ placement.rotation
        table = table.append_column(CODE, _code_array(codec.encode(rotated[order], first[order])))
        has_second = np.flatnonzero(second >= 0)
        other = has_second[np.argsort(second[has_second], kind="stable")]
        copies = {
            ROW_ID: pa.array(row_ids[other]),
            CODE: _code_array(codec.encode(rotated[other], second[other])),
        }
        _write_ipc(f"{path}.second", pa.table(copies))
        found["second"] = np.bincount(second[has_second], minlength=placement.n_lists)
    _write_ipc(f"{path}.rows", table)
    with replacing(f"{path}.npz") as file:
        np.savez(file, **found)


def _code_array(codes: NDArray[np.uint8]) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(codes.shape[1]), len(codes), [None, pa.py_buffer(np.ascontiguousarray(codes))]
    )


def _write_ipc(path: str, table: pa.Table) -> None:
    with replacing(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends well: two writers of the same content do not disturb each other."""
    with temporary(os.path.dirname(path)) as (name, file):
        yield file
        synchronise(file, 0o644)
        publish(name, path)


class _Part:
    """The rows of a run by list, read where they lie."""

    def __init__(self, path: str, counts: Indices) -> None:
        self.table = pa.ipc.open_file(pa.memory_map(path)).read_all()
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def ids(self) -> tuple[int, int]:
        """The least row number and the one behind the greatest; equal where there are no rows."""
        found = self.table[ROW_ID].to_numpy()
        return (int(found.min()), int(found.max()) + 1) if len(found) else (0, 0)

    def of(self, number: int) -> pa.Table:
        """Those of a list."""
        start, end = self._starts[number : number + 2].tolist()
        return self.table.slice(start, end - start)


def merge(  # noqa: PLR0917
    runs: Sequence[str],
    folder: str,
    name: str,
    placement: Placement,
    memory: int,
    tell: Callable[[int], None],
) -> tuple[Segment, tuple[Floats, Floats]]:
    """Merge runs into `rows-NAME.parquet` and, where rows have codes, `codes-NAME.parquet` -> the segment, and the
    extents of its rows.

    A list is held in memory as a whole; EnrichmentError where it does not fit.
    """
    states = [dict(np.load(f"{run}.npz")) for run in runs]
    n_lists = placement.n_lists
    counts = sum((s["first"] for s in states), np.zeros(n_lists, np.int64))
    extents = joined_extents([(s["radii"], s["norms"]) for s in states], n_lists)
    longest = int(counts.max(initial=0)) * placement.vector.n_bytes
    if longest * 3 > memory or counts.sum() > _MOST_ROWS:
        raise EnrichmentError(
            f"a list of {counts.max():,} rows needs more than the {memory >> 20:,} MiB of memory=; raise it"
        )
    parts = [_Part(f"{run}.rows", s["first"]) for run, s in zip(runs, states, strict=True)]
    rows_path = os.path.join(folder, f"rows-{name}.parquet")
    column_names = [n for n in parts[0].table.schema.names if n != CODE]
    starts = np.cumsum(counts) - counts
    ids = [part.ids() for part in parts if len(part.table)] or [(0, 0)]
    first_id, end_id = min(low for low, _ in ids), max(high for _, high in ids)
    places_path = os.path.join(os.path.dirname(runs[0]), "places")
    places = np.memmap(places_path, np.int32, "w+", shape=(max(end_id - first_id, 1),))
    with writing(rows_path, parts[0].table.select(column_names).schema) as writer:
        for number in np.flatnonzero(counts).tolist():
            mine = pa.concat_tables([part.of(number) for part in parts])
            writer.write(mine.select(column_names))
            start = int(starts[number])
            places[mine[ROW_ID].to_numpy() - first_id] = np.arange(start, start + len(mine), dtype=np.int32)
            tell(start + len(mine))
    located = locate(rows_path, n_lists)
    verify(rows_path, located[1], [ROW_ID, placement.column])
    segment = Segment(FileState.of(rows_path), located[1], located[0])
    if placement.codec is not None:
        codes_path = os.path.join(folder, f"codes-{name}.parquet")
        seconds = [_Part(f"{run}.second", s["second"]) for run, s in zip(runs, states, strict=True)]
        with writing(codes_path, codes_schema(placement.codec.n_bytes)) as writer:
            for number in range(n_lists):
                _write_codes(writer, number, int(starts[number]), parts, seconds, places, first_id)
        _, coded = locate(codes_path, n_lists)
        verify(codes_path, coded, [POSITION, CODE])
        segment = replace(segment, codes=FileState.of(codes_path), positions=coded[POSITION], code=coded[CODE])
    return segment, extents


def _write_codes(  # noqa: PLR0917
    writer: ListWriter,
    number: int,
    start: int,
    parts: Sequence[_Part],
    seconds: Sequence[_Part],
    places: NDArray[np.int32],
    first_id: int,
) -> None:
    mine = pa.concat_tables([part.of(number).select([CODE]) for part in parts])
    copies = pa.concat_tables([part.of(number) for part in seconds])
    position = np.concatenate(
        [np.arange(start, start + len(mine), dtype=np.int32), places[copies[ROW_ID].to_numpy() - first_id]]
    )
    codes = pa.chunked_array([*mine[CODE].chunks, *copies[CODE].chunks], mine.schema.field(CODE).type)
    arrays = [pa.array(np.full(len(position), number, np.int32)), pa.array(position), codes]
    writer.write(pa.Table.from_arrays(arrays, schema=writer.schema))
