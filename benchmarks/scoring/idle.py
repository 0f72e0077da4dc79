"""What a filter costs that prunes nothing: the same query with skipping on and off, by turns, as a new statement each
time, with another limit, and as one that is asked again. What is known of its bounds is forgotten in between.

Python scores in a function that DuckDB calls in both: large batches are pulled with skipping alone, and would hide what
pruning costs.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import skipml
from benchmarks.scorer import connect
from benchmarks.scoring.systems import COLUMNS, FUNCTION, network
from skipml.bounds.memory import SHARED
from skipml.engines import pulling

_TURNS = 7
_STEP = 1e-6
"""What a limit differs from the one before: hardly a row lies between."""


@dataclass(frozen=True, slots=True)
class Idle:
    """The median ratios of the times, and of the processor times, with skipping on and off, seconds of planning and of
    verification within it; `statement` says whether each was a new one or the same again.
    """

    scorer: str
    statement: str
    ratio: float
    processor: float
    planning: float
    verification: float
    first_planning: float
    """Seconds of the first plan on the connection."""


def idle(table: Path, runs: int) -> list[Idle]:
    """With both scorers, on a filter that a row of every row group passes."""
    model = skipml.Model.from_torch(network((32, 32), seed=0), columns=list(COLUMNS))
    return [found for extension in (False, True) for found in _idle(table, model, runs, extension=extension)]


def _idle(table: Path, model: skipml.Model, runs: int, *, extension: bool) -> Iterator[Idle]:
    call = f"{FUNCTION}({', '.join(COLUMNS)})"
    never_pulled = patch.object(pulling, "least_rows", return_value=math.inf)
    with never_pulled, connect(extension=extension) as connection:
        connection.register_model(FUNCTION, model)
        connection.execute("SET parquet_metadata_cache = true; SET enable_progress_bar = false")
        connection.skipping = False
        limit = connection.execute(f"SELECT quantile_cont({call}, 0.9) FROM '{table}'").fetchone()
        assert limit is not None
        limits = (limit[0] + _STEP * i for i in itertools.count())
        text = f"SELECT count(*) FROM '{table}' WHERE {call} > "
        connection.skipping = True
        first = connection.explain(f"{text}{next(limits)}").seconds
        scorer = "native" if connection.explain("").scorer.startswith("native") else "Python"
        for statement, sqls in (
            ("new", (f"{text}{other!r}" for other in limits)),
            ("again", itertools.repeat(f"{text}{limit[0]}")),
        ):
            yield _by_turns(connection, sqls, runs * _TURNS, (scorer, statement), first)


def _by_turns(connection: Any, sqls: Iterator[str], turns: int, named: tuple[str, str], first: float) -> Idle:
    wall: list[float] = []
    processor: list[float] = []
    reports: list[skipml.Report] = []
    for turn, sql in zip(range(turns), sqls, strict=False):
        found = {on: _seconds(connection, sql, skipping=on) for on in ((True, False), (False, True))[turn % 2]}
        wall.append(found[True][0] / found[False][0])
        processor.append(found[True][1] / found[False][1])
        report = connection.last_report
        assert report is not None
        assert not report.counters["skipped"]
        reports.append(report)
    verification = median(sum(scan.decisions.seconds for scan in report.scans) for report in reports)
    planning = median(report.seconds for report in reports)
    ratios = round(median(wall), 4), round(median(processor), 4)
    return Idle(*named, *ratios, round(planning, 5), round(verification, 5), round(first, 5))


def _seconds(connection: Any, sql: str, *, skipping: bool) -> tuple[float, float]:
    """Those of one run, and those of the processor."""
    connection.skipping = skipping
    SHARED.forget()  # each plan begins with nothing
    started, worked = time.perf_counter(), time.process_time()
    connection.execute(sql).fetchall()
    return time.perf_counter() - started, time.process_time() - worked
