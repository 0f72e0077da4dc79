"""Rewrite a table so that its row groups become small regions, and say beforehand whether that is worth it.

Model filters read several columns; a row group is skipped if the box of its limits holds no row that passes. In a table
sorted by nothing, or by one column, that box is as wide as the table in all other columns. `cluster` orders the rows
along a curve through all of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Literal, get_args

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.curves import Curve, KdTree, RankSpace, ZOrder
from skipml.decisions import SKIP, prune
from skipml.errors import EnrichmentError, SkipmlError
from skipml.footers import ColumnStats, Footers, read_footers
from skipml.identity import Path, expand
from skipml.planning import plan
from skipml.predicates import Predicate
from skipml.regions import Regions
from skipml.rewrite import Source, Writer, connection, inputs_of, write_sorted
from skipml.vector_layout import vector_column, vector_order
from skipml.workspace import publish, workspace

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Method = Literal["zorder", "kdtree"]
METHODS: tuple[Method, ...] = get_args(Method)

SAMPLE_ROWS = 200_000
ROW_GROUP_ROWS = 16_384
_MOST_COLUMNS = 64
_SAMPLE_PER_GROUP = 16
_CODECS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")
_MOST_LEFT, _LEAST_GAIN = 0.75, 0.05
"""Clustering pays if of the row groups that are read now it leaves at most this share, and spares at least this share
of all.
"""


@dataclass(frozen=True, slots=True)
class Clustering:
    """What `cluster` did. Pairs are (before, after)."""

    target: str
    method: Method | Literal["lists"]
    rows: int
    row_groups: tuple[int, int]
    n_bytes: tuple[int, int]
    seconds: float
    widths: Mapping[str, tuple[float, float]]
    """By column of `by`: the share of the table's rows whose value is within a row group's limits, mean over the row
    groups; 1 where the limits are not known.
    """
    skipped: tuple[tuple[float, float], ...]
    """By predicate: the share of the row groups that is skipped."""

    def __str__(self) -> str:
        shares = {f"width of {name}": pair for name, pair in self.widths.items()}
        shares |= {f"skipped by predicate {i}": pair for i, pair in enumerate(self.skipped, 1)}
        lines = [
            f"{self.target}: {self.rows:,} rows clustered ({self.method}) in {self.seconds:.1f} s",
            *_table(
                {
                    "row groups": tuple(f"{n:,}" for n in self.row_groups),
                    "bytes": tuple(f"{n:,}" for n in self.n_bytes),
                    **{name: tuple(f"{share:.1%}" for share in pair) for name, pair in shares.items()},
                },
                ("before", "after"),
            ),
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Advice:
    """Whether clustering is worth it, estimated on a sample."""

    by: tuple[str, ...]
    row_groups: tuple[int, int]
    """Now and after clustering."""
    skipped_now: tuple[float, ...]
    """By predicate: the share of the row groups that is skipped as the files are."""
    skipped_after: Mapping[Method, tuple[float, ...]]
    """By method and predicate: the share expected after clustering."""

    @property
    def method(self) -> Method:
        """The method that is expected to skip most."""
        return max(self.skipped_after, key=lambda method: sum(self.skipped_after[method]))

    @property
    def worth_it(self) -> bool:
        """Whether a quarter of the reading goes away, and 5 % of the row groups."""
        now, after = np.mean(self.skipped_now), np.mean(self.skipped_after[self.method])
        return bool(1 - after <= _MOST_LEFT * (1 - now) and after - now >= _LEAST_GAIN)

    def __str__(self) -> str:
        columns: dict[str, tuple[float, ...]] = {"now": self.skipped_now}
        columns.update(self.skipped_after.items())
        rows = {
            f"skipped by predicate {i + 1}": tuple(f"{shares[i]:.1%}" for shares in columns.values())
            for i in range(len(self.skipped_now))
        }
        by = ", ".join(self.by)
        verdict = (
            f"Cluster by {by} with method {self.method!r}."
            if self.worth_it
            else f"Clustering by {by} is not worth a rewrite for these predicates."
        )
        return "\n".join([*_table(rows, tuple(columns)), verdict])


def _table(rows: Mapping[str, Sequence[str]], header: Sequence[str]) -> list[str]:
    lines = [("", *header), *((name, *cells) for name, cells in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header) + 1)]
    return [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    ]


def cluster(
    source: Path | Sequence[Path],
    target: Path,
    by: Sequence[str],
    *,
    method: Method = "zorder",
    row_group_rows: int = ROW_GROUP_ROWS,
    compression: str | None = None,
    predicates: Sequence[Predicate] = (),
    progress: Callable[[float], None] | None = None,
) -> Clustering:
    """Rewrite Parquet files as one file in which rows that are near each other in the columns `by` share row groups.

    `source` is a file, a list, a folder or a glob; `target` may be the source itself and is replaced as a whole, after
    its rows have been compared with the source's. Row groups have exactly `row_group_rows` rows, the last one what is
    left. A single column of vectors in `by` orders rows by lists of near vectors, as a vector index does, whatever
    the method. Types, order, nullability and metadata of the columns stay, and the codecs unless `compression` names
    another. `predicates` are planned before and after for the report; `progress` is called with the share that is done.
    Works out of core: sorting takes up to 40 % of the memory and spills beside the target, which needs up to three
    times the size of the uncompressed rows there.

    Raises SchemaError for columns that are missing, cannot be ordered or would change; FooterError for files that
    cannot be read; FileChangedError if one changes meanwhile; EnrichmentError for everything else.
    """
    start = perf_counter()
    files = expand(source)
    path = _checked_target(files, target)
    _check_options(by, method, row_group_rows, compression)
    tell = _rising(progress)
    with (
        _explained(f"write '{path}' (what was there is unchanged, sorting needs room beside it)"),
        workspace(path) as folder,
        connection(folder) as con,
    ):
        before = read_footers(files, by, strict=True)  # first: pyarrow aborts the process on some encrypted files
        table = Source.open(con, files)
        with table.unchanging():
            vectors = vector_column(table, list(by))
            columns = [] if vectors else [table.column(name) for name in by]
            skipped_before = [_share_skipped(files, predicate) for predicate in predicates]
            if vectors:
                space, order = None, vector_order(con, table, vectors, row_group_rows)
            else:
                values, null = table.sample(con, columns, SAMPLE_ROWS)
                space = RankSpace.of(values, null)
                curve = _curve(method, space, values, null, -(-table.n_rows // row_group_rows))
                order = _order(con, curve, table, columns)
            writer = Writer.like(con, table, row_group_rows, os.path.join(folder, "probe"))
            if compression is not None:
                writer = replace(writer, compression=compression)
            rows = os.path.join(folder, "rows")
            write_sorted(con, table, order, writer, rows, tell=tell)
            after = read_footers([rows], by, strict=True)
            widths = [] if space is None else zip(_widths(before, space), _widths(after, space), strict=True)
            report = Clustering(
                target=os.fspath(target),
                method="lists" if vectors else method,
                rows=table.n_rows,
                row_groups=(len(before), len(after)),
                n_bytes=(table.n_bytes, os.path.getsize(rows)),
                seconds=perf_counter() - start,
                widths=dict(zip(columns and by, widths, strict=True)),
                skipped=tuple(zip(skipped_before, (_share_skipped([rows], p) for p in predicates), strict=True)),
            )
        publish(rows, path)
    tell(1.0)
    return report


def _checked_target(files: Sequence[str], target: Path) -> str:
    """The target with links resolved."""
    path = os.path.realpath(target)
    if os.path.isdir(path):
        raise EnrichmentError(f"'{os.fspath(target)}' is a folder; name the file to write")
    if len(files) > 1 and path in [os.path.realpath(file) for file in files]:
        raise EnrichmentError(
            f"'{os.fspath(target)}' is one of the {len(files)} files to rewrite, and would hold the rows of all of "
            "them beside the others; write to a name that the source does not cover"
        )
    return path


def _check_options(by: Sequence[str], method: str, row_group_rows: int, compression: str | None) -> None:
    if isinstance(by, str) or not 1 <= len(by) <= _MOST_COLUMNS or len(set(by)) < len(by):
        raise EnrichmentError(f"by={by!r} must be a list of 1 to {_MOST_COLUMNS} different columns")
    if method not in METHODS:
        raise EnrichmentError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    if row_group_rows < 1:
        raise EnrichmentError(f"row_group_rows={row_group_rows} must be at least 1")
    if compression not in (None, *_CODECS):
        raise EnrichmentError(f"there is no compression {compression!r}; choose one of {', '.join(_CODECS)}")


def _rising(progress: Callable[[float], None] | None) -> Callable[[float], None]:
    """Pass on what is more than was told before."""
    told = 0.0

    def tell(share: float) -> None:
        nonlocal told
        if progress is not None and share > told:
            told = min(share, 1.0)
            progress(told)

    return tell


@contextmanager
def _explained(task: str) -> Iterator[None]:
    try:
        yield
    except SkipmlError:
        raise
    except (duckdb.Error, OSError, pa.ArrowException, ValueError) as error:
        raise EnrichmentError(f"cannot {task}: {error}") from error


def _curve(method: Method, space: RankSpace, values: Floats, null: Bools, row_groups: int) -> Curve:
    return ZOrder(space) if method == "zorder" else KdTree.of(space, values, null, row_groups)


def _order(con: duckdb.DuckDBPyConnection, curve: Curve, table: Source, columns: Sequence[str]) -> str:
    """An SQL expression for the key of a row."""
    d = len(columns)

    def keys(rows: pa.ChunkedArray) -> pa.Array:
        numbers, null = inputs_of([pa.chunked_array([chunk.flatten() for chunk in rows.chunks], pa.float64())])
        return pa.array(curve.keys(numbers.reshape(-1, d), null.reshape(-1, d)), pa.uint64())

    udf: dict[str, Any] = {"type": "arrow", "null_handling": "special"}  # texts are typed as enums
    con.create_function("skipml_key", keys, [f"DOUBLE[{d}]"], "UBIGINT", **udf)
    return f"skipml_key(array_value({', '.join(table.number(column) for column in columns)}))"


def _widths(footers: Footers, space: RankSpace) -> list[float]:
    """By column of the footers the mean share of the table's numbers within a row group's limits."""
    found = []
    for stats, ranks in zip(footers.columns.values(), space.columns, strict=True):
        share = np.where(stats.known, ranks.share(stats.lower, stats.upper), 1.0)
        share[_without_numbers(stats)] = 0.0
        found.append(float(share.mean()) if len(share) else 0.0)
    return found


def _without_numbers(stats: ColumnStats) -> Bools:
    return stats.all_null & stats.known


def _share_skipped(files: Sequence[str], predicate: Predicate) -> float:
    decisions = plan(files, predicate).decisions
    return float((decisions == SKIP).mean()) if len(decisions) else 0.0


def advise(
    source: Path | Sequence[Path],
    predicates: Sequence[Predicate],
    by: Sequence[str] | None = None,
    *,
    row_group_rows: int = ROW_GROUP_ROWS,
    sample_rows: int = SAMPLE_ROWS,
) -> Advice:
    """Estimate what clustering by columns (those of the predicates if none are given) would let the predicates skip.

    Now is what the files' own metadata gives. After is simulated: a sample is clustered into row groups that are
    smaller in the same proportion; their limits are a little narrower than those of whole row groups would be. Raises
    as `cluster`.
    """
    files = expand(source)
    inputs = list(dict.fromkeys(name for predicate in predicates for name in predicate.inputs))
    by = tuple(by if by is not None else inputs)
    if not predicates or not inputs:
        raise EnrichmentError("there is nothing to advise on: pass predicates on models")
    _check_options(by, "zorder", row_group_rows, None)
    columns = list(dict.fromkeys([*by, *inputs]))
    with _explained(f"sample {files[0]}"), tempfile.TemporaryDirectory() as folder, connection(folder) as con:
        table = Source.open(con, files)
        values, null = table.sample(con, [table.column(name) for name in columns], sample_rows)
    row_groups = -(-table.n_rows // row_group_rows)
    space = RankSpace.of(values[:, : len(by)], null[:, : len(by)])
    after: dict[Method, tuple[float, ...]] = {}
    for method in METHODS:
        curve = _curve(method, space, values[:, : len(by)], null[:, : len(by)], row_groups)
        order = np.argsort(curve.keys(values[:, : len(by)], null[:, : len(by)]), kind="stable")
        groups = max(1, min(row_groups, len(order) // _SAMPLE_PER_GROUP))
        regions = _simulated(columns, values[order], null[order], groups, row_group_rows)
        after[method] = tuple(_share_pruned(predicate, regions) for predicate in predicates)
    now = tuple(_share_skipped(files, predicate) for predicate in predicates)
    return Advice(by, (len(read_footers(files, by)), row_groups), now, after)


def _simulated(columns: Sequence[str], values: Floats, null: Bools, groups: int, row_group_rows: int) -> Regions:
    """The regions of ordered sampled rows [n, d] in equal groups, each standing for a whole row group."""
    starts = np.linspace(0, len(values), groups, endpoint=False).astype(np.int64) if len(values) else np.zeros(0, int)
    numbers = ~null & ~np.isnan(values)
    lower = np.minimum.reduceat(np.where(numbers, values, np.inf), starts)
    upper = np.maximum.reduceat(np.where(numbers, values, -np.inf), starts)
    none = ~np.logical_or.reduceat(numbers, starts)
    all_null = np.logical_and.reduceat(null, starts)
    return Regions(
        columns=tuple(columns),
        lower=np.where(none, -np.inf, lower),
        upper=np.where(none, np.inf, upper),
        block=np.arange(len(starts)),
        n_rows=np.full(len(starts), row_group_rows),
        unknown=none & ~all_null,
        all_null=all_null,
        may_be_null=np.logical_or.reduceat(null, starts),
        may_be_nan=np.logical_or.reduceat(np.isnan(values) & ~null, starts),
    )


def _share_pruned(predicate: Predicate, regions: Regions) -> float:
    decision = prune(predicate, regions, Budget(predicate.seconds_per_row)).decision
    return float((decision == SKIP).mean()) if len(decision) else 0.0
