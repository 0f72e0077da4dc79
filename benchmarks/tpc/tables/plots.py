"""Pictures of the figures: ratios against selectivity, and the seconds of every system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.tpc.suite import Suite
from benchmarks.tpc.tables.comparison import Timed
from benchmarks.tpc.tables.filters import SELECTIVITIES
from benchmarks.tpc.tables.layouts import ORDERS, ROW_GROUP_ROWS
from benchmarks.tpc.tables.pruning import Measured
from benchmarks.tpc.tables.summary import geometric_mean

_SIDES = {"one-sided and tail": ("#d55e00", ("above", "tail", "class")), "in the middle": ("#0072b2", ("middle",))}
_TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100)
_COLORS = {"PyTorch": "#999999", "onnxruntime": "#cccccc", "model": "#cccccc", "column": "#009e73", "skipml": "#d55e00"}


def plot_ratios(path: Path, suite: Suite, measured: Sequence[Measured]) -> None:
    """How many times faster than PyTorch, by selectivity: a dot per filter, lines for geometric means and oracles."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, len(ORDERS), sharey=True)
    rows = min(ROW_GROUP_ROWS)
    for axes, order in zip(panels, ORDERS, strict=True):
        mine = [m for m in measured if m.layout.order == order and m.layout.row_group_rows == rows]
        for side, (color, kinds) in _SIDES.items():
            _lines(axes, [m for m in mine if m.filter.kind in kinds], side, color)
        axes.axhline(1, color="#444444", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(SELECTIVITIES, [f"{100 * s:g} %" for s in SELECTIVITIES])
        axes.invert_xaxis()
        axes.set_title(f"{order}, {rows:,} rows per row group", loc="left", fontsize="medium")
        axes.set_xlabel("rows that pass the filter")
        axes.grid(axis="y", color="#eeeeee")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("times as fast as PyTorch in a DuckDB function")
    panels[0].legend(loc="upper left", fontsize="small", frameon=False)
    figure.suptitle(f"{suite.name}: {len({m.filter.model for m in measured})} models", x=0.01, ha="left")
    figure.savefig(path, dpi=120)


def _lines(axes: Axes, measured: Sequence[Measured], side: str, color: str) -> None:
    axes.scatter(
        [m.filter.selectivity for m in measured],
        [m.ratio() for m in measured],
        s=9,
        color=color,
        alpha=0.4,
        linewidths=0,
    )
    x = [s for s in SELECTIVITIES if any(m.filter.selectivity == s for m in measured)]
    by = [[m for m in measured if m.filter.selectivity == s] for s in x]
    axes.plot(x, [geometric_mean([m.ratio() for m in some]) for some in by], color=color, label=f"skipml, {side}")
    axes.plot(
        x,
        [geometric_mean([m.oracle_ratio for m in some]) for some in by],
        color=color,
        linestyle=":",
        label=f"PyTorch that knows the row groups, {side}",
    )


def plot_systems(path: Path, suite: Suite, timed: Sequence[Timed]) -> None:
    """Seconds of a warm query by system, a panel for each selectivity; a tick for the first query."""
    selectivities = list(dict.fromkeys(one.selectivity for one in timed))
    labels = list(dict.fromkeys(_label(one) for one in timed))
    figure = Figure(figsize=(2.2 + 2.4 * len(selectivities), 0.9 + 0.32 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(selectivities), sharex=True, sharey=True, squeeze=False)[0]
    for axes, selectivity in zip(panels, selectivities, strict=True):
        mine = [one for one in timed if one.selectivity == selectivity]
        places = [labels.index(_label(one)) for one in mine]
        colors = [_COLORS[one.system.split(",")[0].split()[0]] for one in mine]
        axes.barh(places, [one.seconds for one in mine], color=colors)
        for one, place in zip(mine, places, strict=True):
            axes.text(1.2 * max(one.seconds, one.cold), place, f"{one.seconds:.3g}", va="center", fontsize="x-small")
        axes.scatter([one.cold for one in mine], places, marker="|", s=50, color="#000000", linewidths=0.8)
        axes.set_xscale("log")
        axes.set_xlim(min(one.seconds for one in timed) / 2, 4 * max(one.cold for one in timed))
        axes.set_title(f"{100 * selectivity:g} % of the rows", loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(labels)), labels, fontsize="small")
    panels[0].invert_yaxis()
    panels[0].set_xlabel("seconds, warm; line: first query")
    figure.suptitle(f"{suite.name}: {suite.representative}", x=0.01, ha="left")
    figure.savefig(path, dpi=120)


def _label(one: Timed) -> str:
    return f"{one.system}, {one.order}"
