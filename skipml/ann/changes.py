"""Changes of an index: files are never changed, only added, and a new manifest says which make up the index.

Appended rows become a segment of their own, with row groups for the lists that they touch. Deleted rows stay in their
files, and the manifest lists their positions. A compaction puts everything that is there into one segment again; lists
that have become too long are split before, the centroids are moved to where rows are now, and every row goes to the
lists that are the nearest then.

A writer that is stopped at any moment leaves the last version as it was; the next one removes what it left behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.ann import clusters, manifest
from skipml.ann.locking import writer_lock
from skipml.ann.manifest import Manifest
from skipml.ann.metric import Singles
from skipml.ann.postings import LIST_ID, ROW_ID
from skipml.ann.reader import SegmentReader
from skipml.ann.runs import Placement, joined_extents, merge, write_rows, write_run
from skipml.ann.source import Source
from skipml.errors import EnrichmentError, SchemaError
from skipml.identity import Path

Indices = NDArray[np.int64]

_WORK = "changing"
_LONG, _SHORT = 2.0, 1 / 8
"""Of the mean: a list that is longer is split, one that is shorter goes into the others."""
CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did."""

    rows: int
    lists_before: int
    lists: int
    calibrate_again: bool
    """Whether there is a calibration that does not hold for the new lists."""


@contextmanager
def _changing(folder: str) -> Iterator[tuple[Manifest, str]]:
    """The present manifest and a folder to work in, for the only writer there is."""
    present = manifest.read(folder)  # before there is a lock file in a folder that is no index
    with writer_lock(folder):
        present = manifest.read(folder)
        for file in present.files:
            file.check(folder)
        manifest.remove_unnamed(folder, present)
        work = os.path.join(folder, _WORK)
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        try:
            yield present, work
        except OSError as error:
            raise EnrichmentError(f"the index '{folder}' cannot be changed: {error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def append(folder: str, source: Path | Sequence[Path] | pa.Table, memory: int) -> int:
    """Add rows -> how many; see `VectorIndex.append`."""
    with _changing(folder) as (present, work):
        changed = _appended(present, folder, work, source, memory)
        manifest.write(folder, changed)
    return changed.n_rows - present.n_rows


def delete(folder: str, ids: Any, column: str) -> int:
    """Delete rows -> how many; see `VectorIndex.delete`."""
    with _changing(folder) as (present, _):
        changed = _without(present, folder, ids, column)
        if changed.n_rows < present.n_rows:
            manifest.write(folder, replace(changed, version=present.version + 1))
    return present.n_rows - changed.n_rows


def upsert(folder: str, source: Path | Sequence[Path] | pa.Table, key: str, memory: int) -> tuple[int, int]:
    """Replace rows by their key -> how many were deleted and added; see `VectorIndex.upsert`."""
    with _changing(folder) as (present, work):
        rows = Source.open(source, present.column)
        if key not in rows.schema.names:
            raise SchemaError(f"the rows have no column {key!r}; its columns are {', '.join(rows.schema.names)}")
        keys = [batch.column(0) for _, batch in rows.batches(columns=[key])]
        ids = pa.chunked_array(keys, rows.schema.field(key).type)
        if len(pc.unique(ids)) < len(ids):
            raise SchemaError(f"two rows have the same {key!r}; keep one of each")
        without = _without(present, folder, ids, key)
        changed = _appended(without, folder, work, source, memory)
        manifest.write(folder, changed)
    return present.n_rows - without.n_rows, changed.n_rows - without.n_rows


def compact(folder: str, memory: int) -> Compaction:
    """Put all rows into one segment; see `VectorIndex.compact`."""
    with _changing(folder) as (present, work):
        readers = [SegmentReader(folder, s, present.column, present.vector, cold=False) for s in present.segments]
        sample = _sample(present, readers, memory // 4 // (4 * present.space.width))
        centroids = clusters.refine(sample, _balanced(present, readers))
        placement = _placement(replace(present, centroids=centroids))
        runs: list[str] = []
        for rows in _live_rows(present, folder, memory // (8 * placement.row_bytes)):
            runs.append(os.path.join(work, f"run-{len(runs):05d}"))
            vectors = present.vector.from_arrow(rows[present.column])
            ids = rows[ROW_ID].to_numpy()
            write_rows(runs[-1], rows.select(present.schema.names), vectors, ids, placement, 0)
        segment, (radii, norms) = merge(
            runs, folder, manifest.file_number(present.version + 1), placement, memory, lambda done: None
        )
        records = dict(present.records)
        is_calibrated = CALIBRATION in records
        if is_calibrated:
            records[CALIBRATION] = {**records[CALIBRATION], "stale": "the index was compacted since"}
        changed = replace(
            present,
            centroids=centroids,
            radii=radii,
            norms=norms,
            segments=(segment,),
            version=present.version + 1,
            records=records,
        )
        manifest.write(folder, changed)
        manifest.remove_unnamed(folder, changed)
    return Compaction(changed.n_rows, len(present.centroids), len(centroids), is_calibrated)


def record(folder: str, records: Callable[[Manifest], dict[str, Any]]) -> None:
    """Keep plain values in the manifest in place of those that are there."""
    with _changing(folder) as (present, _):
        manifest.write(folder, replace(present, records=records(present), version=present.version + 1))


def _placement(present: Manifest) -> Placement:
    return Placement(present.column, present.vector, present.space, present.centroids, present.rotation)


def _appended(
    present: Manifest, folder: str, work: str, source: Path | Sequence[Path] | pa.Table, memory: int
) -> Manifest:
    rows = Source.open(source, present.column)
    _check_schema(rows.schema, present)
    placement = _placement(present)
    runs: list[str] = []
    nulls = 0
    for first, chunk in rows.chunks(0, placement.row_bytes, memory):
        runs.append(os.path.join(work, f"run-{len(runs):05d}"))
        nulls += write_run(runs[-1], chunk.select(present.schema.names), first, placement, present.next_row_id)
    rows.check_unchanged()
    version = present.version + 1
    changed = replace(
        present,
        next_row_id=present.next_row_id + rows.n_rows,
        skipped_nulls=present.skipped_nulls + nulls,
        version=version,
    )
    if rows.n_rows == nulls:
        return changed
    segment, extents = merge(runs, folder, manifest.file_number(version), placement, memory, lambda done: None)
    radii, norms = joined_extents([(present.radii, present.norms), extents], len(present.centroids))
    return replace(changed, segments=(*present.segments, segment), radii=radii, norms=norms)


def _check_schema(schema: pa.Schema, present: Manifest) -> None:
    for field in present.schema:
        if field.name not in schema.names:
            raise SchemaError(f"the rows have no column {field.name!r}, which the index has; add it")
        kind = schema.field(field.name).type
        if field.name != present.column and kind != field.type:
            raise SchemaError(f"column {field.name!r} is {kind} and in the index {field.type}; cast it")
    if Source(present.column, schema, 0).is_int8 != present.vector.is_int8:
        kind = "int8" if present.vector.is_int8 else "float"
        raise SchemaError(f"the vectors in the index are {kind}, those of the rows are not; cast them")


def _without(present: Manifest, folder: str, ids: Any, column: str) -> Manifest:
    """The same without the rows whose value in a column is one of some."""
    if column != ROW_ID and (column not in present.schema.names or column == present.column):
        raise SchemaError(f"the index has no column {column!r} to delete by; its columns are {present.schema.names}")
    kind = pa.int64() if column == ROW_ID else present.schema.field(column).type
    try:
        wanted = ids if isinstance(ids, (pa.Array, pa.ChunkedArray)) else pa.array(ids)
        wanted = wanted.cast(kind)
    except pa.ArrowException as error:
        raise SchemaError(f"what to delete by is no {kind}, as column {column!r} is: {error}") from error
    segments = []
    for segment in present.segments:
        values = pq.read_table(os.path.join(folder, segment.rows.name), columns=[column]).column(0)
        hits = np.flatnonzero(np.asarray(pc.is_in(values, value_set=wanted, skip_nulls=True)))
        segments.append(replace(segment, deleted=np.union1d(segment.deleted, hits).astype(np.int64)))
    return replace(present, segments=tuple(segments))


def _balanced(present: Manifest, readers: Sequence[SegmentReader]) -> Singles:
    """Centroids for the rows that are there: long lists are split, short ones left out."""
    live = np.zeros(len(present.centroids), np.int64)
    for segment, reader in zip(present.segments, readers, strict=True):
        dead = np.searchsorted(reader.starts, segment.deleted, "right") - 1
        live += segment.counts - np.bincount(dead, minlength=len(live))
    mean = live.sum() / max(clusters.n_lists(int(live.sum())), 1)
    kept: list[Singles] = []
    for number in range(len(live)):
        if live[number] > _LONG * mean:
            kept.append(clusters.split(_list_rows(present, readers, number), _LONG * mean))
        elif live[number] >= _SHORT * mean:
            kept.append(present.centroids[number : number + 1])
    return np.concatenate(kept) if kept else present.centroids[:1]


def _sample(present: Manifest, readers: Sequence[SegmentReader], most: int) -> Singles:
    """Rows at random of those that are there, in the space."""
    size = min(present.n_rows, most, clusters.SAMPLE_PER_LIST * clusters.n_lists(present.n_rows))
    share, rng, parts = size / max(present.n_rows, 1), np.random.default_rng(1), []
    for segment, reader in zip(present.segments, readers, strict=True):
        there = np.setdiff1d(np.arange(segment.n_rows), segment.deleted)
        chosen = there[rng.random(len(there)) < share]
        parts.append(present.space.rows(reader.vectors(chosen)))
    return np.concatenate(parts)


def _list_rows(present: Manifest, readers: Sequence[SegmentReader], number: int) -> Singles:
    parts = []
    for segment, reader in zip(present.segments, readers, strict=True):
        if segment.counts[number]:
            positions = np.arange(reader.starts[number], reader.starts[number + 1])
            there = ~np.isin(positions, segment.deleted)
            parts.append(present.space.rows(reader.list_vectors(number)[there]))
    return np.concatenate(parts)


def _live_rows(present: Manifest, folder: str, most: int) -> Iterator[pa.Table]:
    """The rows that are there, some at a time; one table without rows if there are none."""
    names = [ROW_ID, *present.schema.names]
    held: list[pa.Table] = []
    n_held = 0
    any_yet = False
    for segment in present.segments:
        start = 0
        with pq.ParquetFile(os.path.join(folder, segment.rows.name)) as file:
            for batch in file.iter_batches(1 << 13, columns=[LIST_ID, *names]):
                dead = segment.deleted - start
                there = np.ones(batch.num_rows, np.bool_)
                there[dead[(dead >= 0) & (dead < batch.num_rows)]] = False
                held.append(pa.Table.from_batches([batch.filter(pa.array(there)).select(names)]))
                start, n_held = start + batch.num_rows, n_held + int(there.sum())
                if n_held >= max(most, 1024):
                    yield pa.concat_tables(held)
                    held, n_held, any_yet = [], 0, True
    if held:
        yield pa.concat_tables(held)
    elif not any_yet:
        path = os.path.join(folder, present.segments[0].rows.name)
        yield pq.read_schema(path).empty_table().select(names)
