"""Scanning posting lists with faiss where they lie in the file: codes, or whole vectors where there are no codes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.ann.codes import Codec, query_parameters
from skipml.ann.metric import Metric, Singles, distances
from skipml.ann.postings import Extents
from skipml.ann.reader import SegmentReader

Indices = NDArray[np.int64]


def lists_in_place(path: str, extents: Extents) -> Any:
    """faiss's inverted lists over a file that others wrote: it needs no ids, as rows are known by list and place."""
    import faiss

    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size, lists.filename = len(extents.counts), extents.n_bytes, path
    lists.totsize, lists.read_only = os.path.getsize(path), True
    lists.lists.clear()
    for size, offset in zip(extents.counts.tolist(), extents.offsets.tolist(), strict=True):
        one = faiss.OnDiskOneList()
        one.size = one.capacity = size
        one.offset = max(offset, 0)
        lists.lists.push_back(one)
    if lists.totsize:
        lists.do_mmap()
    return lists


class ListScanner:
    """The best rows of some lists of a segment for each query."""

    def __init__(self, reader: SegmentReader, metric: Metric, codec: Codec | None) -> None:
        import faiss

        file, extents = reader.in_place()
        self._reader = reader
        self._is_coded = codec is not None
        self._lists = lists_in_place(file.path, extents)
        if codec is not None:
            index: Any = Codec(codec.centroids).index
        else:
            quantizer = faiss.IndexFlatL2(extents.n_bytes // 4)
            kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
            index = faiss.IndexIVFFlat(quantizer, quantizer.d, len(extents.counts), kind)
            index.referenced_objects = [quantizer]
            index.is_trained = True
        index.replace_invlists(self._lists, False)
        index.ntotal = int(extents.counts.sum())
        self._index = index

    def scan(self, queries: Singles, lists: Indices, route: Singles, count: int) -> tuple[Singles, Indices]:
        """Estimates of the squared distance (or the negative inner product) of the `count` best rows of some lists
        [q, m], -1 for none, and their positions [q, count]; inf and -1 where there are fewer. A row may come twice.
        """
        import faiss

        n, m = lists.shape
        estimates = np.empty((n, count), np.float32)
        labels = np.empty((n, count), np.int64)
        parameters = query_parameters(m) if self._is_coded else faiss.SearchParametersIVF(nprobe=m)
        queries, route = np.ascontiguousarray(queries), np.ascontiguousarray(route)
        lists = np.ascontiguousarray(lists)
        self._index.search_preassigned_c(
            n,
            faiss.swig_ptr(queries),
            count,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(route),
            faiss.swig_ptr(estimates),
            faiss.swig_ptr(labels),
            True,
            parameters,
            None,
        )
        found = labels >= 0
        positions = np.full((n, count), -1, np.int64)
        hits = labels[found]
        positions[found] = self._reader.copies(hits >> 32, hits & 0xFFFFFFFF)
        if not self._is_coded and self._index.metric_type == faiss.METRIC_INNER_PRODUCT:
            np.negative(estimates, out=estimates)
        estimates[~found] = np.inf
        return estimates, positions


class ExactScanner:
    """The same for vectors that faiss cannot read where they lie: int8, and cosine without codes."""

    def __init__(self, reader: SegmentReader, metric: Metric) -> None:
        self._reader = reader
        self._metric = metric

    def scan(self, queries: Singles, lists: Indices, route: Singles, count: int) -> tuple[Singles, Indices]:
        """The same, with distances of the metric."""
        estimates = np.full((len(lists), count), np.inf, np.float32)
        positions = np.full((len(lists), count), -1, np.int64)
        for i, mine in enumerate(lists):
            numbers = [n for n in mine.tolist() if n >= 0 and self._reader.segment.counts[n]]
            if not numbers:
                continue
            rows = np.concatenate([self._reader.list_vectors(n) for n in numbers])
            places = np.concatenate([np.arange(*self._reader.starts[n : n + 2].tolist()) for n in numbers])
            found = distances(self._metric, queries[i : i + 1], np.zeros(len(rows), np.int64), rows)
            best = np.argsort(found, kind="stable")[:count]
            estimates[i, : len(best)] = np.where(np.isnan(found[best]), np.finfo(np.float32).max, found[best])
            positions[i, : len(best)] = places[best]
        return estimates, positions
