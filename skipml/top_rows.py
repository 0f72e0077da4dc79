"""The first rows of Parquet files in the order of a score, without an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.bounds.memory import SHARED
from skipml.decisions import Decisions, prune
from skipml.errors import FileChangedError, FooterError, PredicateError, SchemaError
from skipml.features import function_inputs
from skipml.footers import Footers, read_footers
from skipml.identity import Path, expand, identity, metadata_root
from skipml.metadata.refine import Refined, refine
from skipml.parquet.reading import Ahead, RowGroup, read_metadata
from skipml.plans import common_schema, own_names, spelled
from skipml.predicates import Predicate
from skipml.regions import from_refined
from skipml.scores import Model, ModelScore
from skipml.stores import RemoteFile
from skipml.threshold_search import Found, search_row_groups
from skipml.topk import Scored, TopK, Worst

Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]

_BATCH_ROWS = 1 << 17


@dataclass(frozen=True, eq=False)
class TopRows:
    """The first rows of some files in the order of a score, and what was visited to find them.

    `table` holds the rows in order, `scores` their scores, NULL where an input is.
    """

    table: pa.Table
    scores: pa.Array
    blocks: pa.Table
    """One row per row group: file, row_group, n_rows, visited, needed, lower, upper, method; `needed` says whether it
    holds one of the rows, `lower` and `upper` bound its scores.
    """
    waves: int
    """How many times a threshold was raised and row groups were visited."""

    @property
    def rows_scored(self) -> int:
        """Rows of the row groups that were visited."""
        n_rows, visited = (self.blocks[name].to_numpy() for name in ("n_rows", "visited"))
        return int(n_rows[visited].sum())

    @property
    def summary(self) -> str:
        """One line: `Row groups: 367, visited 6 in 2 waves, 2 hold the rows; 1.6 % of 6,001,215 rows were scored`."""
        visited, needed = (int(self.blocks[name].to_numpy().sum()) for name in ("visited", "needed"))
        rows = int(self.blocks["n_rows"].to_numpy().sum())
        share = f"{100 * self.rows_scored / rows:.1f} %" if rows else "none"
        return (
            f"Row groups: {len(self.blocks):,}, visited {visited:,} in {self.waves} waves, {needed:,} hold the rows; "
            f"{share} of {rows:,} rows were scored"
        )


def top_k(  # noqa: PLR0913
    paths: Path | Sequence[Path],
    score: Model | ModelScore,
    k: int,
    *,
    ascending: bool = False,
    offset: int = 0,
    nulls_first: bool = False,
    where: Predicate | None = None,
    columns: Sequence[str] | None = None,
    root: Path | None = None,
    storage_options: Mapping[str, Any] | None = None,
    filesystem: Any = None,
) -> TopRows:
    """The `k` rows behind the first `offset` in the order of a score, the highest first unless `ascending`, among those
    that pass `where`; `columns` of them, by default all.

    The order is DuckDB's: NaN is greater than every number. Of rows of equal score those visited first are taken.

    Raises FooterError for a path that matches no file or a file that cannot be read, SchemaError for a missing column
    or files whose schemas differ, PredicateError for a negative k or offset or a model of several outputs,
    FileChangedError for a file rewritten meanwhile.
    """
    chosen = score.only_output() if isinstance(score, Model) else score
    if len(chosen.functionals) != 1:
        raise PredicateError("rows can be ordered by one value: use model.output(i)")
    topk = TopK(chosen, k, ascending, offset, nulls_first)
    inputs = tuple(dict.fromkeys([*chosen.inputs, *(where.inputs if where is not None else ())]))
    files = expand(paths, storage_options, filesystem)
    refined = refine(read_footers(files, inputs), metadata_root(root, storage_options, filesystem))
    reader = _Reader.of(refined.row_groups.footers, chosen, where, columns)
    found, decisions = _searched(topk, refined, reader)
    mine = slice(offset, offset + k)
    table = reader.rows(found.top_group[mine], found.top_row[mine])
    scores = pa.array(found.top_value[mine], pa.float64(), mask=found.top_is_null[mine])
    blocks = _blocks(reader.footers, found, decisions)
    return TopRows(table, scores, blocks, found.waves)


def _searched(topk: TopK, refined: Refined, reader: _Reader) -> tuple[Found, Decisions]:
    """The search over row groups, with what is known of their scores in the end."""
    passing = None
    if reader.where is not None:
        cost = Budget(reader.where.seconds_per_row, memory=SHARED)
        passing = prune(reader.where, from_refined(refined, reader.where.inputs), cost)
    regions = from_refined(refined, topk.score.inputs)
    budget = Budget(topk.score.seconds_per_row, memory=SHARED)
    return search_row_groups(topk, refined, regions, reader.visit, budget, where=passing)


def _blocks(footers: Footers, found: Found, decisions: Decisions) -> pa.Table:
    return pa.table(
        {
            "file": pa.array([footers.files[i] for i in footers.file_index.tolist()], pa.string()),
            "row_group": pa.array(footers.row_group, pa.int64()),
            "n_rows": pa.array(footers.n_rows, pa.int64()),
            "visited": pa.array(found.visited),
            "needed": pa.array(found.needed),
            "lower": pa.array(decisions.lower, pa.float64()),
            "upper": pa.array(decisions.upper, pa.float64()),
            "method": pa.array(decisions.method_names, pa.string()),
        }
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Reader:
    """Reads row groups, numbered over all files."""

    footers: Footers
    score: ModelScore
    where: Predicate | None
    schema: pa.Schema

    @classmethod
    def of(cls, footers: Footers, score: ModelScore, where: Predicate | None, columns: Sequence[str] | None) -> _Reader:
        broken = next((message for message in footers.errors if message), "")
        if broken:
            raise FooterError(f"{broken}; repair the file or leave it out")
        if columns is not None and not len(columns):
            raise SchemaError("rows without columns cannot be counted; name at least one column")
        return cls(footers, score, where, common_schema(footers, columns))

    def visit(self, groups: Indices, _: Worst | None) -> Scored:
        """The scores of the rows that pass, of some row groups."""
        inputs = [*self.score.inputs, *(self.where.inputs if self.where is not None else ())]
        parts = [
            self._scored(rows, group, start)
            for file, group in self._opened(groups, inputs)
            for rows, start in self._batches(file, group, own_names(file, inputs))
        ]
        values, is_null, group, row = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Scored(values, is_null, group, row)

    def _scored(self, rows: pa.Table, group: int, start: int) -> tuple[NDArray[np.float64], Bools, Indices, Indices]:
        place = np.arange(start, start + rows.num_rows)
        if self.where is not None:
            passed = self.where.matches(rows)
            rows, place = rows.filter(pa.array(passed)), place[passed]
        inputs, null = function_inputs(rows, self.score.inputs, self.score.function)
        is_null: Bools = np.asarray(null.any(axis=1), np.bool_)
        return self.score.evaluate(inputs)[:, 0], is_null, np.full(len(place), group), place

    def rows(self, group: Indices, row: Indices) -> pa.Table:
        """Rows, given by row group and place in it, in the order given."""
        wanted, number = np.unique(group, return_inverse=True)
        found, taken = [self.schema.empty_table()], []
        for file, g in self._opened(wanted, self.schema.names):
            (mine,) = np.nonzero(group == g)
            table = file.read_row_group(int(self.footers.row_group[g]), columns=self.schema.names)
            found.append(table.take(pa.array(row[mine])).select(self.schema.names).cast(self.schema))
            taken.append(mine)
        if not taken:
            return found[0]
        order = np.empty(len(number), np.int64)
        order[np.concatenate(taken)] = np.arange(len(number))
        return pa.concat_tables(found).take(pa.array(order)).combine_chunks()

    def _batches(self, file: pq.ParquetFile, group: int, names: Sequence[str]) -> Iterator[tuple[pa.Table, int]]:
        """Some rows at a time with the place of the first."""
        start, columns = 0, list(dict.fromkeys(names))
        wanted = [int(self.footers.row_group[group])]
        for batch in file.iter_batches(row_groups=wanted, columns=columns, batch_size=_BATCH_ROWS):
            yield pa.Table.from_batches([batch]), start
            start += batch.num_rows

    def _opened(self, groups: Indices, names: Sequence[str]) -> Iterator[tuple[pq.ParquetFile, int]]:
        """Row groups with their open files, of which these columns are going to be read; raises FileChangedError for a
        file that is not what it was.
        """
        of_file = self.footers.file_index[groups]
        ordered = groups[np.argsort(of_file, kind="stable")]
        ahead = Ahead([self._announced(group, names) for group in ordered.tolist()])
        try:
            for i in np.unique(of_file).tolist():
                self._check(i)
                with ahead.open(self.footers.files[i]) as file:
                    for group in groups[of_file == i].tolist():
                        ahead.bring(int(self.footers.row_group[group]))
                        yield file, group
                self._check(i)
        finally:
            ahead.close()

    def _announced(self, group: int, names: Sequence[str]) -> RowGroup:
        """A row group, and columns as its file spells them, which only a file in a store is asked for."""
        path = self.footers.files[int(self.footers.file_index[group])]
        own = read_metadata(path).schema.to_arrow_schema().names if isinstance(path, RemoteFile) else []
        return RowGroup(path, int(self.footers.row_group[group]), tuple(spelled(own, names)))

    def _check(self, file: int) -> None:
        path = self.footers.files[file]
        if not isinstance(path, RemoteFile) and identity(path) != self.footers.identities[file]:
            raise FileChangedError(f"{path} was rewritten while its rows were looked for; look again")
