"""Measures what scoring alone costs in DuckDB, with skipping off, and how far the scores lie apart.

usage: python -m benchmarks.scoring [--runs 3] [--rows 10000000] [--only idle] [--output FOLDER]

Makes its data first (TPC-H SF1, kept under .data/). Writes results/scoring.json beside this file; with --only idle it
measures a filter that prunes nothing, prints the figures and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.scorer import name_of_scorer
from benchmarks.scoring.differences import differences
from benchmarks.scoring.idle import Idle, idle
from benchmarks.scoring.systems import PYTORCH, Query, System, call, network, queries, systems
from benchmarks.tpc.data import tpc_table

RESULTS = Path(__file__).with_name("results")
HIDDEN = ((32, 32), (256, 256))
THREADS = (1, 2)


@dataclass(slots=True)
class Timed:
    """Seconds of the runs of a query on one system; `without` is the same query without a model."""

    network: str
    threads: int
    behind: str
    system: str
    seconds: list[float] = field(default_factory=list)
    without: float = 0.0
    ratio: float = 0.0
    """How many times as long PyTorch takes."""


def measure(table: Path, runs: int) -> Iterator[Timed]:
    """Every system on every query, by turns; raises AssertionError where two find other rows or scores."""
    for hidden in HIDDEN:
        name = "-".join(map(str, (4, *hidden, 1)))
        contenders = systems(network(hidden, seed=0))
        for threads in THREADS:
            for query in queries(table):
                few = 1 if hidden == HIDDEN[-1] and query.behind == "all rows" else runs
                yield from _by_turns(name, threads, query, contenders, few)


def _by_turns(name: str, threads: int, query: Query, contenders: tuple[System, ...], runs: int) -> list[Timed]:
    found = [Timed(name, threads, query.behind, system.name) for system in contenders]
    with ExitStack() as stack:
        connections = [stack.enter_context(system.open(threads)) for system in contenders]
        for connection in connections:
            connection.execute("SET parquet_metadata_cache = true; SET enable_progress_bar = false")
            connection.execute(f"SELECT {call(('1', '2', '3', '4'))}")
        without = min(_seconds(connections[0], query.without)[0] for _ in range(runs + 1))
        rows = []
        for turn in range(runs):
            for i in (*range(turn % len(found), len(found)), *range(turn % len(found))):
                seconds, row = _seconds(connections[i], query.sql)
                found[i].seconds.append(round(seconds, 5))
                rows.append(row)
    assert all(row[0] == rows[0][0] and abs(row[1] - rows[0][1]) < 1e-4 * abs(rows[0][1]) for row in rows), f"{rows}"
    baseline = next(median(one.seconds) for one in found if one.system == PYTORCH)
    for one in found:
        one.without, one.ratio = round(without, 5), round(baseline / median(one.seconds), 3)
    return found


def _seconds(connection: Any, sql: str) -> tuple[float, Any]:
    started = time.perf_counter()
    row = connection.execute(sql).fetchone()
    return time.perf_counter() - started, row


def _print(console: Console, found: list[Timed], unpruned: list[Idle]) -> None:
    table = Table(title="seconds, and times as fast as PyTorch", title_justify="left", box=SIMPLE)
    for heading in ("network", "behind", "system"):
        table.add_column(heading)
    for heading in ("threads", "seconds", "scan alone", "ratio"):
        table.add_column(heading, justify="right")
    for one in found:
        cells = (str(one.threads), f"{median(one.seconds):.3f}", f"{one.without:.3f}", f"{one.ratio:.2f}")
        table.add_row(one.network, one.behind, one.system, *cells)
    console.print(table)
    _print_idle(console, unpruned)


def _print_idle(console: Console, unpruned: list[Idle]) -> None:
    for two in unpruned:
        console.print(
            f"a filter that prunes nothing ({two.scorer}, {two.statement} statement): {two.ratio:.3f} of the time "
            f"without verification, {two.processor:.3f} of the processor's, planning {1e3 * two.planning:.1f} ms, "
            f"verification {1e3 * two.verification:.1f} ms; the first plan {1e3 * two.first_planning:.1f} ms"
        )


def main() -> None:
    """Measure, print and write as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each way and query (default 3)")
    parser.add_argument("--rows", type=int, default=10_000_000, metavar="N", help="random rows to compare scores of")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where results go")
    parser.add_argument("--only", choices=["idle"], help="measure a filter that prunes nothing, and write nothing")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    torch.set_num_threads(1)  # more only compete with DuckDB's own threads
    table = tpc_table("tpch", "lineitem", row_group_rows=16_384)
    if options.only == "idle":
        _print_idle(console, idle(table, options.runs))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    found = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scoring", total=len(HIDDEN) * len(THREADS) * len(queries(table)) * 3)
        for one in measure(table, options.runs):
            found.append(one)
            progress.advance(task)
    with console.status("a filter that prunes nothing"):
        unpruned = idle(table, options.runs)
    with console.status("comparing scores"):
        apart = [differences(network(hidden, seed=0), options.rows // len(HIDDEN), seed=1) for hidden in HIDDEN]
    _print(console, found, unpruned)
    for hidden, those in zip(HIDDEN, apart, strict=True):
        console.print(
            f"4-{'-'.join(map(str, hidden))}-1: {those.rows:,} rows, scores of torch and of skipml differ by at most "
            f"{those.largest:.3g}, {those.share_of_margin:.1%} of the margin; contradictions: {those.contradictions}"
        )
    assert all(those.share_of_margin <= 1 and not those.contradictions for those in apart), (
        "scores lie beyond the margin"
    )
    options.output.mkdir(parents=True, exist_ok=True)
    record = {
        "environment": environment(),
        "scorer": name_of_scorer(),
        "scoring": [asdict(one) for one in found],
        "prunes nothing": [asdict(one) for one in unpruned],
        "differences": [{"hidden": hidden, **asdict(those)} for hidden, those in zip(HIDDEN, apart, strict=True)],
    }
    (options.output / "scoring.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
