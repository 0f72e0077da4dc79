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
from benchmarks.tpc.tables.summary import by_layout

_KINDS = {"above": "one-sided", "middle": "range, middle", "tail": "range, tail", "class": "class"}


def print_filters(console: Console, measured: Sequence[Measured], found: Mapping[str, Any]) -> None:
    """A table of filters for each layout, and the summary."""
    for name, (mine, metadata) in by_layout(measured).items():
        table = _table(name, ("model", "filter", "selectivity"))
        for heading in (
            "groups",
            "match",
            "read",
            "PyTorch s",
            "all scored s",
            "skipml s",
            "planning ms",
            "ratio",
            "oracle",
        ):
            table.add_column(heading, justify="right")
        for one in mine:
            table.add_row(*_cells(one, metadata))
        console.print(table)
    table = _table("times as fast as PyTorch: geometric means, filters of at most 0.1 %, a million rows and more", ())
    for heading in ("layout", "filters", "n", "skipping off", "skipml", "oracle", "effectiveness"):
        table.add_column(heading, justify="left" if heading in ("layout", "filters") else "right")
    for layout, figures in found["layouts"].items():
        effectiveness = figures["effectiveness"]
        for name, group in figures.items():
            if isinstance(group, dict):
                ratios = (group["skipping_off_ratio"], group["ratio"], group["oracle_ratio"])
                cells = (name, str(group["filters"]), *(f"{ratio:.2f}" for ratio in ratios))
                is_first = name == "all"
                share = "" if effectiveness is None or not is_first else f"{effectiveness:.1%}"
                table.add_row(layout if is_first else "", *cells, share)
    console.print(table)
    for which, name in (
        ("lowest", "against PyTorch, a million rows and more"),
        ("lowest of all tables", "against PyTorch, all tables"),
        ("lowest to skipping off", "against skipping off, a million rows and more"),
    ):
        lowest = found[which]
        console.print(f"lowest {name}: {lowest['ratio']:.3f} ({lowest['filter']}; {lowest['layout']})")
    console.print()


def _cells(one: Measured, metadata: str) -> tuple[str, ...]:
    skipping = one.skipping[metadata]
    return (
        one.filter.model,
        _KINDS[one.filter.kind],
        f"{one.filter.selectivity:.2%}",
        f"{one.row_groups:,}",
        f"{one.matching:,}",
        f"{one.row_groups - skipping.skipped:,}",
        f"{one.baseline:.3f}",
        f"{one.unskipped:.3f}",
        f"{median(skipping.seconds):.3f}",
        f"{1e3 * median(skipping.planning):.0f}",
        f"{one.ratio(metadata):.2f}",
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
