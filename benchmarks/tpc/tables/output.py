"""What the run shows on the terminal, and its JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.tpc.suite import Suite
from benchmarks.tpc.tables.comparison import Timed
from benchmarks.tpc.tables.pruning import Measured

_KINDS = {"above": "one-sided", "middle": "range, middle", "tail": "range, tail", "class": "class"}


def print_pruning(console: Console, measured: Sequence[Measured], found: Mapping[str, Any]) -> None:
    """A table of filters for each layout, and the summary."""
    for order, rows in dict.fromkeys((m.layout.order, m.layout.row_group_rows) for m in measured):
        mine = [m for m in measured if (m.layout.order, m.layout.row_group_rows) == (order, rows)]
        table = _table(f"{order}, {rows:,} rows per group", ("model", "filter", "selectivity"))
        for heading in ("match", "read", "groups", "PyTorch s", "skipml s", "planning ms", "ratio", "oracle"):
            table.add_column(heading, justify="right")
        for one in mine:
            table.add_row(*_cells(one))
        console.print(table)
    table = _table("geometric means over filters of at most 0.1 % on tables of a million rows", ("layout", "filters"))
    for heading in ("n", "ratio", "oracle", "lowest of all"):
        table.add_column(heading, justify="right")
    for layout, figures in found.items():
        if "lowest_ratio" in figures:
            for name, group in figures.items():
                if isinstance(group, dict):
                    ratios = (f"{group['ratio']:.2f}", f"{group['oracle_ratio']:.2f}")
                    lowest = f"{figures['lowest_ratio']:.2f}" if name == "all" else ""
                    table.add_row(layout if name == "all" else "", name, str(group["filters"]), *ratios, lowest)
    console.print(table)
    lowest = found["lowest ratio"]
    console.print(f"lowest ratio: {lowest['ratio']:.3f} ({lowest['filter']} on {lowest['layout']})\n")


def _cells(one: Measured) -> tuple[str, ...]:
    return (
        one.filter.model,
        _KINDS[one.filter.kind],
        f"{one.filter.selectivity:.2%}",
        f"{one.matching:,}",
        f"{one.read:,}",
        f"{one.row_groups:,}",
        f"{one.baseline:.3f}",
        f"{median(one.skipml):.3f}",
        f"{1e3 * median(one.planning):.0f}",
        f"{one.ratio:.2f}",
        f"{one.oracle_ratio:.2f}",
    )


def print_systems(console: Console, suite: Suite, timed: Sequence[Timed]) -> None:
    """A table of the systems: cold and warm seconds at each selectivity."""
    selectivities = list(dict.fromkeys(one.selectivity for one in timed))
    table = _table(f"{suite.representative}: seconds of the first query / of a warm one", ("system", "table"))
    for selectivity in selectivities:
        table.add_column(f"{selectivity:.2%}", justify="right")
    for system, order in dict.fromkeys((one.system, one.order) for one in timed):
        cells = []
        for selectivity in selectivities:
            hits = [t for t in timed if (t.system, t.order, t.selectivity) == (system, order, selectivity)]
            cells.append(_seconds(hits[0]) if hits else "")
        table.add_row(system, order, *cells)
    console.print(table)


def _seconds(one: Timed) -> str:
    return f"{one.cold:.3f} / {median(one.warm):.3f}" if one.warm else f"{one.cold:.2f}"


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write all figures."""
    path.write_text(json.dumps(found, indent=1) + "\n")
