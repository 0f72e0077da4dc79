"""What the demo shows: tables on the terminal, a JSON file, a picture, the table of the README."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.demo.measure import Measured, Runs
from benchmarks.readme import replace_section

BEGIN, END = "<!-- demo: written by python -m benchmarks.demo --readme -->", "<!-- end of demo -->"
_HEADINGS = ("", "first run", "warm run", "processor", "against PyTorch", "row groups scanned")
_COLORS = ("#999999", "#009e73", "#56b4e9", "#d55e00")


def print_measured(console: Console, measured: Measured) -> None:
    """Print one layout: the times of each system, and skipml's own account of the query."""
    table = Table(title=f"lineitem {measured.layout}: {measured.rows:,} rows qualify", title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading else "left")
    for run in measured.runs:
        table.add_row(*_cells(run, measured.runs[0]))
    console.print(table)
    off, last = measured.runs[-2:]
    console.print(
        f"of skipml's warm run: planning {median(last.planning) * 1e3:.0f} ms, "
        f"of which verification {median(last.verification) * 1e3:.0f} ms"
    )
    processor = median(last.processor) / median(off.processor)
    console.print(f"skipping on / off: {last.median / off.median:.3f}, in processor time {processor:.3f}\n")
    console.print(measured.report, markup=False, highlight=False, soft_wrap=True)
    console.print()


def _cells(run: Runs, baseline: Runs) -> tuple[str, ...]:
    scanned, total = run.row_groups
    return (
        run.system,
        f"{run.first:.3f} s",
        f"{run.median:.3f} s",
        f"{median(run.processor):.3f} s",
        f"{baseline.median / run.median:.2f}x",
        f"{scanned:,} of {total:,}",
    )


def write_json(path: Path, environment: dict[str, Any], results: Sequence[Measured]) -> None:
    """Write every time of the run with what it was measured on."""
    found = {"environment": environment, "layouts": [_as_dict(measured) for measured in results]}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


def _as_dict(measured: Measured) -> dict[str, Any]:
    return {
        "layout": measured.layout,
        "query": measured.query,
        "rows": measured.rows,
        "sum": measured.total,
        "speedup_against_pytorch": round(measured.speedup, 2),
        "systems": [
            {
                "system": run.system,
                "median_seconds": round(run.median, 4),
                "first_seconds": round(run.first, 4),
                "warm_seconds": [round(seconds, 4) for seconds in run.warm],
                "processor_seconds": [round(seconds, 4) for seconds in run.processor],
                "planning_seconds": [round(seconds, 4) for seconds in run.planning],
                "verification_seconds": [round(seconds, 4) for seconds in run.verification],
                "row_groups_scanned": run.row_groups[0],
                "row_groups": run.row_groups[1],
            }
            for run in measured.runs
        ],
    }


def plot(path: Path, results: Sequence[Measured]) -> None:
    """Write a bar per layout and system with its time and what was scanned."""
    figure = Figure(figsize=(8, 0.4 + 0.5 * sum(len(measured.runs) for measured in results)), layout="constrained")
    panels = figure.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
    for axes, measured in zip(panels, results, strict=True):
        names = [run.system for run in measured.runs]
        seconds = [run.median for run in measured.runs]
        spread = [
            [run.median - min(run.warm) for run in measured.runs],
            [max(run.warm) - run.median for run in measured.runs],
        ]
        colors = [_COLORS[0], *_COLORS[1 - len(names) :]]
        bars = axes.barh(names, seconds, xerr=spread, color=colors, ecolor="#444444")
        labels = [f"{run.median:.3f} s, {run.row_groups[0]} of {run.row_groups[1]} row groups" for run in measured.runs]
        axes.bar_label(bars, labels, padding=6)
        axes.set_title(f"lineitem {measured.layout}: skipml {measured.speedup:.1f}x", loc="left", fontsize="medium")
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    longest = max(max(run.warm) for measured in results for run in measured.runs)
    panels[-1].set_xlim(0, 1.6 * longest)
    panels[-1].set_xlabel("seconds, median of the warm runs; lines from the fastest to the slowest")
    figure.savefig(path, dpi=120)


def update_readme(path: Path, environment: dict[str, Any], results: Sequence[Measured]) -> None:
    """Replace what stands between the markers of the README by the table of this run."""
    replace_section(path, BEGIN, END, _markdown(environment, results))


def _markdown(environment: dict[str, Any], results: Sequence[Measured]) -> str:
    lines = [
        f"| lineitem SF1 | {' | '.join(_HEADINGS)} |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for measured in results:
        for run in measured.runs:
            cells = _cells(run, measured.runs[0])
            lines.append(f"| {measured.layout} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _conditions(environment, results)])


def _conditions(environment: dict[str, Any], results: Sequence[Measured]) -> str:
    planning = median(results[-1].runs[-1].planning) * 1e3
    verification = median(results[-1].runs[-1].verification) * 1e3
    return (
        f"{results[0].rows:,} of 6,001,215 rows qualify. Medians of {len(results[0].runs[0].warm)} warm runs, taken by "
        f"turns; on the table {results[-1].layout}, planning takes {planning:.0f} ms of skipml's time, of which "
        f"verification {verification:.0f} ms. {environment['processor']}, {environment['cores']} cores; DuckDB "
        f"{environment['duckdb']}, PyTorch {environment['torch']} on one thread."
    )
