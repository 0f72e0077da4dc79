"""What the figures of all filters come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.tpc.tables.filters import FEW
from benchmarks.tpc.tables.pruning import Measured

LARGE = 1_000_000
"""Tables of this many rows and more are those that skipping is for."""


def summary(measured: Sequence[Measured]) -> dict[str, Any]:
    """By layout and metadata the geometric means over the filters of few rows on large tables, and the lowest ratio of
    all filters.
    """
    found = {}
    for name, (mine, metadata) in by_layout(measured).items():
        found[name] = {"effectiveness": _effectiveness(mine, metadata), **_ratios(mine, metadata)}
    large = [one for one in measured if n_rows(one) >= LARGE]
    return {
        "layouts": found,
        "lowest": _lowest(large or measured, Measured.ratio),
        "lowest of all tables": _lowest(measured, Measured.ratio),
        "lowest to skipping off": _lowest(large or measured, Measured.own_ratio),
    }


def by_layout(measured: Sequence[Measured]) -> dict[str, tuple[list[Measured], str]]:
    """The filters of each layout and kind of metadata, by the name of both."""
    found: dict[str, tuple[list[Measured], str]] = {}
    for one in measured:
        for metadata in one.skipping:
            name = f"{one.layout.order}, {one.layout.row_group_rows:,} rows a group"
            name += f", {metadata}" if metadata != "none" else ""
            found.setdefault(name, ([], metadata))[0].append(one)
    return found


def _ratios(measured: Sequence[Measured], metadata: str) -> dict[str, Any]:
    few = [m for m in measured if m.filter.selectivity <= FEW and n_rows(m) >= LARGE]
    groups = {
        "all": few,
        "one-sided": [m for m in few if m.filter.kind == "above"],
        "range in the tail": [m for m in few if m.filter.kind == "tail"],
        "range in the middle": [m for m in few if m.filter.kind == "middle"],
        **{table: [m for m in few if m.layout.table == table] for table in dict.fromkeys(m.layout.table for m in few)},
    }
    return {
        name: {
            "filters": len(some),
            "ratio": geometric_mean([m.ratio(metadata) for m in some]),
            "oracle_ratio": geometric_mean([m.oracle_ratio for m in some]),
            "skipping_off_ratio": geometric_mean([m.scoring_ratio for m in some]),
        }
        for name, some in groups.items()
        if some
    }


def _lowest(measured: Sequence[Measured], ratio_of: Callable[[Measured, str], float]) -> dict[str, Any]:
    """The lowest ratio of any filter, on any layout, at any selectivity."""
    ratio, one, metadata = min(
        ((ratio_of(m, k), m, k) for m in measured for k in m.skipping), key=lambda found: found[0]
    )
    where = f"{one.layout.table}, {one.layout.order}, {one.layout.row_group_rows:,} rows a group, metadata: {metadata}"
    return {
        "ratio": round(ratio, 3),
        "filter": f"{one.filter.model}, {one.filter.kind}, {one.filter.selectivity:g}",
        "layout": where,
    }


def _effectiveness(measured: Sequence[Measured], metadata: str) -> float | None:
    """The share of the row groups without a match that is skipped, mean over the filters that have such."""
    shares = [m.skipping[metadata].skipped / (m.row_groups - m.matching) for m in measured if m.matching < m.row_groups]
    return round(float(np.mean(shares)), 4) if shares else None


def n_rows(one: Measured) -> int:
    """The rows of a filter's table, rounded up to whole row groups."""
    return one.row_groups * one.layout.row_group_rows


def geometric_mean(ratios: Sequence[float]) -> float:
    """Rounded to three digits behind the point."""
    return round(float(np.exp(np.mean(np.log(ratios)))), 3)
