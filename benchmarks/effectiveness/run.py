"""Measures how many of the row groups without a qualifying row skipml skips, from plain min-max metadata.

usage: python -m benchmarks.effectiveness.run [--only NAME] [--output FOLDER]

Writes results/effectiveness.json and results/effectiveness.png. Fails if a skipped row group holds a qualifying row.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import skipml
from benchmarks.effectiveness.oracle import block_sizes, matches_per_block, threshold
from benchmarks.effectiveness.plot import plot
from benchmarks.effectiveness.summary import METHODS, print_summary, summary
from benchmarks.effectiveness.tables import read_inputs, sliced_table
from benchmarks.effectiveness.training import score, trained
from benchmarks.effectiveness.workload import Function, Workload, load_workload
from benchmarks.environment import environment
from skipml.bounds.budget import Budget
from skipml.bounds.memory import SHARED

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Case:
    """One filter, `function > threshold`: what an oracle would skip, what was skipped, what that cost.

    `skipped` is what skipml.plan skips, which spends no more on verification than it may be worth; `by_method` is what
    each method of the ladder proves without that guard (up to 256 boxes per row group).
    """

    function: str
    table: str
    kind: str
    widths: str
    model: str
    selectivity: float
    actual_selectivity: float
    threshold: float
    row_groups: int
    skippable: int
    skipped: int
    by_method: dict[str, int]
    unsound: int
    seconds: float
    unguarded_seconds: float


def measure(workload: Workload, function: Function) -> Iterator[Case]:
    """The cases of one function; a selectivity that ties rule out is left out."""
    path = sliced_table(workload, function)
    inputs, has_inputs = read_inputs(path, function.columns)
    module = trained(workload, function, inputs, has_inputs)
    scores = score(module, inputs)
    model = skipml.Model.from_torch(module, columns=function.columns)
    for selectivity in workload.selectivities:
        limit = threshold(scores, selectivity)
        if limit is None:
            continue
        matches = matches_per_block(scores, limit, workload.row_group_rows)
        SHARED.forget()  # each filter is the first on its model
        plan = skipml.plan(path, model > limit)
        unguarded = skipml.plan(path, model > limit, budget=Budget.unlimited(boxes_per_block=256))
        if plan.table.column("n_rows").to_pylist() != block_sizes(len(scores), workload.row_group_rows):
            raise RuntimeError(f"{path}: its row groups are not of {workload.row_group_rows} rows; remove the file")
        yield Case(
            function=function.name,
            table=function.table,
            kind=function.kind,
            widths=function.widths,
            model=model.hash[:16],
            selectivity=selectivity,
            actual_selectivity=float(matches.sum() / len(scores)),
            threshold=limit,
            row_groups=len(matches),
            skippable=int((matches == 0).sum()),
            skipped=int(((plan.decisions == skipml.SKIP) & (matches == 0)).sum()),
            by_method=_by_method(unguarded, matches),
            unsound=unsound(plan, matches) + unsound(unguarded, matches),
            seconds=plan.result.seconds,
            unguarded_seconds=unguarded.result.seconds,
        )


def _by_method(plan: skipml.Plan, matches: NDArray[np.int64]) -> dict[str, int]:
    """Row groups rightly skipped, by the method that proved it."""
    skipped = (plan.decisions == skipml.SKIP) & (matches == 0)
    method = np.array(plan.table.column("method").to_pylist())
    return {name: int((skipped & (method == name)).sum()) for name in METHODS}


def unsound(plan: skipml.Plan, matches: NDArray[np.int64]) -> int:
    """Row groups skipped although a row qualifies, or kept although one does not."""
    skipped, kept = plan.decisions == skipml.SKIP, plan.decisions == skipml.KEEP
    sizes = plan.table.column("n_rows").to_numpy()
    return int((skipped & (matches > 0)).sum() + (kept & (matches < sizes)).sum())


def run(workload: Workload, console: Console) -> list[Case]:
    """All cases, with a progress bar where the console is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    cases: list[Case] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(workload.functions))
        for function in workload.functions:
            progress.update(task, description=function.name)
            cases += measure(workload, function)
            progress.advance(task)
    return cases


def main() -> None:
    """Run the workload, print the figures, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", metavar="NAME", default="", help="functions whose name contains this; writes nothing")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    workload = load_workload()
    workload.functions[:] = [function for function in workload.functions if options.only in function.name]
    console = Console(width=None if sys.stdout.isatty() else 100)
    cases = run(workload, console)
    found = summary(cases)
    print_summary(console, cases, found)
    if not options.only:
        options.output.mkdir(parents=True, exist_ok=True)
        record = {"environment": environment(), "summary": found, "cases": [asdict(case) for case in cases]}
        (options.output / "effectiveness.json").write_text(json.dumps(record, indent=1) + "\n")
        plot(cases, options.output / "effectiveness.png")
        console.print(f"wrote {options.output}/effectiveness.json and effectiveness.png")
    if found["unsound_row_groups"]:
        sys.exit("a skipped row group holds a qualifying row: this is a bug, please report it with the results file")


if __name__ == "__main__":
    main()
