"""Row groups that are proved, what that takes, and queries end to end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from benchmarks.effectiveness.oracle import matches_per_block, threshold
from benchmarks.trees.fitting import Fitted, Floats, Target
from skipml.bounds.budget import Budget
from skipml.bounds.memory import SHARED

_KEY = "l_orderkey, l_linenumber"
_NATIVE = {"allow_unsigned_extensions": "true"}
"""The extension scores where it is built; what did is recorded."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """A filter on one layout: of `skippable` row groups, those proved by plans (`proved`), by intervals alone, and
    without a limit on the work (`unlimited`, 1,024 boxes per row group).
    """

    model: str
    target: str
    layout: str
    filter: str
    wanted: float
    selectivity: float
    row_groups: int
    skippable: int
    by_interval: int
    proved: int
    unlimited: int
    seconds: float
    undecided_by_interval: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Timed:
    """A query end to end, medians of warm runs in seconds."""

    model: str
    target: str
    layout: str
    selectivity: float
    rows: int
    library: float
    scoring: float
    skipping: float
    with_maps: float
    skipped: int
    skipped_with_maps: int
    row_groups: int
    scorer: str

    @property
    def speedups(self) -> tuple[float, float]:
        """Against the library's own function: without enrichment, and with score maps."""
        return self.library / self.skipping, self.library / self.with_maps


def pruned(found: Fitted, target: Target, case: tuple[str, str, Path], rows: Floats, wanted: float) -> list[Pruned]:
    """What is proved of the filters that about a share `wanted` of the rows pass; `case` is model, layout and file."""
    kind, layout, path = case
    scores = found.model.function.forward(rows)[:, 0].astype(np.float64)
    out = []
    for side, signed in ((">", scores), ("<", -scores)):
        limit = threshold(signed, wanted)
        if limit is None:
            continue
        matches = matches_per_block(signed, limit, pq.read_metadata(path).row_group(0).num_rows)
        test = found.model > limit if side == ">" else found.model < -limit
        plans = []
        for budget in (None, None, Budget.unlimited(boxes_per_block=1024)):
            SHARED.forget()  # each filter is the first on its model; the first plan maps memory
            plans.append(skipml.plan(path, test, budget=budget))
        _, plan, thorough = plans
        skippable = matches == 0
        first = skippable & (plan.decisions == skipml.SKIP) & (np.array(plan.result.method_names) == "interval")
        skipped = [(each.decisions == skipml.SKIP) for each in (plan, thorough)]
        out.append(
            Pruned(
                model=kind,
                target=target.name,
                layout=layout,
                filter=f"{side} {limit if side == '>' else -limit:.9g}",
                wanted=wanted,
                selectivity=float(matches.sum() / len(scores)),
                row_groups=len(matches),
                skippable=int(skippable.sum()),
                by_interval=int(first.sum()),
                proved=int((skipped[0] & skippable).sum()),
                unlimited=int((skipped[1] & skippable).sum()),
                seconds=plan.result.seconds,
                undecided_by_interval=int(len(matches) - first.sum()),
                wrong=int(sum((mask & ~skippable).sum() for mask in skipped)),
            )
        )
    return out


def timed(
    found: Fitted, target: Target, case: tuple[str, str, Path], rows: Floats, how: tuple[float, int]
) -> Timed | None:
    """A query through the library in an Arrow function of DuckDB, and through skipml, which give the same rows. `how`
    is the share of the rows that pass and the number of warm runs.
    """
    (kind, layout, path), (wanted, runs) = case, how
    scores = found.model.function.forward(rows)[:, 0].astype(np.float64)
    limit = threshold(scores, wanted)
    if limit is None:
        return None
    sql = f"SELECT {_KEY} FROM '{path}' WHERE f({', '.join(target.columns)}) > CAST({limit!r} AS DOUBLE)"
    root = path.parent / f"maps-{kind.replace(' ', '-')}-{target.name}"
    root.mkdir(exist_ok=True)
    skipml.enrich(path, target.columns, pairs=[], models=[found.model], root=root)
    with closing(_with_library(found, target)) as library, skipml.connect(config=_NATIVE) as con:
        con.register_model("f", found.model)
        with skipml.connect(config=_NATIVE, metadata_root=root) as enriched:
            enriched.register_model("f", found.model)
            systems: list[tuple[Any, bool]] = [(library, True), (con, False), (con, True), (enriched, True)]
            answers = [sorted(_run(system, sql, skips)[0]) for system, skips in systems]
            turns = [[_run(system, sql, skips)[1] for system, skips in systems] for _ in range(runs)]
            if any(answer != answers[0] for answer in answers):
                raise AssertionError(f"{kind}, {target.name}, {layout}: the systems give other rows")
            skipped = [_skipped(each) for each in (con, enriched)]
            scorer = con.last_report.scorer if con.last_report is not None else ""
    seconds = [median(column) for column in zip(*turns, strict=True)]
    return Timed(
        model=kind,
        target=target.name,
        layout=layout,
        selectivity=len(answers[0]) / len(rows),
        rows=len(answers[0]),
        library=seconds[0],
        scoring=seconds[1],
        skipping=seconds[2],
        with_maps=seconds[3],
        skipped=skipped[0],
        skipped_with_maps=skipped[1],
        row_groups=pq.read_metadata(path).num_row_groups,
        scorer=scorer,
    )


def _with_library(found: Fitted, target: Target) -> duckdb.DuckDBPyConnection:
    def score(*columns: Any) -> Any:
        return pa.array(found.predict(np.stack([column.to_numpy() for column in columns], axis=1).astype(np.float32)))

    names: Sequence[str] = target.columns
    score.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_ONLY) for n in names])  # type: ignore[attr-defined]
    con = duckdb.connect()
    con.create_function("f", score, ["DOUBLE"] * len(names), found.sql_type, type="arrow")  # type: ignore[call-overload]
    return con


def _run(con: Any, sql: str, skips: bool) -> tuple[list[Any], float]:
    if isinstance(con, skipml.Connection):
        con.skipping = skips
        SHARED.forget()
    start = time.perf_counter()
    rows = con.execute(sql).fetchall()
    return rows, time.perf_counter() - start


def _skipped(con: skipml.Connection) -> int:
    report = con.last_report
    return int(report.counters["skipped"]) if report is not None else 0
