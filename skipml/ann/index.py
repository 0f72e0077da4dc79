"""The public face of the vector index."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann import build as building
from skipml.ann import changes, manifest, native, promises, query_log
from skipml.ann.calibration import Calibration
from skipml.ann.conditions import Connection, predicate_mask, sql_mask
from skipml.ann.drift import Drift, DriftWarning, compare
from skipml.ann.exact import exact_search
from skipml.ann.filtered import Plain, filtered_search
from skipml.ann.found import Found
from skipml.ann.locking import writer_lock
from skipml.ann.metric import Metric, Singles
from skipml.ann.postings import ROW_ID
from skipml.ann.pruning import prune
from skipml.ann.results import SearchStats, result_table
from skipml.ann.rules import Scaled
from skipml.ann.search import search
from skipml.ann.served import Served
from skipml.ann.single import search_one
from skipml.ann.snapshot import Snapshot
from skipml.ann.stopping import Nprobe, StopRule
from skipml.ann.vectors import query_matrix
from skipml.ann.within import Distance
from skipml.errors import (
    ConflictError,
    PredicateError,
    SchemaError,
    SkipmlError,
    VectorError,
)
from skipml.identity import Path
from skipml.plans import Plan
from skipml.predicates import Predicate

Indices = NDArray[np.int64]
Bools = NDArray[np.bool_]


class VectorIndex:
    """A nearest-neighbour index in a folder: Parquet files whose row groups are posting lists, and a manifest."""

    def __init__(self, path: Path, *, cold: bool = False) -> None:
        _check_faiss()
        self.path = os.fspath(path)
        self.cold = cold
        self._snapshot = Snapshot.opened(self.path, cold=cold)
        self._stats: SearchStats | None = None
        self._rules: dict[tuple[int, float], tuple[StopRule, Calibration]] = {}
        self._served: dict[tuple[int, float], Served] = {}

    @classmethod
    def build(  # noqa: PLR0913
        cls,
        source: Path | Sequence[Path] | pa.Table,
        *,
        column: str,
        path: Path,
        metric: str = "l2",
        memory: int = building.DEFAULT_MEMORY,
        n_lists: int | None = None,
        codes: bool | None = None,
        progress: building.Progress | None = None,
        executor: Executor | None = None,
    ) -> VectorIndex:
        """Index the vectors in a column of Parquet files, or of an Arrow table, in the folder `path`.

        `metric` is l2, ip or cosine. About `memory` bytes are used beside the page cache and some 100 MiB of working
        space. `n_lists` is chosen by the number of rows, `codes` (a compact code of each vector, read first) by the
        dimension. Rows whose
        vector is NULL are left out and counted. A build of files that was stopped goes on where it stopped.

        With an `executor`, such as `engines.ray_executor.RayExecutor`, its workers assign rows to lists and encode
        them, each in as much memory; they see the files and the folder under the same paths. Training and the last
        step, in which the files of the index are written and the manifest gets its name, stay here.

        Raises VectorError for vectors of another dimension, NaN or infinity, SchemaError for a column that holds no
        vectors, EnrichmentError where the folder cannot be written or holds an index already, FileChangedError for
        files that change meanwhile, ConflictError where another process writes there.
        """
        _check_faiss()
        building.build(
            source,
            column=column,
            path=path,
            metric=metric,
            memory=memory,
            n_lists=n_lists,
            codes=codes,
            progress=progress,
            executor=executor,
        )
        return cls(path)

    @classmethod
    def open(cls, path: Path, *, cold: bool = False) -> VectorIndex:
        """Open an index as it is now; later changes are seen after `refresh`.

        A `cold` index asks for what it reads in batches, which is faster where the files are not in the page cache.
        Raises MetadataError where there is no index or it is damaged, FileChangedError where a file of it is another.
        """
        return cls(path, cold=cold)

    def refresh(self) -> None:
        """See the changes that were made since it was opened."""
        self._snapshot = Snapshot.opened(self.path, cold=self.cold)
        self._rules = {}

    def __len__(self) -> int:
        return self._snapshot.manifest.n_rows

    @property
    def snapshot(self) -> Snapshot:
        """What searches read."""
        return self._snapshot

    @property
    def metric(self) -> Metric:
        """l2, ip or cosine."""
        return self._snapshot.manifest.metric

    @property
    def dimension(self) -> int:
        """Values of a vector."""
        return self._snapshot.manifest.vector.dimension

    @property
    def skipped_nulls(self) -> int:
        """Rows that were left out as their vector was NULL."""
        return self._snapshot.manifest.skipped_nulls

    @property
    def stats(self) -> SearchStats | None:
        """Those of the last search; each result has its own as JSON in `table.schema.metadata[b"skipml.stats"]`."""
        return self._stats

    @property
    def records(self) -> Mapping[str, Any]:
        """What was learned and calibrated, by name: plain values that the manifest keeps."""
        return self._snapshot.manifest.records

    def search(  # noqa: PLR0913
        self,
        queries: Any,
        k: int = 10,
        *,
        recall: float | None = None,
        nprobe: int | None = None,
        exact: bool = False,
        rule: StopRule | None = None,
        where: str | Predicate | None = None,
        connection: Connection | None = None,
        columns: Sequence[str] | None = None,
        threads: int = 1,
    ) -> pa.Table:
        """The k nearest rows to each query: `query`, `rank` from 1, `row_id`, the user's columns (by default all but
        the vector), `distance` as DuckDB's function of the metric has it; rows of equal distance by row_id.

        `queries` are a vector, a matrix or an Arrow column. `recall` reads as far as its promise takes, see
        `calibrate`; `nprobe` lists are read for each, or as many as `rule` says; `exact` reads all that may hold a
        neighbour. More is read where fewer than k rows are found.

        `where` is a SQL condition on the user's columns, evaluated by DuckDB (on a `connection` of yours, if it needs
        what that has), or a predicate such as `model > 0.9`: only rows for which it is TRUE are searched, and a search
        that would take longer than looking at all of them looks at all of them.

        Raises MetadataError for a recall that is not promised, PredicateError for a condition that DuckDB refuses.
        """
        if k < 1:
            raise PredicateError(f"k is a number of rows of at least 1, not {k}")
        vectors = query_matrix(queries, self.dimension)
        names = self._columns(columns)
        if sum((recall is not None, nprobe is not None, exact, rule is not None)) > 1:
            raise PredicateError("give one of recall, nprobe, exact and rule")
        if nprobe is not None and nprobe < 1:
            raise PredicateError(f"nprobe is a number of lists of at least 1, not {nprobe}")
        passes = None if where is None else self._passing(where, connection)
        found, guarantee = self.find(
            vectors, k, recall=recall, nprobe=nprobe, rule=rule, passes=passes, threads=threads
        )
        return self._result(found, len(vectors), names, guarantee)

    def find(
        self,
        vectors: Singles,
        k: int,
        *,
        recall: float | None = None,
        nprobe: int | None = None,
        rule: StopRule | None = None,
        passes: Bools | None = None,
        threads: int = 1,
    ) -> tuple[Found, str]:
        """The places of the k nearest rows to each query [q, d], as `search` finds them, among those that pass
        [positions]; and on what guarantee they rest.
        """
        wanted, lists = k, None
        if recall is not None:
            rule, promise = self._promised(k, recall)
            wanted, guarantee, lists = promise.k, promise.guarantee, promise.lists
            self._served.setdefault((promise.k, promise.target), Served()).add(vectors)
        elif nprobe is not None:
            rule, guarantee, lists = Nprobe(nprobe), f"none: the nearest {nprobe} lists were read", float(nprobe)
        elif rule is not None:
            guarantee = f"none: {rule!r}"
        else:
            guarantee = "exact: no list that was not read holds a nearer row"
        if passes is not None:
            return filtered_search(self._snapshot, passes, vectors, k, Plain(rule, wanted, lists, guarantee), threads)
        if rule is None:
            return exact_search(self._snapshot, vectors, k, threads), guarantee
        found = None
        if len(vectors) == 1:
            found = native.search_one(self._snapshot, vectors, wanted, rule)
            if found is None and isinstance(rule, Nprobe | Scaled):
                found = search_one(self._snapshot, vectors, wanted, rule)
        return (found or search(self._snapshot, vectors, wanted, rule, threads)).first(k), guarantee

    def _passing(self, where: str | Predicate, connection: Connection | None) -> Bools:
        """Whether the row at each position passes a filter."""
        self._snapshot.check_unchanged()
        if isinstance(where, Predicate):
            return predicate_mask(self._snapshot, self.prune(where))
        return sql_mask(self._snapshot, where, connection)

    def calibrate(
        self,
        queries: Any = None,
        recall: Sequence[float] = (0.9, 0.95, 0.99),
        *,
        k: int = 10,
        rule: str | None = None,
    ) -> list[Calibration]:
        """Learn and calibrate what `search(recall=)` rests on: for each recall that can be promised, how far to read so
        that the mean recall of k rows reaches it, with 95 % confidence; the promises are kept in the manifest.

        `queries` are a log of real ones, 4,000 or more if possible, which is kept beside the index; without it rows of
        the table stand for them, and the promise is one for queries that are like rows. `rule` is "leveled" (the
        default where there are enough queries), "marginal gain", "nearness" or "nprobe". Raises ConflictError where the
        index changes meanwhile.
        """
        if k < 1:
            raise PredicateError(f"k is a number of rows of at least 1, not {k}")
        if not all(0 < target < 1 for target in recall):
            raise PredicateError(f"a recall lies between 0 and 1, not {', '.join(map(str, recall))}")
        vectors = None if queries is None else query_matrix(queries, self.dimension)
        records = promises.calibrate(self._snapshot, vectors, recall, k=k, rule=rule)
        with writer_lock(self.path):
            present = manifest.read(self.path)
            if present.version != self._snapshot.manifest.version:
                raise ConflictError(f"'{self.path}' changed while it was calibrated; calibrate it again")
            version, logs = present.version + 1, {**records.get(manifest.LOGS, {})}
            logs.pop(str(k), None)
            if vectors is not None and len(vectors):
                logs |= query_log.keep(self.path, version, k, vectors)
            changed = replace(present, records={**records, manifest.LOGS: logs}, version=version)
            manifest.write(self.path, changed)
            manifest.remove_unnamed(self.path, changed)
        self.refresh()
        return [one for one in promises.of(records) if one.k == k]

    def check_drift(self, queries: Any = None, recall: float = 0.95, *, k: int = 10) -> Drift:
        """Compare searches with exact ones, and warn where they refute the promise of a recall.

        Without `queries` these are a sample of those that this index served since it was opened. Raises MetadataError
        where no such recall is promised, PredicateError where there are no queries.
        """
        rule, promise = self._promised(k, recall)
        served = self._served.get((promise.k, promise.target), Served())
        vectors = served.sample(self.dimension) if queries is None else query_matrix(queries, self.dimension)
        if not len(vectors):
            raise PredicateError("there are no queries to check: none was served with this recall yet, so give some")
        found = search(self._snapshot, vectors, promise.k, rule)
        drift = compare(promise, promises.misses(self._snapshot, vectors, found, promise.k))
        if drift.is_broken:
            warnings.warn(str(drift), DriftWarning, stacklevel=2)
        return drift

    def _promised(self, k: int, recall: float) -> tuple[StopRule, Calibration]:
        if (k, recall) not in self._rules:
            self._rules[k, recall] = promises.promised(self.records, k, recall, self._snapshot.n_lists)
        return self._rules[k, recall]

    def append(self, source: Path | Sequence[Path] | pa.Table, *, memory: int = building.DEFAULT_MEMORY) -> int:
        """Add the rows of Parquet files or of an Arrow table, which have the columns of the index -> how many. They get
        the row numbers behind those there are; rows without a vector are left out and counted.

        Raises SchemaError and VectorError as `build` does, ConflictError where another process writes.
        """
        n = changes.append(self.path, source, memory)
        self.refresh()
        return n

    def delete(self, ids: Any, *, column: str = ROW_ID) -> int:
        """Delete the rows whose `row_id`, or whose value in another column, is one of `ids` -> how many."""
        n = changes.delete(self.path, ids, column)
        self.refresh()
        return n

    def upsert(
        self, source: Path | Sequence[Path] | pa.Table, *, key: str, memory: int = building.DEFAULT_MEMORY
    ) -> tuple[int, int]:
        """Delete the rows that have the `key` of one of some rows, and append these, in one step -> how many were
        deleted and added.
        """
        counts = changes.upsert(self.path, source, key, memory)
        self.refresh()
        return counts

    def compact(self, *, memory: int = building.DEFAULT_MEMORY) -> changes.Compaction:
        """Write everything that is there into new files, long lists split and every row in the lists nearest to it.

        Costs what the second pass of a build does. What was promised does not hold for the new lists, so all of it is
        calibrated again, with the queries that it was calibrated with; `Compaction.calibrate_again` says where that
        could not be, as the queries are not there any more or another writer came first.
        """
        done = changes.compact(self.path, memory)
        self.refresh()
        return replace(done, calibrate_again=not self._calibrated_again()) if done.calibrate_again else done

    def _calibrated_again(self) -> bool:
        """Make the promises from before a compaction anew -> whether that could be done for all."""
        before = promises.of(self.records)
        logs = {one.k: query_log.kept(self.path, self.records, one.k, self.dimension) for one in before}
        if any(one.queries == promises.LOG and logs[one.k] is None for one in before):
            return False
        for k, queries in logs.items():
            mine = [one for one in before if one.k == k]
            try:
                self.calibrate(queries, [one.target for one in mine], k=k, rule=mine[0].rule)
            except ConflictError:
                return False
        return True

    def distance(self, query: Any) -> Distance:
        """The distance of a row to a query, to be compared with a number: `index.distance(q) < 0.5`."""
        vectors = query_matrix(query, self.dimension)
        if len(vectors) != 1:
            raise VectorError(f"a distance is that to one query, not to {len(vectors)}")
        return Distance(self.metric, self._snapshot.manifest.column, vectors[0])

    def prune(self, predicate: Predicate) -> Plan:
        """The posting lists, and what a predicate on distances (and models) decides about each, as `skipml.plan` has
        it: SKIP is proved. `Plan.scan` reads the rows.
        """
        return prune(self._snapshot, self.path, predicate)

    def _columns(self, columns: Sequence[str] | None) -> list[str]:
        own = self._snapshot.manifest.schema.names
        if columns is None:
            return [name for name in own if name != self._snapshot.manifest.column]
        for name in columns:
            if name not in own:
                raise SchemaError(f"the index has no column {name!r}; its columns are {', '.join(own)}")
        return list(columns)

    def _result(self, found: Found, n_queries: int, names: Sequence[str], guarantee: str) -> pa.Table:
        work = found.work
        stats = SearchStats(n_queries, work.lists, work.scanned, work.vectors, work.bytes_read, guarantee)
        self._stats = stats
        return result_table(self._snapshot, found, names, stats)


def _check_faiss() -> None:
    try:
        import faiss  # noqa: F401
    except ImportError:
        raise SkipmlError("a vector index needs faiss: pip install 'skipml[ann]'") from None
