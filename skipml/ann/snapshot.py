"""A vector index as one manifest has it: what searches and pruning read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann.codes import Codec
from skipml.ann.manifest import Manifest, read
from skipml.ann.metric import Singles, distances
from skipml.ann.reader import SegmentReader
from skipml.ann.routing import Router
from skipml.ann.scan import ExactScanner, ListScanner
from skipml.errors import FileChangedError, MetadataError
from skipml.regions import Balls

if TYPE_CHECKING:
    from skipml.ann.native import NativeIndex

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_OVERFLOW = 1e15
"""The squares of longer vectors may overflow where faiss scans them."""


class Snapshot:
    """An index as one manifest has it, opened for reading.

    A position is the place of a row in all segments, one behind the other.
    """

    def __init__(self, folder: str, manifest: Manifest, *, cold: bool) -> None:
        self.manifest = manifest
        self.cold = cold
        self.native: NativeIndex | None = None
        """The same as the compiled library knows it, once it was needed."""
        self.readers = [
            SegmentReader(folder, segment, manifest.column, manifest.vector, cold=cold) for segment in manifest.segments
        ]
        self.starts = np.concatenate([[0], np.cumsum([s.n_rows for s in manifest.segments])]).astype(np.int64)
        rotation = manifest.rotation
        self.codec = None if rotation is None else Codec(manifest.centroids @ rotation)
        # for one query a product by rows is twice as fast
        self.turned = np.empty((0, 0), np.float32) if rotation is None else np.ascontiguousarray(rotation.T)
        self.router = Router(manifest.centroids if self.codec is None else self.codec.centroids)
        overflows = manifest.norms[:, 1].max() > _OVERFLOW
        numpy_only = manifest.vector.is_int8 or manifest.metric == "cosine" or overflows
        self.scanners: list[ListScanner | ExactScanner] = [
            ExactScanner(reader, manifest.metric)
            if self.codec is None and numpy_only
            else ListScanner(reader, manifest.metric, self.codec)
            for reader in self.readers
        ]
        self.deleted = np.concatenate(
            [
                np.empty(0, np.int64),
                *(s.deleted + start for s, start in zip(manifest.segments, self.starts, strict=False)),
            ]
        )
        counts = (s.counts if s.code is None else s.code.counts for s in manifest.segments)
        self.sizes = np.asarray(sum(counts, np.zeros(len(manifest.centroids), np.int64)))
        """What reading a list means: its codes, or its rows."""
        self.arrays: dict[str, pa.Array] = {}
        """Columns that filters have read."""
        self.schemas: dict[tuple[str, ...], pa.Schema] = {}
        """Those of results, by the names of their columns."""
        self.n_rows = manifest.n_rows
        """Rows that are there."""

    @classmethod
    def opened(cls, folder: str, *, cold: bool) -> Snapshot:
        """The present state; a change that removes files meanwhile has written another manifest.

        Raises MetadataError where there is no index or it is damaged, FileChangedError where a file of it is another.
        """
        while True:
            found = read(folder)
            try:
                for file in found.files:
                    file.check(folder)
                return cls(folder, found, cold=cold)
            except FileChangedError:
                if read(folder).version == found.version:
                    raise
            except OSError as error:
                if read(folder).version == found.version:
                    raise MetadataError(f"the index '{folder}' cannot be read: {error}") from error

    @property
    def n_lists(self) -> int:
        """Lists of the index."""
        return len(self.manifest.centroids)

    def placed(self, queries: Singles) -> Singles:
        """Queries [q, d] where the centroids of the router are."""
        placed = self.manifest.space.queries(queries)
        if self.manifest.rotation is None:
            return placed
        if len(placed) == 1:
            return np.asarray((self.turned @ placed[0])[None], np.float32)
        return placed @ self.manifest.rotation

    @property
    def balls(self) -> Balls:
        """Around the rows of each list."""
        scale = self.manifest.space.scale
        if scale == 1:
            return Balls(self.manifest.centroids, self.manifest.radii, self.manifest.norms)
        # what was lost below the least float32 is less than the widening
        centers, radii = self.manifest.centroids / np.float64(scale), self.manifest.radii / scale * (1 + 2.0**-30)
        return Balls(centers, radii, self.manifest.norms)

    def check_unchanged(self) -> None:
        """Raise FileChangedError if a file was written to."""
        for reader in self.readers:
            reader.check_unchanged()

    def by_segment(self, positions: Indices) -> list[tuple[SegmentReader, Indices, Indices]]:
        """The segments that hold rows at positions [n]: where these are in it, and where among the positions."""
        if len(self.readers) == 1:
            return [(self.readers[0], positions, np.arange(len(positions)))] if len(positions) else []
        which = np.searchsorted(self.starts, positions, "right") - 1
        parts = [(i, np.flatnonzero(which == i)) for i in np.unique(which).tolist()]
        return [(self.readers[i], positions[places] - self.starts[i], places) for i, places in parts]

    def distances(self, queries: Singles, which: Indices, positions: Indices) -> Floats:
        """The distance [n] of the row at each position [n] to the query [q, d] of its number in `which` [n]."""
        found = np.empty(len(positions))
        for reader, mine, places in self.by_segment(positions):
            found[places] = distances(self.manifest.metric, queries, which[places], reader.vectors(mine))
        return found

    def row_ids(self, positions: Indices) -> Indices:
        """The numbers of the rows at positions [n]."""
        found = np.empty(len(positions), np.int64)
        for reader, mine, places in self.by_segment(positions):
            found[places] = reader.row_ids(mine)
        return found

    def is_deleted(self, positions: Indices) -> Bools:
        """Whether the rows at positions [n] are not there any more."""
        if not len(self.deleted):
            return np.zeros(positions.shape, np.bool_)
        place = np.minimum(np.searchsorted(self.deleted, positions), len(self.deleted) - 1)
        return np.asarray(self.deleted[place] == positions)
