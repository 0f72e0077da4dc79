"""What the figures of all filters come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.tpc.tables.filters import FEW
from benchmarks.tpc.tables.layouts import ORDERS, ROW_GROUP_ROWS
from benchmarks.tpc.tables.pruning import Measured

LARGE = 1_000_000
"""Tables of this many rows and more are those that skipping is for."""


def summary(measured: Sequence[Measured]) -> dict[str, Any]:
    """By layout the geometric means over the filters of few rows on large tables, and the lowest ratio of all filters.

    Effectiveness is the share of the row groups without a match that is skipped, mean over the filters.
    """
    found: dict[str, Any] = {}
    for rows in ROW_GROUP_ROWS:
        for order in ORDERS:
            mine = [m for m in measured if m.layout.order == order and m.layout.row_group_rows == rows]
            if mine:
                found[f"{order}, {rows:,} rows"] = _of(mine)
    lowest = min(measured, key=lambda m: m.ratio)
    found["lowest ratio"] = {
        "ratio": round(lowest.ratio, 3),
        "filter": f"{lowest.filter.model}, {lowest.filter.kind}, {lowest.filter.selectivity:g}",
        "layout": f"{lowest.layout.table}, {lowest.layout.order}, {lowest.layout.row_group_rows:,} rows",
    }
    return found


def _of(measured: Sequence[Measured]) -> dict[str, Any]:
    few = [m for m in measured if m.filter.selectivity <= FEW and n_rows(m) >= LARGE]
    groups = {
        "all": few,
        "one-sided": [m for m in few if m.filter.kind == "above"],
        "range in the tail": [m for m in few if m.filter.kind == "tail"],
        "range in the middle": [m for m in few if m.filter.kind == "middle"],
        **{table: [m for m in few if m.layout.table == table] for table in dict.fromkeys(m.layout.table for m in few)},
    }
    skippable = [m for m in measured if m.matching < m.row_groups]
    return {
        "lowest_ratio": round(min(m.ratio for m in measured), 3),
        "effectiveness": round(float(np.mean([_effectiveness(m) for m in skippable])), 4) if skippable else None,
        **{
            name: {
                "filters": len(some),
                "ratio": geometric_mean([m.ratio for m in some]),
                "oracle_ratio": geometric_mean([m.oracle_ratio for m in some]),
            }
            for name, some in groups.items()
            if some
        },
    }


def _effectiveness(one: Measured) -> float:
    return (one.row_groups - one.read) / (one.row_groups - one.matching)


def n_rows(one: Measured) -> int:
    """The rows of a filter's table, rounded up to whole row groups."""
    return one.row_groups * one.layout.row_group_rows


def geometric_mean(ratios: Sequence[float]) -> float:
    """Rounded to three digits behind the point."""
    return round(float(np.exp(np.mean(np.log(ratios)))), 3)
