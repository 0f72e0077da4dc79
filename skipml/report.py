"""Reports: what was skipped, why, and what it cost, as text, tables, dictionaries and JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from skipml.decisions import DECISION_NAMES, Decisions

_MAX_LINES = 12


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What happened to one Parquet scan: its row groups, in file order, and the decision for each."""

    table: str
    predicate: str
    route: str
    files: tuple[str, ...]
    file_index: tuple[int, ...]
    row_group: tuple[int, ...]
    n_rows: tuple[int, ...]
    decisions: Decisions
    reasons: tuple[str, ...] = ()
    """Why inputs are unknown, and what to do about it."""

    @property
    def counts(self) -> dict[str, int]:
        """Row groups in total and by decision."""
        found = Counter(DECISION_NAMES[d] for d in self.decisions.decision.tolist())
        return {"row_groups": len(self.row_group), **{name.lower(): found.get(name, 0) for name in DECISION_NAMES}}

    def to_arrow(self) -> pa.Table:
        """One row per row group: file, row_group, n_rows, decision, lower, upper, method."""
        return pa.table(
            {
                "file": pa.array([self.files[i] for i in self.file_index], pa.string()),
                "row_group": pa.array(self.row_group, pa.int64()),
                "n_rows": pa.array(self.n_rows, pa.int64()),
                "decision": pa.array([DECISION_NAMES[d] for d in self.decisions.decision.tolist()], pa.string()),
                "lower": pa.array(self.decisions.lower, pa.float64()),
                "upper": pa.array(self.decisions.upper, pa.float64()),
                "method": pa.array(self.decisions.method_names, pa.string()),
            }
        )

    def summary(self) -> str:
        """One line: `Row groups: 49, skipped 41, kept 3, evaluated 5`."""
        c = self.counts
        return f"Row groups: {c['row_groups']:,}, skipped {c['skip']:,}, kept {c['keep']:,}, evaluated {c['evaluate']:,}"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "table": self.table,
            "predicate": self.predicate,
            "route": self.route,
            **self.counts,
            "verification_seconds": self.decisions.seconds,
            "error": self.decisions.error,
            "reasons": list(self.reasons),
            "blocks": self.to_arrow().to_pylist(),
        }

    def lines(self) -> list[str]:
        """Some lines for people."""
        out = [
            f"{self.table}: {self.predicate}",
            f"  {self.summary()}  (verified in {self.decisions.seconds * 1e3:.1f} ms, route: {self.route})",
        ]
        out += [f"  note: {reason}" for reason in self.reasons]
        if self.decisions.error:
            out.append(f"  pruning failed and was left out: {self.decisions.error}")
        return out + _block_lines(self)


def _block_lines(scan: ScanReport) -> list[str]:
    """The blocks that were not skipped first: they are what the query costs."""
    order = np.argsort(-scan.decisions.decision.astype(np.int64), kind="stable")[:_MAX_LINES]
    if not len(order):
        return []
    lines = ["  file                                     row group      rows  decision       lower       upper  method"]
    for i in order.tolist():
        name = scan.files[scan.file_index[i]]
        short = name if len(name) <= 40 else "…" + name[-39:]
        d = scan.decisions
        lines.append(
            f"  {short:<40} {scan.row_group[i]:>9} {scan.n_rows[i]:>9,}  {DECISION_NAMES[d.decision[i]]:<8} {d.lower[i]:>11.5g} {d.upper[i]:>11.5g}  {d.method_names[i]}"
        )
    hidden = len(scan.row_group) - len(order)
    return [*lines, f"  … and {hidden:,} more"] if hidden > 0 else lines


@dataclass(frozen=True, slots=True)
class Report:
    """What skipml did with a query."""

    sql: str
    scans: tuple[ScanReport, ...] = ()
    notes: tuple[str, ...] = ()
    """Why the query, or a part of it, runs as it is."""
    seconds: float = 0.0
    """The whole analysis: parsing, footers, verification, rewriting."""
    counters: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "sql": self.sql,
            "seconds": self.seconds,
            "notes": list(self.notes),
            "counters": dict(self.counters),
            "scans": [scan.to_dict() for scan in self.scans],
        }

    def to_json(self) -> str:
        """The report as JSON; a bound that is not finite is null."""
        return json.dumps(_finite(self.to_dict()), indent=2)

    def __str__(self) -> str:
        lines = [line for scan in self.scans for line in scan.lines()]
        lines += [f"note: {note}" for note in self.notes]
        if not self.scans:
            lines.append("nothing is skipped")
        return "\n".join([*lines, f"analysis: {self.seconds * 1e3:.1f} ms"])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
