"""Reports: what was skipped, why, and what it cost, as text, tables, dictionaries and JSON."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.bounds.outcome import Method, Narrowed, Reason
from skipml.decisions import DECISION_NAMES, EVALUATE, SKIP, Decisions
from skipml.stores import RemoteFile, is_remote

_MAX_LINES = 12
_MAX_NAME = 40
_WHY = {
    Reason.PROVED: "needed by another scan of the table",
    Reason.FALSIFIED: "a point within its limits passes",
    Reason.BUDGET: "undecided when the budget was spent",
    Reason.DEGENERATE: "within the rounding margin",
    Reason.OVERFLOW: "limits unbounded, or the model may overflow",
    Reason.NOT_TRIED: "limits unknown, or a condition without a model",
    Reason.NULL_OR_NAN: "a row may be NULL or NaN",
    Reason.WITNESS: "one stored row passes, another does not",
    Reason.SCORES: "a row may pass by the stored scores",
    Reason.SAMPLE: "left alone, as no row group of a sample can be decided",
}
_PROOF = {
    Method.NONE: "NULL in every row",
    Method.INTERVAL: "interval",
    Method.CROWN: "crown",
    Method.BRANCH: "branch",
    Method.SCORE_MAP: "stored scores",
    Method.BALL: "ball",
}
_NAN_ADVICE = (
    "NaN is greater than every number, so `>` and `>=` may match where a column may hold NaN: "
    "files written by DuckDB, and columns that are not floats, are free of doubt"
)


@dataclass(frozen=True, slots=True, eq=False)
class VisitReport:
    """Which row groups were scored beforehand to find the first rows of an order: `visited` [row groups]."""

    visited: NDArray[np.bool_]
    waves: int
    rows_scored: int
    n: int
    is_full: bool
    """Whether n rows were found there."""
    threshold: float | None
    """The n-th best score, None for NULL."""

    def to_dict(self) -> dict[str, Any]:
        """The visits as plain values."""
        return {
            "row_groups_visited": int(self.visited.sum()),
            "waves": self.waves,
            "rows_scored": self.rows_scored,
            "threshold": self.threshold if self.is_full else None,
        }

    def __str__(self) -> str:
        groups = f"{int(self.visited.sum()):,} row groups ({self.rows_scored:,} rows)"
        score = "NULL" if self.threshold is None else f"{self.threshold:.6g}"
        best = f"row {self.n:,} scores {score}" if self.is_full else f"fewer than {self.n:,} rows there"
        return f"{groups} scored beforehand in {self.waves} waves: {best}"


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
    rows_unscored: int = 0
    """Rows that are read and not scored, as metadata has answered the model's conditions for them."""
    visits: VisitReport | None = None
    """What was scored beforehand, where the first rows by a score are wanted."""
    seconds_per_row: float = 0.0
    """What scoring a row costs, estimated or measured."""
    budget_seconds: float = 0.0
    """What verification was granted."""

    @property
    def scoring_seconds(self) -> float:
        """What scoring all rows would take."""
        return self.seconds_per_row * sum(self.n_rows)

    @property
    def rows_left(self) -> int:
        """Rows in row groups that are read."""
        return sum(self.n_rows) - self.rows_skipped

    @property
    def saved_seconds(self) -> float:
        """What scoring the rows that are not read would take."""
        return self.seconds_per_row * self.rows_skipped

    @property
    def counts(self) -> dict[str, int]:
        """Row groups in total and by decision."""
        found = Counter(DECISION_NAMES[d] for d in self.decisions.decision.tolist())
        return {"row_groups": len(self.row_group), **{name.lower(): found.get(name, 0) for name in DECISION_NAMES}}

    @property
    def rows_skipped(self) -> int:
        """Rows in row groups that are not read."""
        return int(np.asarray(self.n_rows, np.int64)[self.decisions.decision == SKIP].sum())

    def to_arrow(self) -> pa.Table:
        """One row per row group: file, row_group, n_rows, decision, lower, upper, method, reason."""
        decisions = self.decisions
        return pa.table(
            {
                "file": pa.array([self.files[i] for i in self.file_index], pa.string()),
                "row_group": pa.array(self.row_group, pa.int64()),
                "n_rows": pa.array(self.n_rows, pa.int64()),
                "decision": pa.array([DECISION_NAMES[d] for d in decisions.decision.tolist()], pa.string()),
                "lower": pa.array(decisions.lower, pa.float64()),
                "upper": pa.array(decisions.upper, pa.float64()),
                "method": pa.array(decisions.method_names, pa.string()),
                "reason": pa.array([Reason(r).name.lower() for r in decisions.reason.tolist()], pa.string()),
            }
        )

    def summary(self) -> str:
        """One line: `Row groups: 49, skipped 41, kept 3, evaluated 5; 83.7 % of 6,001,215 rows are not read`."""
        c, rows = self.counts, sum(self.n_rows)
        share = f"{100 * self.rows_skipped / rows:.1f} %" if rows else "none"
        return (
            f"Row groups: {c['row_groups']:,}, skipped {c['skip']:,}, kept {c['keep']:,}, evaluated {c['evaluate']:,}; "
            f"{share} of {rows:,} rows are not read"
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "table": self.table,
            "predicate": self.predicate,
            "route": self.route,
            **self.counts,
            "rows": sum(self.n_rows),
            "rows_skipped": self.rows_skipped,
            "rows_unscored": self.rows_unscored,
            "verification_seconds": self.decisions.seconds,
            "budget_seconds": self.budget_seconds,
            "scoring_seconds": self.scoring_seconds,
            "saved_seconds": self.saved_seconds,
            "selectivity": self.decisions.selectivity,
            "error": self.decisions.error,
            "narrowed": [asdict(network) for network in self.decisions.narrowed],
            "reasons": list(self.reasons),
            "visits": self.visits.to_dict() if self.visits is not None else None,
            "blocks": self.to_arrow().to_pylist(),
        }

    def lines(self) -> list[str]:
        """Some lines for people."""
        out = [
            f"{self.table}: {self.predicate}",
            f"  {self.summary()}",
            f"  verified in {self.decisions.seconds * 1e3:.1f} ms, route: {self.route}",
        ]
        if self.seconds_per_row:
            out.append(
                f"  scoring every row takes about {self.scoring_seconds * 1e3:.1f} ms, of which "
                f"{self.saved_seconds * 1e3:.1f} ms are saved; verification was granted "
                f"{self.budget_seconds * 1e3:.1f} ms"
            )
        out += [f"  {_narrowed(network)}" for network in self.decisions.narrowed]
        if self.rows_unscored:
            out.append(f"  {self.rows_unscored:,} rows are read without scoring")
        if self.visits is not None:
            out.append(f"  {self.visits}")
        if self.decisions.selectivity is not None:
            rows = round(self.decisions.selectivity * sum(self.n_rows))
            out.append(f"  about {rows:,} rows pass, by those that are stored" if rows else "  few rows pass")
        out += [f"  note: {reason}" for reason in self.reasons]
        if any("NaN" in reason for reason in self.reasons):
            out.append(f"  note: {_NAN_ADVICE}")
        if self.decisions.error:
            out.append(f"  pruning failed and was left out: {self.decisions.error}")
        return out + _run_lines(self)


def _narrowed(network: Narrowed) -> str:
    """`bounded as 3-12-1 instead of 3-64-1: 81 % of the weights give nothing here`."""
    after, before = ("-".join(map(str, widths)) for widths in (network.widths, network.widths_before))
    share = 1 - network.weights / network.weights_before
    return f"bounded as {after} instead of {before}: {100 * share:.0f} % of the weights give nothing here"


def _runs(scan: ScanReport) -> Iterator[slice]:
    """Row groups of one file that follow each other and have the same decision."""
    keys = np.stack([np.asarray(scan.file_index, np.int64), scan.decisions.decision])
    starts = np.flatnonzero(np.any(np.diff(keys, prepend=-1), axis=0)).tolist()
    return itertools.starmap(slice, itertools.pairwise([*starts, keys.shape[1]]))


def _run_lines(scan: ScanReport) -> list[str]:
    """The row groups that are read first: they are what the query costs."""
    runs = sorted(_runs(scan), key=lambda run: scan.decisions.decision[run.start] == SKIP)
    if not runs:
        return []
    names = _short_names(scan.files)
    wide = max((len(name) for name in names), default=0)
    head = f"  {'file':<{wide}}" if wide else " "
    lines = [f"{head} {'row groups':>13} {'rows':>11}  decision {'lower':>11} {'upper':>11}  why"]
    for run in runs[:_MAX_LINES]:
        name = f"  {names[scan.file_index[run.start]]:<{wide}}" if wide else " "
        lines.append(f"{name} {_run_line(scan, run)}")
    hidden = sum(run.stop - run.start for run in runs[_MAX_LINES:])
    return [*lines, f"  … and {hidden:,} more row groups"] if hidden else lines


def _run_line(scan: ScanReport, run: slice) -> str:
    first, last = scan.row_group[run.start], scan.row_group[run.stop - 1]
    d, rows = scan.decisions, sum(scan.n_rows[run])
    limits = f"{_number(d.lower[run], min)} {_number(d.upper[run], max)}"
    groups = f"{first}" if first == last else f"{first}-{last}"
    return f"{groups:>13} {rows:>11,}  {DECISION_NAMES[d.decision[run.start]]:<8} {limits}  {_why(scan, run)}"


def _number(bounds: NDArray[np.float64], pick: Any) -> str:
    value = float(pick(bounds))
    return f"{'-' if math.isnan(value) else format(value, '.5g'):>11}"


def _why(scan: ScanReport, run: slice) -> str:
    """The methods that proved a run, or the reasons why it is not decided, each with its number of row groups."""
    decisions, visits = scan.decisions, scan.visits
    is_open = decisions.decision[run.start] == EVALUATE
    words = (
        [_WHY[Reason(r)] for r in decisions.reason[run].tolist()]
        if is_open
        else [_PROOF[Method(m)] for m in decisions.method[run].tolist()]
    )
    if visits is not None:
        scored = "scored: holds some of the first rows" if is_open else "scores"
        words = [scored if v else word for v, word in zip(visits.visited[run].tolist(), words, strict=True)]
    return _counted(words) if is_open else f"proved by {_counted(words)}"


def _counted(words: list[str]) -> str:
    found = Counter(words).most_common()
    return found[0][0] if len(found) == 1 else ", ".join(f"{word} ({n:,})" for word, n in found)


def _short_names(files: tuple[str, ...]) -> tuple[str, ...]:
    """Names to tell the files apart by; one file needs none, and the folder all files share is left out."""
    if len(files) < 2:
        return ("",) * len(files)
    paths = [file if is_remote(file) else os.path.abspath(file) for file in files]
    if len({is_remote(file) for file in files}) > 1:
        return files
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [os.path.relpath(path, folder) for path in paths]
    return tuple(name if len(name) <= _MAX_NAME else "…" + name[1 - _MAX_NAME :] for name in names)


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
    scorer: str = ""
    """What scores the rows that are read, and for Python why."""
    scoring: str = ""
    """How rows reach Python where it scores: in pulled batches, or by an Arrow function and why."""

    @property
    def traffic(self) -> str:
        """What was asked of stores so far, to plan and to read, and what came back; '' where all files are local."""
        files = [file for scan in self.scans for file in scan.files if isinstance(file, RemoteFile)]
        return "; ".join(f"{store.protocol}: {store.traffic}" for store in dict.fromkeys(f.store for f in files))

    def summary(self) -> str:
        """One line per scan, or one that says why nothing is skipped."""
        lines = [f"{scan.table}: {scan.summary()}" for scan in self.scans]
        return "\n".join(lines) or f"Nothing is skipped: {'; '.join(self.notes) or 'no registered model is called'}"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "sql": self.sql,
            "seconds": self.seconds,
            "notes": list(self.notes),
            "scorer": self.scorer,
            "scoring": self.scoring,
            "counters": dict(self.counters),
            "traffic": self.traffic,
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
        if self.scorer:
            lines.append(f"scorer: {self.scorer}")
        if self.scoring:
            lines.append(f"scoring: {self.scoring}")
        if self.traffic:
            lines.append(f"read from stores: {self.traffic}")
        return "\n".join([*lines, f"analysis: {self.seconds * 1e3:.1f} ms"])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
