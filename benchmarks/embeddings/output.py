"""The tables and the picture of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embeddings.data import INDEX, LISTS
from benchmarks.embeddings.heads import KINDS, SELECTIVITIES
from benchmarks.embeddings.skipping import ORACLE, column_of

_VECTOR_BYTES = 4 * 384
_NAMES = {LISTS: "lists of an index"}


def text(found: dict[str, Any]) -> str:
    """The tables as Markdown."""
    counts = ", ".join(f"{number} {kind}" for kind, number in found["heads"].items())
    lines = [
        f"{found['rows']:,} rows of {_VECTOR_BYTES:,} bytes; {counts}. Share of the row groups without a qualifying "
        "row that is proved, mean over heads; the oracle's share is of all row groups.",
        "",
    ]
    for kind in KINDS:
        for selectivity in SELECTIVITIES:
            lines += [*_table(found, kind, selectivity), ""]
    lines += [*_rows_left(found), ""]
    cosines = ", ".join(f"{name} {value:.3f}" for name, value in found["cosines"].items())
    times = ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in found["seconds"].items())
    products = ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in found["products"].items())
    return "\n".join(
        [
            *lines,
            f"Cosine of a logistic head with the one trained on {cosines}.",
            "",
            "A query at 0.1 % in DuckDB, row groups of 512 rows as an index has them, and the table of an index: "
            f"{times}.",
            "",
            f"A product of a head's weights in numpy, in memory: {products}.",
        ]
    )


def _places(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(size, order) for size, orders in found["skipped"].items() for order in orders]


def _table(found: dict[str, Any], kind: str, selectivity: float) -> list[str]:
    places, column = _places(found), column_of(kind, selectivity)
    names = [f"{_NAMES.get(size, size)}, {order}" if size != LISTS else _NAMES[size] for size, order in places]
    lines = [f"| {kind}, {selectivity:.1%} | {' | '.join(names)} |", f"|---|{'---:|' * len(places)}"]
    kinds = dict.fromkeys(known for size, order in places for known in found["skipped"][size][order])
    for known in kinds:
        cells = [found["skipped"][size][order].get(known, {}).get(column) for size, order in places]
        if any(cell is not None for cell in cells):
            lines.append(f"| {known} | {' | '.join('' if c is None else f'{c:.1%}' for c in cells)} |")
    return lines


def _rows_left(found: dict[str, Any]) -> list[str]:
    """What codes leave of the rows of an index, and their bytes."""
    lists = found["skipped"][LISTS][INDEX]
    columns = [column_of(kind, selectivity) for kind in KINDS for selectivity in SELECTIVITIES]
    lines = [
        f"| rows of an index that are left | bytes a row | {' | '.join(columns)} |",
        f"|---|---:|{'---:|' * len(columns)}",
    ]
    for known, values in lists.items():
        if f"rows left, {columns[0]}" in values:
            cells = [f"{values[f'rows left, {column}']:.2%}" for column in columns]
            lines.append(f"| {known} | {values['bytes_per_row']:.0f} | {' | '.join(cells)} |")
    return lines


def figure(found: dict[str, Any], path: Path) -> None:
    """The shares of logistic heads in the lists of an index and in row groups of 512 rows, by kind of metadata."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    column = column_of(KINDS[0], SELECTIVITIES[0])
    places = [(size, order) for size, order in _places(found) if size in ("512", LISTS)]
    kinds = [kind for kind in found["skipped"][LISTS][INDEX] if kind != ORACLE]
    drawing, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for i, (size, order) in enumerate(places):
        widths = [found["skipped"][size][order][kind][column] for kind in kinds]
        label = _NAMES[size] if size == LISTS else f"row groups of {size} rows, {order}"
        axes.barh(np.arange(len(kinds)) + 0.25 * (i - 1), widths, 0.25, label=label)
    axes.set_yticks(np.arange(len(kinds)), kinds)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the skippable row groups that is proved")
    axes.set_title("logistic heads of topics, one row of a thousand passes", fontsize="medium")
    axes.legend(frameon=False, loc="upper right")
    drawing.savefig(path, dpi=120)
    pyplot.close(drawing)
