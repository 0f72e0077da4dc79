"""Searching among the rows that pass a filter: they alone are scanned, looked at, and seen by the stop rule.

Lists without such rows are left out of the route. Where few rows pass, or many lists would have to be read for them,
looking at every one of them is faster, and exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann.balls import COMPUTED
from skipml.ann.codes import Codec
from skipml.ann.found import Found, Work
from skipml.ann.metric import Matrix, Metric, Singles, distances
from skipml.ann.reader import SegmentReader
from skipml.ann.routing import Router
from skipml.ann.scan import ExactScanner, ListScanner, preassigned
from skipml.ann.search import search
from skipml.ann.snapshot import Snapshot
from skipml.ann.stopping import FloatMatrix, IntMatrix, IntVector, Nprobe, Progress, StopRule

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_BLOCK_ROWS = 8192
_THINNING, _MARGIN = 1 / 3, 1.3
"""How many more lists are read as fewer of their rows pass; and anyway, as promises are made without a filter."""
_LEAST_ROWS = 2000
"""So many rows are looked at in the time that a search takes."""
_AROUND, _SELDOM = 32, 1 / 3
"""Where so many lists around a query have less than that part of the rows that they would have by chance."""


@dataclass(frozen=True, slots=True)
class Plain:
    """How a search would go without a filter: its rule (None: exact), the rows it asks for, the lists that it is
    expected to read, and what it rests on.
    """

    rule: StopRule | None
    k: int
    lists: float | None
    guarantee: str


def filtered_search(  # noqa: PLR0917
    snapshot: Snapshot, passes: Bools, queries: Singles, k: int, plain: Plain, threads: int = 1
) -> tuple[Found, str]:
    """The k nearest of the rows that pass to each query [q, d], as the rule has it or, where that is faster, exactly;
    and on what guarantee.
    """
    n = int(np.count_nonzero(passes))
    proved = f"exact: every one of {n:,} rows that pass was looked at"
    if plain.rule is None or n < _LEAST_ROWS:
        return exact_among(snapshot, passes, queries, k), proved
    filtered = FilteredSnapshot(snapshot, passes)
    far = filtered.is_far(queries)
    if far.all():
        return exact_among(snapshot, passes, queries, k), proved
    rule, guarantee = plain.rule, plain.guarantee
    if not isinstance(rule, Nprobe):
        rule = Thinned(rule, float(snapshot.sizes.mean()))
        guarantee = f"estimated, as {n:,} of {len(passes):,} rows pass the filter: without one, {guarantee}"
    near = np.flatnonzero(~far)
    found = search(filtered, queries[near], min(max(plain.k, k), n), rule, threads).first(k)
    if not far.any():
        return found, guarantee
    rest = exact_among(snapshot, passes, queries[far], k)
    return found.beside(near, rest, np.flatnonzero(far)), guarantee


@dataclass(frozen=True, slots=True, eq=False)
class Thinned:
    """A rule for lists of `rows` rows where but a share of them passes a filter: it reads more lists, as their rows
    come from further around. As many more as the share of the rows to the power -1/3 says, which was
    measured, and a margin.
    """

    rule: StopRule
    rows: float

    def first(self, route: FloatMatrix, sizes: IntMatrix, k: int) -> IntVector:
        """That of the rule and more, (q,)."""
        lists = np.maximum(self.rule.first(route, sizes, k), 1)
        return np.ceil(lists * self._factor(sizes, lists)).astype(np.int64)

    def more(self, progress: Progress) -> IntVector:
        """Asks the rule as if fewer lists had been read, (q,)."""
        factor = self._factor(progress.sizes, progress.lists)
        lists = np.maximum((progress.lists / factor).astype(np.int64), 1)
        wanted = self.rule.more(replace(progress, lists=lists))
        return np.where(wanted > lists, np.ceil(wanted * factor).astype(np.int64), progress.lists)

    def _factor(self, sizes: IntMatrix, lists: IntVector) -> NDArray[np.float64]:
        last = np.minimum(lists, sizes.shape[1]) - 1
        rows = np.take_along_axis(np.cumsum(sizes, axis=1), last[:, None], axis=1)[:, 0]
        share = np.clip(rows / ((last + 1) * self.rows), 1e-6, 1)
        return np.asarray(_MARGIN * share**-_THINNING, np.float64)


class FilteredSnapshot(Snapshot):
    """The rows of an index that a filter lets pass, as if there were no others."""

    def __init__(self, base: Snapshot, passes: Bools) -> None:
        self.__dict__.update(base.__dict__)
        self.passes = passes
        self.n_rows = int(np.count_nonzero(passes))
        own = np.zeros(len(base.sizes), np.int64)
        rows = np.zeros(len(base.sizes), np.int64)
        for reader, start in zip(base.readers, base.starts.tolist(), strict=False):
            before = np.concatenate([[0], np.cumsum(passes[start : start + reader.segment.n_rows])])
            own += np.diff(before[reader.starts])
            rows += reader.segment.counts
        self.kept = np.flatnonzero(own)
        """Lists that hold such rows."""
        self.own, self.rows, self.everywhere = own, rows, base.router
        self.sizes = np.ceil(base.sizes * own / np.maximum(rows, 1)).astype(np.int64)
        self.router = _KeptRouter(base.router.centroids, self.kept)
        self.scanners = [
            FilteredExactScanner(reader, self.manifest.metric, passes[start : start + reader.segment.n_rows])
            if isinstance(scanner, ExactScanner)
            else FilteredScanner(
                reader, self.manifest.metric, self.codec, passes[start : start + reader.segment.n_rows]
            )
            for reader, scanner, start in zip(base.readers, base.scanners, base.starts.tolist(), strict=False)
        ]

    @property
    def n_lists(self) -> int:
        """Lists with such rows."""
        return len(self.kept)

    def is_far(self, queries: Singles) -> Bools:
        """Whether the rows that pass are seldom where the queries [q, d] are: then they are all over the lists, codes
        hardly tell them apart, and looking at each is the faster way.
        """
        placed = self.manifest.space.queries(queries)
        placed = placed if self.manifest.rotation is None else placed @ self.manifest.rotation
        _, lists = self.everywhere.nearest(placed, _AROUND)
        around = self.own[lists].sum(1) / np.maximum(self.rows[lists].sum(1), 1)
        return np.asarray(around < _SELDOM * self.n_rows / max(len(self.passes), 1))


class _KeptRouter(Router):
    """The order of some of the lists."""

    def __init__(self, centroids: Singles, kept: Indices) -> None:
        super().__init__(np.ascontiguousarray(centroids[kept]))
        object.__setattr__(self, "_kept", kept)

    _kept: Indices

    def nearest(self, queries: Singles, count: int) -> tuple[Singles, Indices]:
        """The same, by the numbers that the lists have."""
        far, found = super().nearest(queries, count)
        return far, np.where(found >= 0, self._kept[found], -1)


class FilteredScanner(ListScanner):
    """Scans those codes, or vectors, of lists whose rows pass: copied out of the file the first time."""

    def __init__(self, reader: SegmentReader, metric: Metric, codec: Codec | None, passes: Bools) -> None:
        import faiss

        self._file, self._extents = reader.in_place()
        self._reader, self._passes = reader, passes
        self._is_coded = codec is not None
        n_lists = len(self._extents.counts)
        self._lists = faiss.ArrayInvertedLists(n_lists, self._extents.n_bytes)
        if codec is not None:
            index: Any = Codec(codec.centroids).index
        else:
            quantizer = faiss.IndexFlatL2(self._extents.n_bytes // 4)
            kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
            index = faiss.IndexIVFFlat(quantizer, quantizer.d, n_lists, kind)
            index.referenced_objects = [quantizer]
            index.is_trained = True
        index.replace_invlists(self._lists, False)
        index.ntotal = int(self._extents.counts.sum())
        self._index = index
        self._is_negative = index.metric_type == faiss.METRIC_INNER_PRODUCT
        self._is_there = self._extents.counts == 0
        self._lock = Lock()

    def scan(self, queries: Singles, lists: Indices, route: Singles, count: int) -> tuple[Singles, Indices, Indices]:
        """The same for the rows that pass."""
        wanted = np.unique(lists[lists >= 0])
        with self._lock:
            self._copy(wanted[~self._is_there[wanted]])
        estimates, labels = preassigned(
            self._index, queries, lists, route, count, is_coded=self._is_coded, in_pairs=False
        )
        query, place = np.nonzero(labels >= 0)
        found = estimates[query, place]
        return -found if self._is_negative else found, query, labels[query, place]

    def _copy(self, lists: Indices) -> None:
        import faiss

        counts = self._extents.counts[lists]
        of_list = np.repeat(lists, counts)
        place = np.arange(len(of_list)) - np.repeat(np.cumsum(counts) - counts, counts)
        position = self._reader.copies(of_list, place)
        passing = self._passes[position]
        of_list, place, position = of_list[passing], place[passing], position[passing]
        n_bytes = self._extents.n_bytes
        codes = self._file.gather(self._extents.offsets[of_list] + place * n_bytes, n_bytes)
        ends = np.searchsorted(of_list, lists, "right").tolist()
        start = 0
        for number, end in zip(lists.tolist(), ends, strict=True):
            if end > start:
                ids, mine = position[start:end], codes[start:end]
                self._lists.add_entries(number, end - start, faiss.swig_ptr(ids), faiss.swig_ptr(mine))
            start = end
        self._is_there[lists] = True


class FilteredExactScanner(ExactScanner):
    """The same for vectors that faiss cannot read."""

    def __init__(self, reader: SegmentReader, metric: Metric, passes: Bools) -> None:
        super().__init__(reader, metric)
        self._passes = passes

    def scan(self, queries: Singles, lists: Indices, route: Singles, count: int) -> tuple[Singles, Indices, Indices]:
        """The same for the rows that pass."""
        del route
        estimates, rows, positions = [np.empty(0, np.float32)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for i, mine in enumerate(lists):
            for number in mine[mine >= 0].tolist():
                first, end = self._reader.starts[number : number + 2].tolist()
                position = first + np.flatnonzero(self._passes[first:end])
                vectors = self._reader.vectors(position)
                found = distances(self._metric, queries[i : i + 1], np.zeros(len(vectors), np.int64), vectors)
                best = np.argsort(found, kind="stable")[:count]
                estimates.append(found[best].astype(np.float32))
                rows.append(np.full(len(best), i))
                positions.append(position[best])
        return np.concatenate(estimates), np.concatenate(rows), np.concatenate(positions)


def exact_among(snapshot: Snapshot, passes: Bools, queries: Singles, k: int) -> Found:
    """The k nearest of the rows that pass to each query [q, d]: every one of them is looked at."""
    query, position, work = nearest_among(snapshot, np.flatnonzero(passes), queries, k)
    distance = snapshot.distances(queries, query, position)
    return Found.ranked(snapshot, query, position, distance, k, work)


def nearest_among(snapshot: Snapshot, positions: Indices, queries: Singles, k: int) -> tuple[Indices, Indices, Work]:
    """Queries and positions that hold the k nearest of some rows to each query, ties included, and few others.

    Float32 chooses, with all that its rounding, or DuckDB's, leaves in question.
    """
    snapshot.check_unchanged()
    vector = snapshot.manifest.vector
    limit = np.full(len(queries), np.inf)
    kept: list[tuple[Indices, Indices, Floats]] = []
    for start in range(0, len(positions), _BLOCK_ROWS):
        block = positions[start : start + _BLOCK_ROWS]
        near, error = _estimates(snapshot.manifest.metric, queries, _vectors(snapshot, block))
        far = near + error
        if len(block) >= k:
            limit = np.minimum(limit, np.partition(far, k - 1, axis=1)[:, k - 1])
        query, place = np.nonzero(~(near - error > limit[:, None]))
        kept.append((query, block[place], (near - error)[query, place]))
    work = Work(0, len(positions), len(positions), len(positions) * vector.n_bytes)
    if not kept:
        return np.empty(0, np.int64), np.empty(0, np.int64), work
    query, position, least = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    still = ~(least > limit[query])
    return query[still], position[still], work


def _vectors(snapshot: Snapshot, positions: Indices) -> Matrix:
    parts = snapshot.by_segment(positions)
    found: list[Matrix] = [reader.vectors(mine) for reader, mine, _ in parts]
    if len(found) > 1:
        found = [np.concatenate(found)]  # type: ignore[list-item]
    return found[0]


def _estimates(metric: Metric, queries: Singles, rows: Matrix) -> tuple[Floats, Floats]:
    """What orders rows [n, d] as their distance to queries [q, d] does, and how far it is off, [q, n]: inf where
    float32 cannot tell, as of the cosine of a zero vector, which is NaN in DuckDB 2.0 and 2 in 1.5.
    """
    x = np.asarray(rows, np.float32)
    share = (x.shape[1] + 16) * 2.0**-22
    norms = np.sqrt(np.einsum("ij,ij->i", x, x).astype(np.float64))
    lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        product = (queries @ x.T).astype(np.float64)
        size = lengths[:, None] * norms
        if metric == "ip":
            near, error = -product, share * size
        elif metric == "l2":
            sums = lengths[:, None] ** 2 + norms**2
            near, error = sums - 2 * product, share * 2 * sums
        else:
            near, error = -product / size, np.full(product.shape, 2 * share)
        least, most = COMPUTED[metric]
        outside = (norms > most) | (lengths[:, None] > most) | (norms < least) | (lengths[:, None] < least)
        near[outside], error[outside] = 0, np.inf
    return near, error
