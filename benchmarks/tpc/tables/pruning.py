"""All filters on all models through PyTorch in a DuckDB function, the oracle and skipml, on every layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.tpc.tables.case import Case
from benchmarks.tpc.tables.filters import FEW, SELECTIVITIES, Filter
from benchmarks.tpc.tables.layouts import Layout
from benchmarks.tpc.tables.rows import Rows
from benchmarks.tpc.tables.systems import Answer, Query, Session
from skipml.report import Report

_NEAR = 0.97
"""Where skipml is this near to the baseline or below it, both run again, twice as often as before."""


@dataclass(slots=True)
class Measured:
    """One filter on one layout: rows that pass, row groups in all, with such a row and read by skipml, and seconds.

    `pytorch` and `oracle` are PyTorch in a DuckDB function over all row groups, and over those with a match; the
    oracle's is empty where all have one: it is the same query.
    """

    layout: Layout
    filter: Filter
    rows: int
    row_groups: int
    matching: int
    read: int = 0
    pytorch: list[float] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)
    skipml: list[float] = field(default_factory=list)
    planning: list[float] = field(default_factory=list)
    verification: list[float] = field(default_factory=list)
    baseline: float = 0.0
    """Seconds of PyTorch that the ratios are taken of."""

    @property
    def ratio(self) -> float:
        """How many times faster skipml is, planning counted."""
        return self.baseline / median(self.skipml)

    @property
    def oracle_ratio(self) -> float:
        """How many times faster PyTorch would be that knows the row groups with a match."""
        return self.baseline / median(self.oracle) if self.oracle else 1.0


def measure(
    case: Case, layout: Layout, filters: list[Filter], *, runs: int, tick: Callable[[], None]
) -> Iterator[Measured]:
    """The filters of one model on one layout, each `runs` times on open connections.

    In generation order PyTorch and skipml run by turns. On clustered tables PyTorch, which reads everything whatever
    the filter, runs once a filter, and the ratios are taken of the median of these runs. Raises AssertionError where
    two ways give other rows, or other rows than the scores say.
    """
    matches = dict(zip(case.filters, case.matches(layout), strict=True))
    found = []
    with (
        closing(case.pytorch()) as pytorch,
        closing(case.skipping()) as skipping,
    ):
        pytorch.run(case.query(layout, filters[0], np.flatnonzero(matches[filters[0]])))
        skipping.run(case.query(layout, filters[0]))
        for wanted in filters:
            one = _Turn(case, layout, wanted, matches[wanted], (pytorch, skipping))
            paired = layout.order == "generated"
            one.run(pytorch_runs=runs if paired else 1, runs=runs)
            if paired and one.measured.ratio < _NEAR:
                one.run(pytorch_runs=2 * runs, runs=2 * runs)
            found.append(one.measured)
            tick()
    if layout.order != "generated":
        pooled = median(seconds for measured in found for seconds in measured.pytorch)
        for measured in found:
            measured.baseline = pooled
    yield from found


class _Turn:
    """Runs of one filter by turns, PyTorch in the first session and skipml in the second."""

    def __init__(
        self,
        case: Case,
        layout: Layout,
        wanted: Filter,
        matches: NDArray[np.int64],
        sessions: tuple[Session, Session],
    ) -> None:
        groups = np.flatnonzero(matches)
        self._pytorch, self._skipping = sessions
        self._query = case.query(layout, wanted)
        self._oracle: Query | None = None
        if 0 < len(groups) < len(matches):
            self._oracle = case.query(layout, wanted, groups)
        self._rows: Rows | None = None
        self.measured = Measured(layout, wanted, int(matches.sum()), len(matches), len(groups))

    def run(self, *, pytorch_runs: int, runs: int) -> None:
        """Run each as often as said."""
        measured = self.measured
        for turn in range(max(pytorch_runs, runs)):
            if turn < pytorch_runs:
                measured.pytorch.append(self._checked(self._pytorch.run(self._query)).seconds)
            if turn < runs:
                answer = self._checked(self._skipping.run(self._query))
                measured.skipml.append(answer.seconds)
                self._note(answer.report)
                if self._oracle is not None:
                    measured.oracle.append(self._checked(self._pytorch.run(self._oracle)).seconds)
        measured.baseline = median(measured.pytorch)

    def _checked(self, answer: Answer) -> Answer:
        where = f"{self._query.filter} on {self._query.file.name}"
        self._rows = self._rows or answer.rows
        assert answer.rows == self._rows, f"other rows: {answer.rows}, not {self._rows}, for {where}"
        assert answer.rows.n == self.measured.rows, f"{answer.rows.n} rows, not {self.measured.rows}, for {where}"
        return answer

    def _note(self, report: Report | None) -> None:
        assert report is not None
        assert not report.counters["errors"], f"pruning failed: {report.notes}"
        self.measured.read = self.measured.row_groups - report.counters["skipped"]
        assert self.measured.read >= self.measured.matching
        self.measured.planning.append(report.seconds)
        self.measured.verification.append(sum(scan.decisions.seconds for scan in report.scans))


def chosen(filters: list[Filter], row_group_rows: int, quick: bool) -> list[Filter]:
    """Of the filters those that are run: with large row groups one-sided ones and classes only."""
    few = SELECTIVITIES if not quick else tuple(s for s in SELECTIVITIES if s in (0.01, FEW))
    return [
        f
        for f in filters
        if (f.kind == "class" or f.selectivity in few) and (row_group_rows <= 16_384 or f.kind in ("above", "class"))
    ]
