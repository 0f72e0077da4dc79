"""What the benchmark shows: JSON files, pictures, and the tables of its README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.ann.pruning import FIXED, SPANN, TARGETS, Reading
from benchmarks.readme import replace_section
from skipml.ann.rules import LEVELED, MARGINAL, NEARNESS

_COLORS = {FIXED: "#000000", SPANN: "#999999", NEARNESS: "#56b4e9", LEVELED: "#009e73", MARGINAL: "#d55e00"}
_RULES = tuple(_COLORS)


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write figures, floats with five digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(found), indent=1) + "\n")


def plot_pruning(path: Path, groups: Mapping[str, Mapping[str, Reading]]) -> None:
    """Mean recall against the mean number of lists read, a panel for each group of queries."""
    figure = Figure(figsize=(4.2 * len(groups), 3.6), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for panel, (group, rules) in zip(panels, groups.items(), strict=True):
        for name, reading in rules.items():
            panel.plot(reading.lists.mean(1), reading.recall.mean(1), label=name, color=_COLORS[name], linewidth=1.4)
        panel.set_xscale("log")
        panel.set_ylim(0.75, 1.0)
        panel.set_xlim(1, reading.lists.max())
        panel.set_title(group)
        panel.set_xlabel("lists read, mean")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("recall@10, mean")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def pruning_tables(found: Mapping[str, Any]) -> str:
    """Markdown of the pruning figures."""
    lines = []
    for data, figures in found["data"].items():
        lines += [
            f"**{data}**: {figures['rows']:,} rows, {figures['dimension']} dimensions, {figures['lists']:,} lists",
            "",
        ]
        headings = [f"{target:g}: lists (p99), queries at target" for target in TARGETS]
        lines += [_row("in distribution, recall@10", *headings), _rule(len(TARGETS) + 1)]
        for rule in _RULES:
            mine = [one for one in figures["one_distribution"] if one["rule"] == rule]
            cells = [
                f"{one['lists']:.1f} ({one['lists_p99']:.0f}), {one['share_of_queries_at_target']:.0%}" for one in mine
            ]
            lines.append(_row(rule, *cells))
        lines += ["", _row("every group at its target, lists", *map(str, TARGETS)), _rule(len(TARGETS) + 1)]
        for rule in _RULES:
            mine = [one for one in figures["mixed"] if one["rule"] == rule]
            lines.append(_row(rule, *(f"{one['lists']:.1f} ({one['fixed_reads_times']:.2f}x fewer)" for one in mine)))
        headings = ["target", "rule", "missed", "with the mean plugged in", "more lists than that"]
        lines += ["", _row(*headings), _rule(len(headings))]
        for one in figures["promises"]:
            shares = f"{one['missed']:.0%}", f"{one['missed_by_plugging_in_the_mean']:.0%}", f"{one['lists_more']:+.0%}"
            lines.append(_row(f"{one['target']:g}", one["rule"], *shares))
        lines.append("")
    return "\n".join(lines)


def plot_peers(path: Path, found: Mapping[str, Any]) -> None:
    """Recall against the median time of a query, and against the bytes that it reads where they are known."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    latency, size = figure.subplots(1, 2, sharey=True)
    colors = colormaps["tab20"]
    for number, system in enumerate(dict.fromkeys(one["system"] for one in found["measured"])):
        mine = [one for one in found["measured"] if one["system"] == system]
        style = {"marker": "o", "markersize": 3.5, "linewidth": 1.2, "color": colors(number % 20), "label": system}
        latency.plot([one["median"] for one in mine], [one["recall"] for one in mine], **style)
        if mine[0]["bytes_read"] is not None:
            size.plot([one["bytes_read"] for one in mine], [one["recall"] for one in mine], **style)
    latency.set_xlabel("microseconds per query, median, 1 thread")
    size.set_xlabel("bytes read per query, mean")
    latency.set_ylabel(f"recall@{found['k']}")
    for panel in (latency, size):
        panel.set_xscale("log")
        panel.set_ylim(0.8, 1.002)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=110)


def peers_table(found: Mapping[str, Any]) -> str:
    """Markdown: for each system the cheapest setting that was measured with a recall of .95."""
    headings = ("system", "setting", "recall@10", "median us", "95 % us", "KB read", "times hnswlib")
    reached = [one for one in found["measured"] if one["recall"] >= 0.95]
    best: dict[str, Mapping[str, Any]] = {}
    for one in sorted(reached, key=lambda one: float(one["median"])):
        best.setdefault(one["system"], one)
    unit = best["hnswlib"]["median"] if "hnswlib" in best else float("nan")
    lines = [_row(*headings), _rule(len(headings))]
    for system, one in best.items():
        read = "" if one["bytes_read"] is None else f"{one['bytes_read'] / 1e3:,.0f}"
        times = f"{one['median']:,.0f}", f"{one['p95']:,.0f}", read, f"{one['median'] / unit:.2f}"
        lines.append(_row(system, one["setting"], f"{one['recall']:.3f}", *times))
    lines += ["", *(f"Not measured: {name} ({reason})." for name, reason in found["not_measured"].items())]
    return "\n".join(lines)


def update(readme: Path, section: str, text: str) -> None:
    """Write tables between the marks of a section."""
    replace_section(readme, f"<!-- {section} -->", f"<!-- end of {section} -->", text)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return f"|{' --- |' * columns}"


def _rounded(found: Any) -> Any:
    if isinstance(found, float | np.floating):
        return float(f"{float(found):.5g}")
    if isinstance(found, Mapping):
        return {key: _rounded(value) for key, value in found.items()}
    if isinstance(found, Sequence) and not isinstance(found, str):
        return [_rounded(value) for value in found]
    return found
