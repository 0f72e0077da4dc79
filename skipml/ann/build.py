"""Building an index out of rows that need not fit into memory.

Two passes over the source: the first checks every vector and takes a sample, of which the clusters are made; the
second gives each row its two lists, encodes it and writes it out in runs, chunks of rows sorted by list. Ranges of rows
do not depend on each other in the second pass, so that an executor may share them out. The runs are then merged into
the files of the index. What is done is kept in `building/` below the index until the manifest is written, so that a
build that was stopped goes on with the ranges that were not written as a whole; it lies in a folder named after the
source and the settings, in which whoever still works on another build finds no place to write.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, as_completed, wait
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann import clusters, codes, manifest
from skipml.ann.locking import writer_lock
from skipml.ann.manifest import Manifest, Segment
from skipml.ann.metric import Matrix, Metric, Singles, Space, check_metric
from skipml.ann.runs import Placement, merge, replacing, write_run
from skipml.ann.source import Source
from skipml.ann.vectors import VectorType, matrix
from skipml.errors import EnrichmentError, PredicateError, SkipmlError, VectorError
from skipml.identity import Path
from skipml.locations import absolute, absolute_all

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, the rows done so far and all rows."""

DEFAULT_MEMORY = 1 << 30
_LEAST_MEMORY = 1 << 26
_FOLDER, _PLAN, _TRAINED = "building", "plan.json", "trained.npz"


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides an index besides its rows."""

    metric: Metric
    memory: int
    n_lists: int | None
    codes: bool | None


def build(  # noqa: PLR0913
    source: Path | Sequence[Path] | pa.Table,
    *,
    column: str,
    path: Path,
    metric: str = "l2",
    memory: int = DEFAULT_MEMORY,
    n_lists: int | None = None,
    codes: bool | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> None:
    """Build an index of the vectors in a column, in the folder `path`; see `VectorIndex.build`."""
    if memory < _LEAST_MEMORY:
        raise PredicateError(f"memory is at least {_LEAST_MEMORY >> 20} MiB, not {memory:,} bytes")
    if n_lists is not None and n_lists < 1:
        raise PredicateError(f"an index has at least one list, not {n_lists}")
    folder = os.fspath(path)
    settings = Settings(check_metric(metric), memory, n_lists, codes)
    rows = Source.open(source, column)
    try:
        os.makedirs(folder, exist_ok=True)
        with writer_lock(folder):
            if os.path.exists(os.path.join(folder, manifest.NAME)):
                raise EnrichmentError(f"'{folder}' holds an index already; open it, or delete the folder")
            _Build(folder, rows, settings, progress or (lambda what, done, total: None), executor).run()
    except OSError as error:
        raise EnrichmentError(f"the index '{folder}' cannot be written: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What the first pass found."""

    vector: VectorType
    space: Space
    centroids: Singles
    rotation: Singles | None
    n_vectors: int

    def placement(self, column: str) -> Placement:
        """How rows with their vectors in a column are placed."""
        return Placement(column, self.vector, self.space, self.centroids, self.rotation)


@dataclass(frozen=True, slots=True, eq=False)
class _Build:
    folder: str
    source: Source
    settings: Settings
    progress: Progress
    executor: Executor | None

    @property
    def work(self) -> str:
        return os.path.join(self.folder, _FOLDER)

    def run(self) -> None:
        here = self._resume_or_start()
        trained = self._trained()
        placement = trained.placement(self.source.column)
        segment, extents = merge(
            self._write_runs(here, placement),
            self.folder,
            manifest.file_number(1),
            placement,
            self.settings.memory,
            lambda done: self.progress("writing lists", done, trained.n_vectors),
        )
        self.source.check_unchanged()
        manifest.write(self.folder, self._manifest(trained, segment, *extents))
        shutil.rmtree(self.work, ignore_errors=True)  # a worker that was given up may still be there

    def _manifest(self, trained: Trained, segment: Segment, radii: Floats, norms: Floats) -> Manifest:
        return Manifest(
            metric=self.settings.metric,
            column=self.source.column,
            vector=trained.vector,
            schema=self.source.schema,
            longest=trained.space.longest,
            centroids=trained.centroids,
            radii=radii,
            norms=norms,
            rotation=trained.rotation,
            segments=(segment,),
            next_row_id=self.source.n_rows,
            skipped_nulls=self.source.n_rows - trained.n_vectors,
        )

    def _resume_or_start(self) -> str:
        """Keep what an earlier build of the same source with the same settings has left; else begin anew -> where runs
        are.
        """
        plan = {"source": self.source.state(), "column": self.source.column, "metric": self.settings.metric}
        plan |= {"memory": self.settings.memory, "lists": self.settings.n_lists, "codes": self.settings.codes}
        text = json.dumps(plan) if plan["source"] is not None else uuid.uuid4().hex
        path = os.path.join(self.work, _PLAN)
        here = os.path.join(absolute(self.work), hashlib.sha256(text.encode()).hexdigest()[:16])
        if os.path.isdir(here) and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                if file.read() == text:
                    return here
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(here)
        _write_whole(path, lambda file: file.write(text.encode()))
        return here

    def _trained(self) -> Trained:
        path = os.path.join(self.work, _TRAINED)
        if not os.path.exists(path):
            _write_whole(path, lambda file: np.savez(file, **self._train()))
        with np.load(path) as found:
            rotation = found["rotation"]
            vector = VectorType(int(found["dimension"]), self.source.is_int8)
            return Trained(
                vector,
                Space(self.settings.metric, vector.dimension, float(found["longest"])),
                found["centroids"],
                rotation if rotation.size else None,
                int(found["n_vectors"]),
            )

    def _train(self) -> dict[str, Any]:
        sample, longest, n_vectors = self._sample()
        dimension = sample.shape[1]
        space = Space(self.settings.metric, dimension, longest)
        count = self.settings.n_lists or clusters.n_lists(n_vectors)
        rows = space.rows(sample)
        centroids = clusters.train(rows, count) if len(rows) else np.zeros((1, space.width), np.float32)
        wanted = self.settings.codes
        coded = dimension >= codes.LEAST_DIMENSION if wanted is None else wanted
        rotation = codes.rotation(space.width) if coded else np.empty((0, 0), np.float32)
        found = {"centroids": centroids, "rotation": rotation, "longest": longest}
        return {**found, "dimension": dimension, "n_vectors": n_vectors}

    def _sample(self) -> tuple[Matrix, float, int]:
        """Rows at random, the norm of the longest of all, and the number of vectors."""
        source, total = self.source, self.source.n_rows
        where = f"column '{source.column}'"
        dimension: int | None = None
        chosen = np.empty(0, np.int64)
        found: list[Matrix] = []
        longest, n_vectors = 0.0, 0
        for start, batch in source.batches(columns=[source.column]):
            vectors, valid = matrix(batch.column(0), dimension, where, start)
            if dimension is None and len(vectors):
                dimension = vectors.shape[1]
                chosen = self._sampled_rows(total, dimension)
            n_vectors += len(vectors)
            if len(vectors):
                squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
                longest = max(longest, float(np.sqrt(squares.max())))
                mine = np.searchsorted(chosen, [start, start + batch.num_rows])
                taken = np.zeros(batch.num_rows, np.bool_)
                taken[chosen[mine[0] : mine[1]] - start] = True
                # one of the first batch at least, as the rows that were chosen may all be NULL
                found.append(vectors[taken[valid]] if found or taken[valid].any() else vectors[:1])
            self.progress("reading", start + batch.num_rows, total)
        if dimension is None:
            dimension = _declared_dimension(source)
            return np.empty((0, dimension), np.float32), 1.0, 0
        sample: Matrix = np.empty((sum(map(len, found)), dimension), found[0].dtype)
        np.concatenate(found, out=sample)
        return sample, longest or 1.0, n_vectors

    def _sampled_rows(self, total: int, dimension: int) -> Indices:
        wanted = clusters.SAMPLE_PER_LIST * (self.settings.n_lists or clusters.n_lists(total))
        most = self.settings.memory // 4 // (4 * (dimension + 1))
        size = max(1, min(total, wanted, most))
        return np.sort(np.random.default_rng(1).choice(total, size, replace=False))

    def _write_runs(self, here: str, placement: Placement) -> list[str]:
        """Write the ranges of rows that are missing -> all runs in the order of the rows."""
        memory = self.settings.memory
        ranges = [_Range(here, i, *rows) for i, rows in enumerate(self.source.ranges(placement.row_bytes, memory))]
        missing = [rows for rows in ranges if not os.path.exists(rows.marker)]
        done = sum(rows.end - rows.first for rows in ranges) - sum(rows.end - rows.first for rows in missing)
        source = replace(self.source, files=absolute_all(self.source.files))
        with closing(_written(missing, partial(_write_range, source, placement, memory), self.executor)) as written:
            for rows in written:
                done += rows.end - rows.first
                self.progress("assigning", done, self.source.n_rows)
        return [run for rows in ranges for run in rows.runs()]


@dataclass(frozen=True, slots=True)
class _Range:
    """Rows that are written by one call, as one run or as more where they are large, in the folder `here`."""

    here: str
    number: int
    first: int
    end: int

    @property
    def marker(self) -> str:
        """There when all is written; holds how many runs there are."""
        return os.path.join(self.here, f"range-{self.number:05d}")

    def run(self, i: int) -> str:
        return os.path.join(self.here, f"run-{self.number:05d}-{i:03d}")

    def runs(self) -> list[str]:
        with open(self.marker, encoding="utf-8") as file:
            return [self.run(i) for i in range(int(file.read()))]


def _write_range(source: Source, placement: Placement, memory: int, rows: _Range) -> None:
    n_runs = 0
    for first, chunk in source.chunks(rows.first, placement.row_bytes, memory, rows.end):
        write_run(rows.run(n_runs), chunk, first, placement)
        n_runs += 1
    if not n_runs:
        write_run(rows.run(0), source.schema.empty_table(), 0, placement)
        n_runs = 1
    with replacing(rows.marker) as file:
        file.write(str(n_runs).encode())


def _written(ranges: Sequence[_Range], write: Callable[[_Range], None], executor: Executor | None) -> Generator[_Range]:
    """Each range when it is written; no call is running any more at the end, however that comes."""
    if executor is None:
        for rows in ranges:
            write(rows)
            yield rows
        return
    calls = {executor.submit(write, rows): rows for rows in ranges}
    try:
        for call in as_completed(calls):
            call.result()
            yield calls[call]
    except (SkipmlError, OSError):
        raise
    except Exception as error:
        raise EnrichmentError(
            f"a worker could not write its part of the index: {error}; run the build again"
        ) from error
    finally:
        wait(calls)


def _declared_dimension(source: Source) -> int:
    """The dimension where no row has a vector: what the type says."""
    kind = source.schema.field(source.column).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    raise VectorError(
        f"column '{source.column}' holds no vector, so that nothing tells how many values one has; "
        "index rows, or declare a fixed size"
    )


def _write_whole(path: str, write: Callable[[Any], Any]) -> None:
    with open(path + ".tmp", "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
