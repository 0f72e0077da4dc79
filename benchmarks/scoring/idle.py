"""What a filter costs that prunes nothing: the same query with skipping on and off, by turns. Python scores in a
function that DuckDB calls in both: large batches are pulled with skipping alone, and would hide what pruning costs.
"""

from __future__ import annotations

import math
import time
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


@dataclass(frozen=True, slots=True)
class Idle:
    """The median ratio of the times with skipping on and off, seconds of planning and of verification within it."""

    scorer: str
    ratio: float
    planning: float
    verification: float


def idle(table: Path, runs: int) -> list[Idle]:
    """With both scorers, on a filter that a row of every row group passes."""
    model = skipml.Model.from_torch(network((32, 32), seed=0), columns=list(COLUMNS))
    return [_idle(table, model, runs, extension=extension) for extension in (False, True)]


def _idle(table: Path, model: skipml.Model, runs: int, *, extension: bool) -> Idle:
    call = f"{FUNCTION}({', '.join(COLUMNS)})"
    never_pulled = patch.object(pulling, "least_rows", return_value=math.inf)
    with never_pulled, connect(extension=extension) as connection:
        connection.register_model(FUNCTION, model)
        connection.execute("SET parquet_metadata_cache = true; SET enable_progress_bar = false")
        limit = connection.execute(f"SELECT quantile_cont({call}, 0.9) FROM '{table}'").fetchone()
        assert limit is not None
        sql = f"SELECT count(*) FROM '{table}' WHERE {call} > {limit[0]}"
        on: list[float] = []
        off: list[float] = []
        planning: list[float] = []
        verification: list[float] = []
        for turn in range(runs * _TURNS):
            for skipping in ((True, False), (False, True))[turn % 2]:
                (on if skipping else off).append(_seconds(connection, sql, skipping=skipping))
                if skipping:
                    report = connection.last_report
                    assert report is not None
                    assert not report.counters["skipped"]
                    planning.append(report.seconds)
                    verification.append(sum(scan.decisions.seconds for scan in report.scans))
        ratio = median(a / b for a, b in zip(on, off, strict=True))
        scorer = "native" if connection.explain("").scorer.startswith("native") else "Python"
        return Idle(scorer, round(ratio, 4), round(median(planning), 5), round(median(verification), 5))


def _seconds(connection: Any, sql: str, *, skipping: bool) -> float:
    connection.skipping = skipping
    SHARED.forget()  # each plan begins with nothing
    started = time.perf_counter()
    connection.execute(sql).fetchall()
    return time.perf_counter() - started
