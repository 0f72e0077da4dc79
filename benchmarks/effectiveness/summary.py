"""The figures of the workload: shares of what an oracle skips, by method, and what verification costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from benchmarks.effectiveness.run import Case

METHODS = ("interval", "crown", "branch")
"""The ladder, as plans name it; each method works on what the ones before it left."""
TITLES = ("interval", "CROWN", "BaB")


def method_shares(case: Case) -> list[float]:
    """Proved of skippable row groups after each method of the ladder, without the cost guard."""
    return list(np.cumsum([case.by_method[method] for method in METHODS]) / case.skippable)


def planned_share(case: Case) -> float:
    """Skipped of skippable row groups, as plan does it."""
    return case.skipped / case.skippable


def summary(cases: Sequence[Case]) -> dict[str, Any]:
    """Means over the cases in which an oracle could skip something; costs over all cases, in us per row group."""
    counted = [case for case in cases if case.skippable]
    row_groups = sum(case.row_groups for case in cases)
    methods = np.mean([method_shares(case) for case in counted] or [[0.0] * len(METHODS)], axis=0)
    return {
        "cases": len(cases),
        "cases_with_skippable": len(counted),
        "row_groups": row_groups,
        "skippable": sum(case.skippable for case in cases),
        "skipped": sum(case.skipped for case in cases),
        "unsound_row_groups": sum(case.unsound for case in cases),
        "mean_effectiveness": _rounded(np.mean([planned_share(case) for case in counted] or [0.0])),
        "us_per_row_group": _rounded(1e6 * sum(case.seconds for case in cases) / row_groups, 1),
        "us_per_row_group_p99_of_cases": _rounded(
            np.quantile([1e6 * case.seconds / case.row_groups for case in cases], 0.99), 1
        ),
        "unguarded": {
            "mean_effectiveness": dict(zip(METHODS, map(_rounded, methods), strict=True)),
            "us_per_row_group": _rounded(1e6 * sum(case.unguarded_seconds for case in cases) / row_groups, 1),
        },
    }


def print_summary(console: Console, cases: Sequence[Case], found: dict[str, Any]) -> None:
    """Print the shares by table, kind, network and selectivity, then the totals."""
    groups: dict[str, Callable[[Case], str]] = {
        "table": lambda case: case.table,
        "kind": lambda case: case.kind,
        "network": lambda case: case.widths,
        "selectivity": lambda case: f"{100 * case.selectivity:g} %",
    }
    for title, key in groups.items():
        table = _table(title)
        for name in dict.fromkeys(map(key, cases)):
            table.add_row(name, *_cells(summary([case for case in cases if key(case) == name])))
        console.print(table)
    table = _table("all")
    table.add_row("", *_cells(found))
    console.print(table)
    console.print("skipped: by plan, mean of the share of what an oracle skips; us: verification per row group")
    console.print("interval, CROWN, BaB: up to and with this method, without plan's cost guard; us: of all three")
    console.print(f"99th percentile over the cases: {found['us_per_row_group_p99_of_cases']} us per row group")
    console.print(f"skipped row groups that hold a qualifying row: {found['unsound_row_groups']}")


def _table(title: str) -> Table:
    table = Table(box=SIMPLE, padding=0)
    table.add_column(title, no_wrap=True)
    for name in ("cases", "skippable", "skipped", "us", *TITLES, "us"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(part: dict[str, Any]) -> list[str]:
    unguarded = part["unguarded"]
    return [
        f"{part['cases_with_skippable']}/{part['cases']}",
        f"{part['skippable']:,}",
        f"{100 * part['mean_effectiveness']:.1f} %",
        f"{part['us_per_row_group']:.0f}",
        *(f"{100 * share:.1f} %" for share in unguarded["mean_effectiveness"].values()),
        f"{unguarded['us_per_row_group']:.0f}",
    ]


def _rounded(value: float | np.floating, digits: int = 4) -> float:
    return round(float(value), digits)
