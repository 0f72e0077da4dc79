"""What the benchmark shows: a table on the terminal, a JSON file, a picture, the table of the README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.readme import replace_section
from benchmarks.topk.measure import Measured, Skipping

BEGIN, END = "<!-- topk: written by python -m benchmarks.topk --readme -->", "<!-- end of topk -->"
_HEADINGS = ("first rows", "metadata", "row groups visited", "read", "rows scored", "planning", "skipml", "all scores")
_COLORS = {"footers": "#56b4e9", "hulls": "#009e73", "score maps": "#d55e00"}
_SHOWN_K = 10


def print_measured(console: Console, measured: Sequence[Measured]) -> None:
    """Print a table for each model and order of the table."""
    for model, layout in dict.fromkeys((m.model, m.layout) for m in measured):
        mine = [m for m in measured if (m.model, m.layout) == (model, layout)]
        title = f"{model}, lineitem {layout}: {mine[0].rows:,} rows in {mine[0].row_groups} row groups"
        table = Table(title=title, title_justify="left", box=SIMPLE)
        for heading in (*_HEADINGS, "ratio", "processor", "PyTorch"):
            table.add_column(heading, justify="left" if heading in _HEADINGS[:2] else "right")
        for one in mine:
            for skipping in one.skipping:
                extra = f"{skipping.processor_ratio:.2f}x", f"{one.pytorch:.2f} s"
                table.add_row(*_cells(one, skipping), *extra)
        console.print(table)


def _cells(one: Measured, skipping: Skipping) -> tuple[str, ...]:
    return (
        _asked(one),
        skipping.metadata,
        str(skipping.visited),
        str(skipping.read),
        f"{skipping.rows_scored / one.rows:.1%}",
        f"{1e3 * median(skipping.planning):.0f} ms",
        f"{1e3 * skipping.on.median:.0f} ms",
        f"{1e3 * skipping.off.median:.0f} ms",
        f"{skipping.ratio:.2f}x",
    )


def _asked(one: Measured) -> str:
    question = one.question
    return f"{question.k} {question.order}" + (f", {question.where}" if question.where else "")


def write_json(path: Path, setting: Mapping[str, Any], measured: Sequence[Measured]) -> None:
    """Write every time of the run with what it was measured on."""
    results = [
        {
            **asdict(one),
            "skipping": [
                {**asdict(s), "ratio": round(s.ratio, 3), "processor_ratio": round(s.processor_ratio, 3)}
                for s in one.skipping
            ],
        }
        for one in measured
    ]
    path.write_text(json.dumps({**setting, "results": results}, indent=1) + "\n")


def plot(path: Path, measured: Sequence[Measured]) -> None:
    """Write a panel per model and order of the table: how many times as fast as computing every score."""
    panels = list(dict.fromkeys((m.model, m.layout) for m in measured))
    asked = list(dict.fromkeys(_asked(m) for m in measured))
    figure = Figure(figsize=(10, 1 + 0.3 * len(asked) * -(-len(panels) // 2) * 1.6), layout="constrained")
    grid = figure.subplots(-(-len(panels) // 2), 2, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (model, layout) in zip(grid, panels, strict=False):
        mine = [m for m in measured if (m.model, m.layout) == (model, layout)]
        for i, (name, color) in enumerate(_COLORS.items()):
            found = [next(s for s in m.skipping if s.metadata == name) for m in mine]
            places = [asked.index(_asked(m)) + 0.27 * (i - 1) for m in mine]
            axes.barh(places, [s.ratio for s in found], height=0.25, color=color, label=name)
        axes.axvline(1, color="#444444", linewidth=0.8)
        axes.set_title(f"{model}, {layout}", loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize="small")
    grid[0].set_yticks(range(len(asked)), asked)
    grid[0].invert_yaxis()
    grid[0].legend(loc="lower right", fontsize="small", frameon=False)
    figure.supxlabel("times as fast as computing every score on the same connection, by the same function")
    figure.savefig(path, dpi=120)


def update_readme(path: Path, environment: Mapping[str, Any], measured: Sequence[Measured]) -> None:
    """Replace what stands between the markers of the README by the table of this run."""
    replace_section(path, BEGIN, END, _markdown(environment, measured))


def _markdown(environment: Mapping[str, Any], measured: Sequence[Measured]) -> str:
    lines = [
        f"| lineitem SF1 | {' | '.join(_HEADINGS)} | ratio |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    shown = [one for one in measured if one.model == measured[0].model and one.question.k == _SHOWN_K]
    lines += [f"| {one.layout} | {' | '.join(_cells(one, s))} |" for one in shown for s in one.skipping]
    pytorch = median(m.pytorch for m in measured)
    n = len(measured[0].skipping[0].on.seconds)
    lines += [
        "",
        f"Model {measured[0].model}, {measured[0].row_groups} row groups; medians of {n} warm runs by turns on one"
        f" connection with skipping on and off, planning counted; PyTorch in a function takes {pytorch:.1f} s. Rows"
        f" scored are those of both passes. {environment['processor']}, {environment['cores']} cores, load average"
        f" {environment['load_average']}; DuckDB {environment['duckdb']}.",
    ]
    return "\n".join(lines)
