"""Finds the lines of TPC-H lineitem (SF1) with the highest and the lowest scores, with skipping and without on the same
connection, and through PyTorch in a DuckDB function.

usage: python -m benchmarks.topk [--runs 5] [--readme] [--output FOLDER]

Makes its data first (kept under .data/). Writes topk.json and topk.png into results/ beside this file. Fails where two
ways give other rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.environment import environment
from benchmarks.scorer import name_of_scorer
from benchmarks.topk.measure import Measured, Question, measure
from benchmarks.topk.output import plot, print_measured, update_readme, write_json
from benchmarks.tpc.data import ROOT
from benchmarks.tpc.suite import Suite
from benchmarks.tpc.tables.case import Case
from benchmarks.tpc.tables.layouts import ORDERS, ROW_GROUP_ROWS, Layout
from benchmarks.tpch.models import SUITE

RESULTS = Path(__file__).with_name("results")
MODELS = ("charge", "given_away")
QUESTIONS = tuple(
    Question(order, k, where)
    for order in ("DESC", "ASC")
    for k, where in ((10, ""), (100, ""), (1000, ""), (10, "l_shipmode = 'AIR'"))
)


def run(suite: Suite, models: Sequence[str], runs: int, tick: Callable[[], None]) -> list[Measured]:
    """Measure every question on the models, in both orders of their table; `tick` is called after each."""
    torch.set_num_threads(1)  # more only compete with DuckDB's own threads
    tables = {table.name: table for table in suite.tables}
    found: list[Measured] = []
    for spec in suite.models:
        if spec.name not in models:
            continue
        layouts = [Layout(suite, spec.table, order, min(ROW_GROUP_ROWS)) for order in ORDERS]
        case = Case(spec, tables[spec.table], layouts[0], 0)
        for layout in layouts:
            found += measure(case, layout, QUESTIONS, runs=runs, tick=tick)
    return found


def main() -> None:
    """Measure, print and write as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topk", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="warm runs of each (default 5)")
    parser.add_argument("--readme", action="store_true", help="write the table of figures into README.md")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where results go")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("top-k", total=len(MODELS) * len(ORDERS) * len(QUESTIONS))
        found = run(SUITE, MODELS, max(1, options.runs), lambda: progress.advance(task))
    print_measured(console, found)
    options.output.mkdir(parents=True, exist_ok=True)
    machine = environment()
    write_json(options.output / "topk.json", {"environment": machine, "scorer": name_of_scorer()}, found)
    plot(options.output / "topk.png", found)
    if options.readme:
        update_readme(ROOT / "README.md", machine, found)
    console.print(f"Every way gave the same rows. Figures: {options.output}/topk.json and topk.png")


if __name__ == "__main__":
    main()
