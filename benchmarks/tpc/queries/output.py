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

_WORST = 5
_SHORT_SECONDS = 0.1
"""Ratios of shorter queries say more about the machine than about skipml."""


def record(standard: Sequence[Standard], with_model: Sequence[WithModel]) -> dict[str, Any]:
    """Every figure, and the means and extremes of them."""
    return {
        "standard": {
            "compared": "lists of rows on one thread: all equal",
            **_standard_summary(standard),
            "queries": [
                {**asdict(x), "ratio": round(x.ratio, 3), "processor_ratio": round(x.processor_ratio, 3)}
                for x in standard
            ],
        },
        "with_model": {
            "compared": "lists of rows of every run, with those on loaded tables: all equal",
            **{order: _model_summary([x for x in with_model if x.order == order]) for order in ORDERS},
            "queries": [{**asdict(x), "speedup": round(x.speedup, 3)} for x in with_model],
        },
    }


def _standard_summary(found: Sequence[Standard]) -> dict[str, Any]:
    long = [x for x in found if x.plain.seconds >= _SHORT_SECONDS] or found
    return {
        "ratio": _ratios({x.query: x.ratio for x in found}),
        "processor_ratio": _ratios({x.query: x.processor_ratio for x in found}),
        f"processor_ratio_from_{_SHORT_SECONDS:g}_s": _ratios({x.query: x.processor_ratio for x in long}),
        "total_seconds": _totals(found),
        "analysed": [x.query for x in found if x.analysed],
        "analysis_ms_if_a_view_calls_a_model": {
            "mean": round(1e3 * float(np.mean([x.analysis for x in found])), 2),
            "most": round(1e3 * max(x.analysis for x in found), 2),
        },
    }


def _model_summary(found: Sequence[WithModel]) -> dict[str, Any]:
    speedups = [x.speedup for x in found]
    return {
        "speedup": {
            "geometric_mean": _geometric_mean(speedups),
            "least": round(min(speedups), 3),
            "greatest": round(max(speedups), 3),
        },
        "total_seconds": _totals(found),
        "row_groups": sum(x.row_groups for x in found),
        "skipped": sum(x.skipped for x in found),
    }


def _ratios(by_query: dict[str, float]) -> dict[str, Any]:
    worst = max(by_query, key=lambda query: by_query[query])
    mean = _geometric_mean(list(by_query.values()))
    return {"geometric_mean": mean, "worst": round(by_query[worst], 3), "worst_query": worst}


def _totals(found: Sequence[Standard] | Sequence[WithModel]) -> dict[str, float]:
    return {
        "plain": round(sum(x.plain.seconds for x in found), 3),
        "skipml": round(sum(x.skipml.seconds for x in found), 3),
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
            f"{row['plain']['seconds']:.3f} s",
            f"{row['skipml']['seconds']:.3f} s",
            f"{1e3 * row['planning']:.0f} ms",
            f"{row['speedup']:.2f}x",
            f"{row['skipped']:,} of {row['row_groups']:,}",
        )
    console.print(table)
    for order in ORDERS:
        speedup = found["with_model"][order]["speedup"]
        console.print(
            f"With a model, {order}: {speedup['geometric_mean']:.2f}x as fast (geometric mean; "
            f"{speedup['least']:.2f}x to {speedup['greatest']:.2f}x)"
        )
    _print_standard(console, found["standard"])


def _print_standard(console: Console, part: dict[str, Any]) -> None:
    table = _table("standard query", "rows", "DuckDB", "skipml", "times as long", "processor")
    for row in sorted(part["queries"], key=lambda row: -row["processor_ratio"])[:_WORST]:
        times = (f"{row['plain']['seconds']:.4f} s", f"{row['skipml']['seconds']:.4f} s")
        ratios = (f"{row['ratio']:.3f}", f"{row['processor_ratio']:.3f}")
        table.add_row(row["query"], f"{row['rows']:,}", *times, *ratios)
    console.print(table)
    wall, processor = (part[name]["geometric_mean"] for name in ("ratio", "processor_ratio"))
    analysis = part["analysis_ms_if_a_view_calls_a_model"]
    console.print(
        f"{len(part['queries'])} standard queries, these the worst: through skipml they take {wall:.3f} times as long, "
        f"and {processor:.3f} times the processor time (geometric means); all rows equal.\n"
        f"{len(part['analysed'])} of them were analysed: a word is the name of a model. "
        f"Where a view calls a model, analysis takes {analysis['mean']:.1f} ms more, at most {analysis['most']:.1f} ms."
    )


def _table(first: str, *headings: str) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1))
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
