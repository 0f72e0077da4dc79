"""Plans on Polars: lazy frames over the runs of rows that are left.

A run is a slice of `pl.scan_parquet`, which reads no row group outside it, so Polars' own optimizer and its streaming
engine work on it as on any scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from skipml.decisions import KEEP, SKIP
from skipml.errors import SkipmlError
from skipml.plans import Plan, own_names
from skipml.stores import RemoteFile

if TYPE_CHECKING:
    import polars as pl

_MOST_RUNS = 64
"""Of a file: each is a scan of its own, which reads the footer again."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive rows of a file; whether all of them qualify."""

    start: int
    stop: int
    kept: bool


def candidates(plan: Plan, columns: Sequence[str] | None = None) -> pl.LazyFrame:
    """The blocks in which a row may qualify, in the order of the files.

    Raises what `rows` raises.
    """
    return _frame(plan, columns, score=False)


def rows(plan: Plan, columns: Sequence[str] | None = None) -> pl.LazyFrame:
    """The rows that qualify, in the order of the files; blocks that are KEEP are not scored.

    Raises FooterError and SchemaError as `Plan.scan` does; a file that was rewritten since it was planned fails the
    query when Polars runs it, with a ComputeError that says so. Files in stores are read by skipml, as by `Plan.scan`.
    """
    return _frame(plan, columns, score=True)


def _frame(plan: Plan, columns: Sequence[str] | None, *, score: bool) -> pl.LazyFrame:
    try:
        import polars as pl
    except ImportError:
        raise SkipmlError("this needs Polars: pip install 'skipml[polars]'") from None
    if any(isinstance(file, RemoteFile) for file in plan.footers.files):
        return _of_batches(plan, columns, score=score)
    names = plan.schema(columns).names
    frames = []
    for file, path in enumerate(plan.footers.files):
        inputs = _own_names(path, plan.predicate.inputs)
        for run in _runs(plan, file):
            # a limit makes each scan another one: Polars would read a file that is scanned twice once, as a whole
            frame = pl.scan_parquet(path, n_rows=run.stop, glob=False, hive_partitioning=False).slice(run.start)
            asked = pl.struct(inputs if score and not run.kept else names[:1])
            qualifies = partial(_qualifies, plan, file, score=score and not run.kept)
            passes = asked.map_batches(qualifies, return_dtype=pl.Boolean, is_elementwise=True)
            frames.append(frame.filter(passes).select(names))
    return pl.concat(frames) if frames else _empty(plan, names)


def _of_batches(plan: Plan, columns: Sequence[str] | None, *, score: bool) -> pl.LazyFrame:
    """The rows of a plan over stores as an IO source: Polars would read its footers again, and by its own options."""
    import polars as pl
    from polars.io.plugins import register_io_source

    schema = plan.schema(columns)

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        names = [name for name in schema.names if with_columns is None or name in with_columns] or schema.names[:1]
        left = n_rows
        reader = plan.scan(names) if score else plan.candidates(names).to_reader()
        for batch in reader:
            frame = pl.DataFrame(batch)
            frame = frame if left is None else frame.head(left)
            left = left if left is None else left - frame.height
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    empty = pl.DataFrame(schema.empty_table())
    return register_io_source(batches, schema=empty.schema)


def _empty(plan: Plan, names: Sequence[str]) -> pl.LazyFrame:
    """No rows of what Polars makes of the files' types."""
    import polars as pl

    if not plan.footers.files:
        return pl.DataFrame(plan.schema(names).empty_table()).lazy()
    return pl.scan_parquet(plan.footers.files[0], n_rows=0, glob=False, hive_partitioning=False).select(names)


def _own_names(path: str, inputs: Sequence[str]) -> list[str]:
    with pq.ParquetFile(path) as file:
        return own_names(file, inputs)


def _qualifies(plan: Plan, file: int, rows: pl.Series, *, score: bool) -> pl.Series:
    """Whether rows that were read qualify; the file is looked at after they were read, so they are those planned."""
    import polars as pl

    plan.check(file)
    if not score:
        return pl.Series([True]).new_from_index(0, len(rows))
    return pl.Series(plan.predicate.matches(rows.struct.unnest().to_arrow()))


def _runs(plan: Plan, file: int) -> list[_Run]:
    """The runs of rows of a file that are not skipped: rows of the smallest gaps between many are read as well, and
    scored.
    """
    footers = plan.footers
    mine = np.flatnonzero((footers.file_index == file) & (plan.decisions != SKIP) & (footers.n_rows > 0))
    if not len(mine):
        return []
    starts = footers.first_row[mine]
    stops = starts + footers.n_rows[mine]
    kept = plan.decisions[mine] == KEEP
    gap = np.where(kept[1:] == kept[:-1], starts[1:] - stops[:-1], np.maximum(starts[1:] - stops[:-1], 1))
    limit = np.sort(gap)[-_MOST_RUNS] if len(gap) >= _MOST_RUNS else 0
    first = np.concatenate([[True], gap > limit])
    edges = np.append(np.flatnonzero(first), len(mine))
    runs = []
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        whole = bool((gap[begin : end - 1] == 0).all() and kept[begin:end].all())
        runs.append(_Run(int(starts[begin]), int(stops[end - 1]), whole))
    return runs
