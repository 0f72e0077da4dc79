"""All filters on all models through PyTorch in a DuckDB function, the oracle and skipml, on every layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.tpc.tables.case import Case
from benchmarks.tpc.tables.filters import FEW, SELECTIVITIES, Filter
from benchmarks.tpc.tables.layouts import ROW_GROUP_ROWS, Layout
from benchmarks.tpc.tables.metadata import with_hulls
from benchmarks.tpc.tables.rows import Rows
from benchmarks.tpc.tables.systems import Answer, Session
from skipml.report import Report

_LOW = 0.97
"""Where skipml is not above this share of the baseline's speed, both run again as often as before."""


@dataclass(slots=True)
class Skipping:
    """What skipml did with a filter: seconds of each run, in all, of planning, and of verification within it."""

    seconds: list[float] = field(default_factory=list)
    planning: list[float] = field(default_factory=list)
    verification: list[float] = field(default_factory=list)
    skipped: int = 0
    """Row groups, the fewest of any run: how many depends on what scoring and verification cost at that time."""

    def note(self, seconds: float, report: Report | None) -> None:
        """Add a run."""
        assert report is not None
        assert not report.counters["errors"], f"pruning failed: {report.notes}"
        skipped = report.counters["skipped"]
        self.skipped = min(skipped, self.skipped) if self.seconds else skipped
        self.seconds.append(seconds)
        self.planning.append(report.seconds)
        self.verification.append(sum(scan.decisions.seconds for scan in report.scans))


@dataclass(slots=True)
class Measured:
    """One filter on one layout: rows that pass, row groups in all and with such a row, and seconds.

    `pytorch` and `oracle` are PyTorch in a DuckDB function over all row groups, and over those with a match; the
    oracle's is empty where all have one: it is the same query. `scoring` is skipml with skipping off. `skipping` is
    skipml by the name of its metadata.
    """

    layout: Layout
    filter: Filter
    rows: int
    row_groups: int
    matching: int
    skipping: dict[str, Skipping]
    pytorch: list[float] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)
    scoring: list[float] = field(default_factory=list)
    baseline: float = 0.0
    """Seconds of PyTorch that the ratios are taken of."""
    unskipped: float = 0.0
    """Seconds of skipml with skipping off that its own ratios are taken of."""

    def ratio(self, metadata: str = "none") -> float:
        """How many times faster skipml is, planning counted."""
        return self.baseline / median(self.skipping[metadata].seconds)

    def own_ratio(self, metadata: str = "none") -> float:
        """How many times faster it is than with skipping off."""
        return self.unskipped / median(self.skipping[metadata].seconds)

    @property
    def scoring_ratio(self) -> float:
        """How many times faster skipml is with skipping off."""
        return self.baseline / self.unskipped

    @property
    def oracle_ratio(self) -> float:
        """How many times faster PyTorch would be that knows the row groups with a match."""
        return self.baseline / median(self.oracle) if self.oracle else 1.0


def measure(
    case: Case, layout: Layout, filters: list[Filter], *, runs: int, tick: Callable[[], None]
) -> list[Measured]:
    """The filters of one model on one layout, each `runs` times on open connections.

    In generation order PyTorch and skipml run by turns, the oracle once, and with large row groups, where all hold a
    match, each once. On clustered tables PyTorch and skipml with skipping off, which read everything whatever the
    filter, run once a filter, and the ratios are taken of the medians of these runs; skipml runs with hulls too.
    Raises AssertionError where two ways give other rows, or other rows than the scores say.
    """
    matches = dict(zip(case.filters, case.matches(layout), strict=True))
    found = []
    paired, is_small = layout.order == "generated", layout.row_group_rows == min(ROW_GROUP_ROWS)
    first = 1 if paired and not is_small else runs
    with ExitStack() as stack:
        pytorch, scoring = stack.enter_context(closing(case.pytorch())), stack.enter_context(closing(case.scoring()))
        sessions = {"none": stack.enter_context(closing(case.skipping()))}
        if not paired and is_small:
            sessions["hulls"] = stack.enter_context(closing(case.skipping(with_hulls(layout))))
        pytorch.run(case.query(layout, filters[0], np.arange(1)))
        scoring.run(case.query(layout, filters[0]))
        for session in sessions.values():
            session.run(case.query(layout, filters[0]))
        for wanted in filters:
            turns = _Turns(case, layout, wanted, matches[wanted], (pytorch, scoring, sessions))
            turns.run(baseline_runs=first if paired else 1, runs=first)
            if paired and min(turns.measured.ratio(), turns.measured.own_ratio()) < _LOW:
                turns.run(baseline_runs=runs, runs=runs)
            found.append(turns.measured)
            tick()
    if not paired:
        pooled = median(seconds for measured in found for seconds in measured.pytorch)
        unskipped = median(seconds for measured in found for seconds in measured.scoring)
        for measured in found:
            measured.baseline, measured.unskipped = pooled, unskipped
    return found


class _Turns:
    """Runs of one filter by turns: PyTorch in the first session, skipml with skipping off in the second, and skipml in
    those of its metadata.
    """

    def __init__(
        self,
        case: Case,
        layout: Layout,
        wanted: Filter,
        matches: NDArray[np.int64],
        sessions: tuple[Session, Session, Mapping[str, Session]],
    ) -> None:
        groups = np.flatnonzero(matches)
        self._pytorch, self._scoring, self._sessions = sessions
        self._query = case.query(layout, wanted)
        self._oracle = case.query(layout, wanted, groups) if 0 < len(groups) < len(matches) else None
        self._rows: Rows | None = None
        self._layout = layout
        skipping = {name: Skipping() for name in self._sessions}
        self.measured = Measured(layout, wanted, int(matches.sum()), len(matches), len(groups), skipping)

    def run(self, *, baseline_runs: int, runs: int) -> None:
        """Run each as often as said; the baselines are PyTorch and skipml with skipping off."""
        measured = self.measured
        for turn in range(max(baseline_runs, runs)):
            if turn < baseline_runs:
                measured.pytorch.append(self._checked(self._pytorch.run(self._query)).seconds)
                measured.scoring.append(self._checked(self._scoring.run(self._query)).seconds)
            if turn < runs:
                for name, session in self._sessions.items():
                    answer = self._checked(session.run(self._query))
                    measured.skipping[name].note(answer.seconds, answer.report)
                if self._oracle is not None and (self._layout.order != "generated" or not measured.oracle):
                    measured.oracle.append(self._checked(self._pytorch.run(self._oracle)).seconds)
        measured.baseline, measured.unskipped = median(measured.pytorch), median(measured.scoring)

    def _checked(self, answer: Answer) -> Answer:
        where = f"{self._query.filter} on {self._query.file.name}"
        self._rows = self._rows or answer.rows
        assert answer.rows == self._rows, f"other rows: {answer.rows}, not {self._rows}, for {where}"
        assert answer.rows.n == self.measured.rows, f"{answer.rows.n} rows, not {self.measured.rows}, for {where}"
        return answer


def chosen(filters: list[Filter], row_group_rows: int, quick: bool) -> list[Filter]:
    """Of the filters those that are run: with large row groups one-sided ones and classes only."""
    selectivities = (0.01, FEW) if quick else SELECTIVITIES
    kinds = ("above", "class") if row_group_rows > min(ROW_GROUP_ROWS) else ("above", "middle", "tail", "class")
    return [f for f in filters if f.kind in kinds and (f.kind == "class" or f.selectivity in selectivities)]
