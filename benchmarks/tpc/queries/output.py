"""What the benchmark of whole queries shows, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.tpc.queries.predicates import WithModel
from benchmarks.tpc.queries.standard import Standard
from benchmarks.tpc.tables.layouts import ORDERS

_SLOWEST = 5
_SHORT_SECONDS = 0.1
"""Ratios of shorter queries say more about the clock than about skipml."""


def record(standard: Sequence[Standard], with_model: Sequence[WithModel]) -> dict[str, Any]:
    """Every figure, and the means and extremes of them."""
    return {
        "standard": {
            "compared": "lists of rows on one thread: all equal",
            "times": "seconds of the fastest run, all threads",
            **_standard_summary(standard),
            "queries": [{**asdict(found), "ratio": round(found.ratio, 3)} for found in standard],
        },
        "with_model": {
            "compared": "lists of rows of every run, with those on loaded tables: all equal",
            "times": "seconds of the fastest run, all threads; planning is a part of skipml",
            **{order: _model_summary([x for x in with_model if x.order == order]) for order in ORDERS},
            "queries": [{**asdict(found), "speedup": round(found.speedup, 3)} for found in with_model],
        },
    }


def _standard_summary(found: Sequence[Standard]) -> dict[str, Any]:
    worst = max(found, key=lambda x: x.ratio)
    long = max((x for x in found if x.plain >= _SHORT_SECONDS), key=lambda x: x.ratio, default=worst)
    return {
        "geometric_mean_ratio": _geometric_mean([x.ratio for x in found]),
        "worst_ratio": {"query": worst.query, "ratio": round(worst.ratio, 3)},
        f"worst_ratio_from_{_SHORT_SECONDS:g}_s": {"query": long.query, "ratio": round(long.ratio, 3)},
        "total_seconds": {"plain": sum(x.plain for x in found), "skipml": sum(x.skipml for x in found)},
        "analysis_ms_if_a_view_calls_a_model": {
            "mean": round(1e3 * float(np.mean([x.analysis for x in found])), 2),
            "most": round(1e3 * max(x.analysis for x in found), 2),
        },
    }


def _model_summary(found: Sequence[WithModel]) -> dict[str, Any]:
    row_groups, skipped = sum(x.row_groups for x in found), sum(x.skipped for x in found)
    return {
        "geometric_mean_speedup": _geometric_mean([x.speedup for x in found]),
        "least_speedup": round(min(x.speedup for x in found), 3),
        "greatest_speedup": round(max(x.speedup for x in found), 3),
        "total_seconds": {"plain": sum(x.plain for x in found), "skipml": sum(x.skipml for x in found)},
        "row_groups": row_groups,
        "skipped": skipped,
    }


def _geometric_mean(ratios: Sequence[float]) -> float:
    return round(float(np.exp(np.mean(np.log(ratios)))), 3)


def print_figures(console: Console, found: dict[str, Any]) -> None:
    """Print the queries with a model, the standard queries that lose most, and the means."""
    table = _table("query", "tables", "rows", "DuckDB", "skipml", "planning", "faster", "row groups skipped")
    for row in found["with_model"]["queries"]:
        table.add_row(
            row["query"],
            row["order"],
            f"{row['rows']:,}",
            f"{row['plain']:.3f} s",
            f"{row['skipml']:.3f} s",
            f"{1e3 * row['planning']:.0f} ms",
            f"{row['speedup']:.2f}x",
            f"{row['skipped']:,} of {row['row_groups']:,}",
        )
    console.print(table)
    for order in ORDERS:
        part = found["with_model"][order]
        console.print(
            f"With a model, {order}: {part['geometric_mean_speedup']:.2f}x as fast (geometric mean; "
            f"{part['least_speedup']:.2f}x to {part['greatest_speedup']:.2f}x)"
        )
    _print_standard(console, found["standard"])


def _print_standard(console: Console, part: dict[str, Any]) -> None:
    table = _table("standard query", "rows", "DuckDB", "skipml", "ratio")
    for row in sorted(part["queries"], key=lambda row: -row["ratio"])[:_SLOWEST]:
        times = (f"{row['plain']:.4f} s", f"{row['skipml']:.4f} s")
        table.add_row(row["query"], f"{row['rows']:,}", *times, f"{row['ratio']:.3f}")
    console.print(table)
    analysis = part["analysis_ms_if_a_view_calls_a_model"]
    console.print(
        f"{len(part['queries'])} standard queries, these the worst: through skipml they take "
        f"{part['geometric_mean_ratio']:.3f} times as long (geometric mean); all rows equal.\n"
        f"Where a view calls a model, analysis takes {analysis['mean']:.1f} ms more, at most {analysis['most']:.1f} ms."
    )


def _table(first: str, *headings: str) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1))
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
