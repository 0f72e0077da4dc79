"""Plans: the blocks of some files, what is decided about each, and the rows that are left.

Sound because a block that is SKIP holds no row that qualifies, and rows of blocks that are EVALUATE are scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.decisions import DECISION_NAMES, EVALUATE, KEEP, SKIP, Decisions
from skipml.errors import FooterError, SchemaError
from skipml.footers import Footers
from skipml.identity import Path, check_unchanged
from skipml.lake.listing import NO_FILES, PrunedFiles
from skipml.lake.rows import as_table, is_deleted, stored_names
from skipml.lake.snapshot import Snapshot
from skipml.parquet.reading import Ahead, RowGroup, read_metadata, read_schemas
from skipml.predicates import Predicate
from skipml.score_store import ScoreStore
from skipml.stores import RemoteFile

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow.dataset as ds
    import ray.data

_BATCH_ROWS = 1 << 17


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Some rows of a row group, the decision for each, and the number of the first."""

    table: pa.Table
    decision: NDArray[np.int8]
    start: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The blocks of some files, row groups or runs of rows inside them, and what a predicate decides about each."""

    predicate: Predicate
    footers: Footers
    result: Decisions
    root: Path | None = None
    """Where metadata lies that is neither beside the files nor in them."""
    pruned: PrunedFiles = NO_FILES
    """Files that are SKIP as a whole: they have no blocks here."""
    notes: tuple[str, ...] = ()
    """What was ignored, and why."""
    snapshot: Snapshot | None = None
    """The table that the files are of, as which their rows are read."""

    @property
    def decisions(self) -> NDArray[np.int8]:
        """SKIP, EVALUATE or KEEP per block, in the order of `table`."""
        return self.result.decision

    @cached_property
    def table(self) -> pa.Table:
        """One row per block: file, row_group, first_row, n_rows, decision, lower, upper, method."""
        footers = self.footers
        return pa.table(
            {
                "file": pa.array([footers.files[i] for i in footers.file_index.tolist()], pa.string()),
                "row_group": pa.array(footers.row_group, pa.int64()),
                "first_row": pa.array(footers.first_row, pa.int64()),
                "n_rows": pa.array(footers.n_rows, pa.int64()),
                "decision": pa.array([DECISION_NAMES[d] for d in self.decisions.tolist()], pa.string()),
                "lower": pa.array(self.result.lower, pa.float64()),
                "upper": pa.array(self.result.upper, pa.float64()),
                "method": pa.array(self.result.method_names, pa.string()),
            }
        )

    @property
    def summary(self) -> str:
        """One line: `Row groups: 49, skipped 41, kept 3, evaluated 5`; it counts blocks, and in front files that are
        skipped as a whole, whose row groups count where they are known. Of files in stores also what was read so far:
        `s3: 12 requests, 3.1 MB`.
        """
        skipped, evaluated, kept = (int((self.decisions == d).sum()) for d in (SKIP, EVALUATE, KEEP))
        groups, n, out = self.footers.n_row_groups, len(self.decisions), self.pruned.n_row_groups
        blocks = f"Row groups: {groups + out:,}" + ("" if groups == n else f" in {n + out:,} blocks")
        fetched = f"; {self.traffic}" if self.traffic else ""
        counts = f"{blocks}, skipped {skipped + out:,}, kept {kept:,}, evaluated {evaluated:,}{fetched}"
        if not self.pruned.files:
            return counts
        files = len(self.footers.files) + len(self.pruned.files)
        return f"Files: {files:,}, skipped {len(self.pruned.files):,} as a whole; {counts}"

    @property
    def selectivity(self) -> float | None:
        """The share of the rows that qualify, estimated from the rows that `enrich` stored; None if it stored none.

        0 is less than one of them stands for.
        """
        return self.result.selectivity

    @property
    def traffic(self) -> str:
        """What was asked of stores so far, to plan and to scan, and what came back; '' where all files are local."""
        stores = dict.fromkeys(file.store for file in self.footers.files if isinstance(file, RemoteFile))
        return "; ".join(f"{store.protocol}: {store.traffic}" for store in stores)

    def scan(self, columns: Sequence[str] | None = None, *, store_scores: bool = False) -> pa.RecordBatchReader:
        """The qualifying rows: blocks that are SKIP are left out, those that are KEEP are not scored.

        With `store_scores` the scores of the other blocks are added to the metadata of their files when the reader has
        come to the end of the file, so that later plans need not look at them; they are computed twice for it.

        Raises FooterError for a file that cannot be read, SchemaError for a missing column or files whose schemas
        differ, FileChangedError for a file rewritten since the plan was made, EnrichmentError where scores are to be
        stored and the file was never enriched or the sidecar cannot be written.
        """
        schema = self._schema(columns)
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema, store_scores))

    def schema(self, columns: Sequence[str] | None = None) -> pa.Schema:
        """What an engine that reads the files itself gives for these columns; raises FooterError and SchemaError as
        `scan` does, and SnapshotError where only `scan` reads a file as its table says.
        """
        schema = self._schema(columns)
        if self.snapshot is not None:
            for i in np.unique(self.footers.file_index[self.decisions != SKIP]).tolist():
                self.snapshot.check_as_stored(self.footers.files[i])
        return schema

    def _schema(self, columns: Sequence[str] | None) -> pa.Schema:
        broken = next((message for message in self.footers.errors if message), "")
        if broken:
            raise FooterError(f"{broken}; repair the file or leave it out of the plan")
        if columns is not None and not len(columns):
            raise SchemaError("rows without columns cannot be counted; name at least one column to scan")
        if self.snapshot is None:
            return common_schema(self.footers, columns)
        wanted = self.snapshot.schema.names if columns is None else columns
        return pa.schema([self.snapshot.schema.field(self.snapshot.column(name)) for name in wanted])

    def _batches(self, schema: pa.Schema, store_scores: bool) -> Iterator[pa.RecordBatch]:
        ahead = Ahead(self._announced(schema))
        try:
            for i, path in enumerate(self.footers.files):
                wanted = self._left(i)
                if not len(wanted):
                    continue
                self._check_local(i)
                mine = np.flatnonzero(self.footers.file_index == i)
                store = ScoreStore.of(path, self.root, self.footers, self.predicate.scores) if store_scores else None
                with ahead.open(path) as file:
                    for group in wanted:
                        blocks = mine[self.footers.row_group[mine] == group]
                        ahead.bring(group)
                        for rows in self._read(file, path, blocks, schema.names):
                            if store is not None:
                                self._store(store, rows, blocks, int(mine[0]))
                            yield from self._qualifying(rows, schema)
                self._check_local(i)
                if store is not None:
                    store.write()
        finally:
            ahead.close()

    def _left(self, file: int) -> list[int]:
        """The row groups of a file in which a row may qualify."""
        left: list[int] = np.unique(
            self.footers.row_group[(self.footers.file_index == file) & (self.decisions != SKIP)]
        ).tolist()
        return left

    def _announced(self, schema: pa.Schema) -> list[RowGroup]:
        """The row groups of files in stores that a scan is going to read, and what of them."""
        found = []
        for i, path in enumerate(self.footers.files):
            left = self._left(i) if isinstance(path, RemoteFile) else []
            own = read_metadata(path).schema.to_arrow_schema().names if left else []
            for group in left:
                here = (self.footers.file_index == i) & (self.footers.row_group == group)
                found.append(RowGroup(path, group, tuple(self._columns(own, self.decisions[here], schema.names))))
        return found

    def _columns(self, own: Sequence[str], decision: NDArray[np.int8], names: Sequence[str]) -> list[str]:
        """What is read of blocks: the wanted columns, and where rows are scored the model's inputs."""
        inputs, of = self.predicate.inputs if (decision == EVALUATE).any() else (), self.snapshot
        scored = spelled(own, inputs) if of is None else [of.column(name) for name in inputs]
        return list(dict.fromkeys([*names, *scored]))

    def _check_local(self, file: int) -> None:
        """Check a local file; of one in a store `Ahead` reads what was planned, or notices."""
        if not isinstance(self.footers.files[file], RemoteFile):
            self.check(file)

    def _read(
        self, file: pq.ParquetFile, path: str, blocks: NDArray[np.int64], names: Sequence[str]
    ) -> Iterator[_Rows]:
        """The rows of the row group of these blocks, with the decision for each."""
        decision = np.repeat(self.decisions[blocks], self.footers.n_rows[blocks])
        own, of, start = file.schema_arrow.names, self.snapshot, 0
        columns = self._columns(own, decision, names)
        stored = columns if of is None else stored_names(own, columns)
        group = int(self.footers.row_group[blocks[0]])
        for batch in file.iter_batches(row_groups=[group], columns=stored, batch_size=_BATCH_ROWS):
            rows, part = pa.Table.from_batches([batch]), decision[start : start + batch.num_rows]
            if of is not None:
                rows, part = as_table(rows, columns, of, path), part.copy()
                first = int(self.footers.first_row[blocks[0]]) + start
                part[is_deleted(of, path, first, batch.num_rows)] = SKIP
            yield _Rows(rows, part, start)
            start += batch.num_rows

    def _qualifying(self, rows: _Rows, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        passed, unsure = rows.decision == KEEP, rows.decision == EVALUATE
        if unsure.any():
            asked = rows.table if unsure.all() else rows.table.filter(pa.array(unsure))
            passed[unsure] = self.predicate.matches(asked)
        yield from rows.table.filter(pa.array(passed)).select(schema.names).cast(schema).combine_chunks().to_batches()

    def _store(self, store: ScoreStore, rows: _Rows, blocks: NDArray[np.int64], first: int) -> None:
        """Store the scores of the blocks [B] that are scored and lie in these rows as a whole."""
        n_rows = self.footers.n_rows[blocks]
        starts = np.cumsum(n_rows) - n_rows - rows.start
        for block, start, n in zip(blocks.tolist(), starts.tolist(), n_rows.tolist(), strict=True):
            if self.decisions[block] == EVALUATE and start >= 0 and start + n <= rows.table.num_rows:
                store.add(block - first, rows.table.slice(start, n))

    def check(self, file: int) -> None:
        """Raise FileChangedError if a file, by number, was rewritten since the plan was made."""
        check_unchanged([self.footers.files[file]], [self.footers.identities[file]])

    def candidates(self, columns: Sequence[str] | None = None) -> ds.Dataset:
        """The row groups in which a row may qualify, as a dataset of Arrow; see `engines.arrow.candidates`."""
        from skipml.engines import arrow

        return arrow.candidates(self, columns)

    def to_polars(self, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows that qualify, as a lazy frame of Polars; see `engines.polars.rows`."""
        from skipml.engines import polars

        return polars.rows(self, columns)

    def to_duckdb(
        self, columns: Sequence[str] | None = None, connection: duckdb.DuckDBPyConnection | None = None
    ) -> duckdb.DuckDBPyRelation:
        """The rows that qualify, as a relation of DuckDB; see `engines.duckdb_plans.rows`."""
        from skipml.engines import duckdb_plans

        return duckdb_plans.rows(self, columns, connection)

    def to_ray(self, columns: Sequence[str] | None = None) -> ray.data.Dataset:
        """The rows that qualify, as a dataset of Ray; see `engines.ray.rows`."""
        from skipml.engines import ray

        return ray.rows(self, columns)


def own_names(file: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """The names as the file spells them: DuckDB ignores case."""
    return spelled(file.schema_arrow.names, names)


def spelled(own: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names as a file with its own ones spells them."""
    known = {name.lower(): name for name in own} | {name: name for name in own}
    return [known.get(name, known.get(name.lower(), name)) for name in names]


def common_schema(footers: Footers, columns: Sequence[str] | None) -> pa.Schema:
    """The common schema of the wanted columns in all files."""
    schemas = read_schemas(footers.files)
    first = schemas[0].remove_metadata()
    names = first.names if columns is None else list(columns)
    missing = [name for name in names if name not in first.names]
    if missing:
        raise SchemaError(f"{footers.files[0]} has no column {missing[0]!r}; its columns are {', '.join(first.names)}")
    wanted = pa.schema([first.field(name) for name in names])
    for path, schema in zip(footers.files, schemas, strict=True):
        for field in wanted:
            if field.name not in schema.names or schema.field(field.name).type != field.type:
                raise SchemaError(
                    f"{path}: column {field.name!r} is not {field.type} as in {footers.files[0]}; "
                    "plan files of one schema"
                )
    return wanted
