"""Runs model filters over the whole tables of a suite, end to end, and writes results/tables.json and its pictures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.environment import environment
from benchmarks.scorer import name_of_scorer
from benchmarks.tpc.suite import ModelSpec, Suite
from benchmarks.tpc.tables.case import Case
from benchmarks.tpc.tables.comparison import INLINED, Timed, compare, systems_of
from benchmarks.tpc.tables.filters import SELECTIVITIES
from benchmarks.tpc.tables.layouts import METHOD, ORDERS, ROW_GROUP_ROWS, Layout
from benchmarks.tpc.tables.output import print_filters, print_systems, write_json
from benchmarks.tpc.tables.plots import plot_ratios, plot_systems
from benchmarks.tpc.tables.pruning import Measured, chosen, measure
from benchmarks.tpc.tables.summary import summary


def run(
    suite: Suite, *, scale: float = 1, seed: int = 0, runs: int = 3, quick: bool = False, console: Console
) -> dict[str, Any]:
    """Measure, print and write the figures of a suite; `quick` takes the representative model's table and two
    selectivities, and writes nothing.

    Raises AssertionError where two ways give other rows.
    """
    torch.set_num_threads(1)  # more only compete with DuckDB's own threads
    cases = _cases(suite, scale, seed, quick)
    layouts = [Layout(suite, t, o, n, scale) for t in _tables(cases) for n in ROW_GROUP_ROWS for o in ORDERS]
    if quick:
        layouts = [layout for layout in layouts if layout.row_group_rows == min(ROW_GROUP_ROWS)]
    with _progress(console) as progress:
        task = progress.add_task("layouts", total=len(layouts))
        for layout in layouts:
            progress.update(task, description=f"{layout.table}: {layout.order}, {layout.row_group_rows:,} rows a group")
            _ = layout.path
            progress.advance(task)
        measured = _filters(cases, layouts, runs, quick, progress)
        timed = _systems(suite, cases, runs, quick, progress)
    found: dict[str, Any] = {
        "suite": suite.name,
        "environment": environment(),
        "scorer": name_of_scorer(),
        "scale": scale,
        "seed": seed,
        "runs": runs,
        "clustered": f"skipml.cluster, {METHOD}, by the inputs of all models of the table",
        "models": [_model(case) for case in cases],
        "layouts": [_layout(layout) for layout in layouts],
        "summary": summary(measured),
        "filters": [_filter(one) for one in measured],
        "systems": [asdict(one) | {"seconds": one.seconds} for one in timed],
    }
    print_filters(console, measured, found["summary"])
    print_systems(console, suite, timed)
    if not quick:
        suite.results.mkdir(parents=True, exist_ok=True)
        write_json(suite.results / "tables.json", found)
        plot_ratios(suite.results / "tables.png", suite, measured)
        plot_systems(suite.results / "systems.png", suite, timed)
        console.print(f"Every way gave the same rows. Figures: {suite.results}/tables.json, tables.png, systems.png")
    return found


def _cases(suite: Suite, scale: float, seed: int, quick: bool) -> list[Case]:
    tables = {table.name: table for table in suite.tables}
    wanted = [spec for spec in suite.models if not quick or spec.name == suite.representative]
    return [Case(spec, tables[spec.table], _generated(suite, spec, scale), seed) for spec in wanted]


def _generated(suite: Suite, spec: ModelSpec, scale: float) -> Layout:
    return Layout(suite, spec.table, "generated", min(ROW_GROUP_ROWS), scale)


def _tables(cases: list[Case]) -> list[str]:
    return list(dict.fromkeys(case.spec.table for case in cases))


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _filters(cases: list[Case], layouts: list[Layout], runs: int, quick: bool, progress: Progress) -> list[Measured]:
    """Every filter on every layout of its table."""
    measured: list[Measured] = []
    task = progress.add_task("filters", total=None)
    for case in cases:
        for layout in layouts:
            if layout.table != case.spec.table:
                continue
            progress.update(task, description=f"{case.spec.name}: {layout.order}, {layout.row_group_rows:,}")
            filters = chosen(case.filters, layout.row_group_rows, quick)
            measured += measure(case, layout, filters, runs=runs, tick=lambda: progress.advance(task))
    return measured


def _systems(suite: Suite, cases: list[Case], runs: int, quick: bool, progress: Progress) -> list[Timed]:
    """Every system on the representative model, at every selectivity."""
    case = next(case for case in cases if case.spec.name == suite.representative)
    generated = case.generated
    clustered = Layout(suite, generated.table, "clustered", generated.row_group_rows, generated.scale)
    few = [s for s in SELECTIVITIES if not quick or s in (0.01, 0.001)]
    filters = [f for f in case.filters if f.kind == "above" and f.selectivity in few]
    task = progress.add_task(f"{case.spec.name}: all systems", total=None)
    with systems_of(case, generated, clustered) as systems:
        fast = [system for system in systems if not quick or system.name != INLINED]
        return compare(case, fast, filters, runs=runs, tick=lambda: progress.advance(task))


def _model(case: Case) -> dict[str, Any]:
    spec = asdict(case.spec)
    return {**spec, "hash": case.model.hash, "inputs": case.inputs}


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "table": layout.table,
        "order": layout.order,
        "row_group_rows": layout.row_group_rows,
        "row_groups": len(layout.starts),
        "bytes": layout.path.stat().st_size,
    }


def _filter(one: Measured) -> dict[str, Any]:
    """The figures of one filter; numbers of row groups do not change from run to run."""
    return {
        "model": one.filter.model,
        "table": one.layout.table,
        "order": one.layout.order,
        "row_group_rows": one.layout.row_group_rows,
        "kind": one.filter.kind,
        "selectivity": one.filter.selectivity,
        "condition": one.filter.condition(one.filter.model),
        "rows": one.rows,
        "row_groups": one.row_groups,
        "row_groups_with_a_match": one.matching,
        "pytorch_seconds": _rounded(one.pytorch),
        "oracle_seconds": _rounded(one.oracle),
        "oracle_ratio": round(one.oracle_ratio, 3),
        "skipping_off_seconds": _rounded(one.scoring),
        "skipping_off_ratio": round(one.scoring_ratio, 3),
        "skipml": [
            {
                "metadata": metadata,
                "row_groups_skipped": skipping.skipped,
                "seconds": _rounded(skipping.seconds),
                "planning_seconds": _rounded(skipping.planning),
                "verification_seconds": _rounded(skipping.verification),
                "ratio": round(one.ratio(metadata), 3),
                "ratio_to_skipping_off": round(one.own_ratio(metadata), 3),
            }
            for metadata, skipping in one.skipping.items()
        ],
    }


def _rounded(seconds: list[float]) -> list[float]:
    return [round(second, 5) for second in seconds]
