"""Searching: route, scan what is compact, look at the best rows themselves.

A round scans some more lists of each query that has not read enough. Of what was scanned the best by their estimates
are candidates; their distances are computed from the vectors. A row that two lists hold is a candidate once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skipml.ann.codes import Codec
from skipml.ann.manifest import Manifest
from skipml.ann.metric import Singles, distances
from skipml.ann.reader import SegmentReader
from skipml.ann.routing import Router
from skipml.ann.scan import ExactScanner, ListScanner
from skipml.ann.stopping import Nprobe, Progress, StopRule

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROUTE = 256
"""Lists that are put in order at first, for a rule that may read on."""
_AHEAD = 2
"""Rules see the distances of so many times the lists that are read."""
_LEAST_CANDIDATES, _CANDIDATES_PER_ROW = 100, 12
"""How many rows are looked at for each that is wanted: codes put the best rows among so many."""
_BLOCK_QUERIES = 64


@dataclass(slots=True)
class Work:
    """What a search has read, summed over its queries."""

    lists: int = 0
    scanned: int = 0
    """Codes, or vectors where there are no codes."""
    vectors: int = 0
    """Vectors whose distance was computed."""
    bytes_read: int = 0

    def add(self, other: Work) -> None:
        """The work of other queries."""
        self.lists += other.lists
        self.scanned += other.scanned
        self.vectors += other.vectors
        self.bytes_read += other.bytes_read


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The rows of q queries, nearest first: `query`, `position` and `distance` [n], and the rows of each query [q]."""

    query: Indices
    position: Indices
    distance: Floats
    work: Work = field(default_factory=Work)

    def first(self, k: int) -> Found:
        """The k nearest of each query."""
        kept = np.arange(len(self.query)) - np.searchsorted(self.query, self.query) < k
        return Found(self.query[kept], self.position[kept], self.distance[kept], self.work)


class Snapshot:
    """An index as one manifest has it, opened for reading.

    A position is the place of a row in all segments, one behind the other.
    """

    def __init__(self, folder: str, manifest: Manifest, *, cold: bool) -> None:
        self.manifest = manifest
        self.readers = [
            SegmentReader(folder, segment, manifest.column, manifest.vector, cold=cold) for segment in manifest.segments
        ]
        self.starts = np.concatenate([[0], np.cumsum([s.n_rows for s in manifest.segments])]).astype(np.int64)
        rotation = manifest.rotation
        self.codec = None if rotation is None else Codec(manifest.centroids @ rotation)
        self.router = Router(manifest.centroids if self.codec is None else self.codec.centroids)
        numpy_only = manifest.vector.is_int8 or manifest.metric == "cosine"
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

    @property
    def n_lists(self) -> int:
        """Lists of the index."""
        return len(self.manifest.centroids)

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


def search(snapshot: Snapshot, queries: Singles, k: int, rule: StopRule, threads: int = 1) -> Found:
    """The k nearest rows that are found to each query [q, d], as the rule has it; blocks of queries are searched by so
    many threads.
    """
    snapshot.check_unchanged()
    k = min(k, snapshot.manifest.n_rows)
    if not k or not len(queries):
        return Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    starts = range(0, len(queries), _BLOCK_QUERIES)

    def block(start: int) -> Found:
        return _Search(snapshot, queries[start : start + _BLOCK_QUERIES], k, rule).run()

    return joined(run_all(block, starts, threads), starts)


def run_all(block: Callable[[int], Found], starts: range, threads: int) -> list[Found]:
    """Search blocks of queries in threads, each of which lets faiss use no others."""
    if threads <= 1 or len(starts) == 1:
        return [block(start) for start in starts]
    with ThreadPoolExecutor(threads, initializer=_one_thread) as pool:
        return list(pool.map(block, starts))


def _one_thread() -> None:
    import faiss

    faiss.omp_set_num_threads(1)


def joined(blocks: list[Found], starts: range) -> Found:
    """What blocks of queries found, together."""
    if len(blocks) == 1:
        return blocks[0]
    work = Work()
    for found in blocks:
        work.add(found.work)
    query = np.concatenate([found.query + start for found, start in zip(blocks, starts, strict=True)])
    position = np.concatenate([found.position for found in blocks])
    return Found(query, position, np.concatenate([found.distance for found in blocks]), work)


def ranked(snapshot: Snapshot, query: Indices, position: Indices, distance: Floats, k: int) -> tuple[Indices, ...]:
    """The k nearest of the rows found for each query, equal ones in the order of their numbers, NaN last."""
    order = np.lexsort((snapshot.row_ids(position), distance, query))
    query = query[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    kept = order[rank < k]
    return kept, rank[rank < k]


def squared(manifest: Manifest, queries: Singles, distance: Floats) -> Singles:
    """Distances [q, k] from queries [q, d] as the squared ones of the space, which routes have."""
    if manifest.metric == "l2":
        return np.square(distance).astype(np.float32)
    if manifest.metric == "cosine":
        return (2 * distance).astype(np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    scale = manifest.longest / np.where(length > 0, length, 1)
    return np.maximum(2 * (manifest.longest**2 + scale[:, None] * distance), 0).astype(np.float32)


class _Search:
    """A search for a block of queries."""

    def __init__(self, snapshot: Snapshot, queries: Singles, k: int, rule: StopRule) -> None:
        self.snapshot, self.queries, self.k, self.rule = snapshot, queries, k, rule
        self.work = Work()
        n = len(queries)
        self.n_candidates = max(_LEAST_CANDIDATES, _CANDIDATES_PER_ROW * k)
        manifest = snapshot.manifest
        placed = manifest.space.queries(queries)
        self.placed = placed if manifest.rotation is None else placed @ manifest.rotation
        wanted = rule.lists if isinstance(rule, Nprobe) else _ROUTE
        self.route, self.order = snapshot.router.nearest(self.placed, wanted)
        self.read = np.zeros(n, np.int64)
        """Lists that each query has read."""
        shape = n, self.n_candidates
        self.estimate = np.full(shape, np.inf, np.float32)
        self.position = np.full(shape, -1, np.int64)
        self.distance = np.full(shape, np.nan)
        self.found_at = np.zeros(shape, np.int64)
        """Lists that had been read when a candidate was found."""

    def run(self) -> Found:
        n_lists = self.snapshot.n_lists
        target = np.minimum(self.rule.first(self.route, self._sizes, self.k), n_lists)
        active = np.arange(len(self.queries))
        while len(active):
            self._read(active, np.maximum(target, 1))
            best = self._best(active)
            wanted = self._more(active, best)
            short = ~np.isfinite(best[:, -1])
            wanted = np.where(short, np.maximum(wanted, 2 * self.read[active]), wanted)
            wanted = np.minimum(wanted, n_lists)
            go_on = wanted > self.read[active]
            active, target = active[go_on], wanted[go_on]
        return self._result()

    @property
    def _sizes(self) -> Indices:
        return np.where(self.order >= 0, self.snapshot.sizes[self.order], 0)

    def _more(self, active: Indices, best: Floats) -> Indices:
        if isinstance(self.rule, Nprobe):
            return self.read[active]
        read = self.read[active]
        among = np.argsort(np.where(np.isnan(self.distance[active]), np.inf, self.distance[active]), axis=1)[
            :, : self.k
        ]
        at = np.take_along_axis(self.found_at[active], among, axis=1)
        late = (at > read[:, None] / 2).mean(axis=1)
        near = squared(self.snapshot.manifest, self.queries[active], best)
        return self.rule.more(Progress(read, self.route[active], near, late.astype(np.float32), self._sizes[active]))

    def _best(self, active: Indices) -> Floats:
        """The distances of the k best rows of each query so far, ascending, inf where there are fewer."""
        found = np.where(np.isnan(self.distance[active]), np.inf, self.distance[active])
        return np.sort(found, axis=1)[:, : self.k]

    def _read(self, active: Indices, target: Indices) -> None:
        """Read the lists up to the target [a] of the active queries [a]."""
        most = int(target.max()) * (1 if isinstance(self.rule, Nprobe) else _AHEAD)
        if most > self.order.shape[1] and self.order.shape[1] < self.snapshot.n_lists:
            count = min(max(most, 4 * self.order.shape[1]), self.snapshot.n_lists)
            self.route, self.order = self.snapshot.router.nearest(self.placed, count)
        read = self.read[active]
        width = int((target - read).max())
        place = read[:, None] + np.arange(width)
        inside = place < target[:, None]
        place = np.minimum(place, self.order.shape[1] - 1)
        lists = np.where(inside, self.order[active[:, None], place], -1)
        route = self.route[active[:, None], place]
        for i, (reader, scanner) in enumerate(zip(self.snapshot.readers, self.snapshot.scanners, strict=True)):
            wanted = lists[lists >= 0]
            self.work.bytes_read += reader.fetch_lists(wanted)
            queries = self.placed if self.snapshot.codec is not None else self.queries
            estimate, position = scanner.scan(queries[active], lists, route, self._count(reader))
            position[position >= 0] += self.snapshot.starts[i]
            self._merge(active, estimate, position, target)
        self.work.lists += int(inside.sum())
        self.work.scanned += int(self.snapshot.sizes[lists[lists >= 0]].sum())
        self.read[active] = target
        self._look(active)

    def _count(self, reader: SegmentReader) -> int:
        """How many rows of a segment are asked for: deleted ones must not take the place of others."""
        spare = min(len(reader.segment.deleted), self.n_candidates)
        return max(1, min(self.n_candidates + spare, 2 * reader.segment.n_rows))

    def _merge(self, active: Indices, estimate: Singles, position: Indices, target: Indices) -> None:
        """Keep the best candidates of those found before and now, each row once."""
        estimate[self.snapshot.is_deleted(position)] = np.inf
        estimates = np.concatenate([self.estimate[active], estimate], axis=1)
        positions = np.concatenate([self.position[active], position], axis=1)
        distance = np.concatenate([self.distance[active], np.full(estimate.shape, np.nan)], axis=1)
        found_at = np.concatenate([self.found_at[active], np.broadcast_to(target[:, None], estimate.shape)], axis=1)
        order = np.argsort(positions, axis=1, kind="stable")
        ordered = np.take_along_axis(positions, order, axis=1)
        again = np.zeros(order.shape, np.bool_)
        again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        twice = np.zeros_like(again)
        np.put_along_axis(twice, order, again, axis=1)
        estimates[twice | (positions < 0)] = np.inf
        kept = np.argsort(estimates, axis=1, kind="stable")[:, : self.n_candidates]
        for name, values in (
            ("estimate", estimates),
            ("position", positions),
            ("distance", distance),
            ("found_at", found_at),
        ):
            getattr(self, name)[active] = np.take_along_axis(values, kept, axis=1)

    def _look(self, active: Indices) -> None:
        """Compute the distances of the candidates that have none."""
        distance, position = self.distance[active], self.position[active]
        query, place = np.nonzero(np.isnan(distance) & np.isfinite(self.estimate[active]))
        positions = position[query, place]
        distance[query, place] = self.snapshot.distances(self.queries, active[query], positions)
        self.distance[active] = distance
        self.work.vectors += len(positions)
        self.work.bytes_read += len(positions) * self.snapshot.manifest.vector.n_bytes

    def _result(self) -> Found:
        query, place = np.nonzero(np.isfinite(self.estimate))
        position, distance = self.position[query, place], self.distance[query, place]
        kept, _ = ranked(self.snapshot, query, position, distance, self.k)
        return Found(query[kept], position[kept], distance[kept], self.work)
