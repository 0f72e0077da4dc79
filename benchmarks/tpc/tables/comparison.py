"""Every way to run a filter, on the representative model of a suite at every selectivity, cold and warm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import skipml
from benchmarks.tpc.tables.case import Case
from benchmarks.tpc.tables.filters import FEW, Filter
from benchmarks.tpc.tables.layouts import Layout
from benchmarks.tpc.tables.metadata import with_hulls, with_score_maps
from benchmarks.tpc.tables.systems import (
    Answer,
    PulledSession,
    Session,
    column_session,
    inlined_session,
)
from benchmarks.tpc.tables.worker import TunedProcess

INLINED = "model as SQL"


@dataclass(frozen=True, slots=True)
class System:
    """A way to run a filter on a layout; `open` gives a new session."""

    name: str
    layout: Layout
    open: Callable[[], Session]
    selectivities: tuple[float, ...] = ()
    """Those that it runs at, once each, for a system that is too slow for more; all where it is empty."""


@dataclass(slots=True)
class Timed:
    """One system and filter: seconds of the first query, with opening the connection, and of the warm ones."""

    system: str
    order: str
    selectivity: float
    rows: int
    cold: float = 0.0
    warm: list[float] = field(default_factory=list)
    planning: list[float] = field(default_factory=list)
    row_groups_skipped: int | None = None

    @property
    def seconds(self) -> float:
        """Of a warm query; of the cold one where there are none."""
        return median(self.warm) if self.warm else self.cold


@contextmanager
def systems_of(case: Case, generated: Layout, clustered: Layout) -> Iterator[list[System]]:
    """The baseline first. What they need on disk is made before: metadata, and a file with a column of scores."""
    hulls = {layout: with_hulls(layout) for layout in (generated, clustered)}
    scores = {layout: with_score_maps(layout, case.model) for layout in (generated, clustered)}
    file = _with_scores(case, generated)
    process = TunedProcess(case.file, case.spec, case.inputs)

    try:
        yield [
            System("PyTorch UDF", generated, case.pytorch),
            System("PyTorch UDF, tuned", generated, process.open),
            System("onnxruntime on batches", generated, lambda: PulledSession(case.file)),
            System(INLINED, generated, lambda: inlined_session(case.file), (FEW,)),
            System("column of scores", generated, lambda: column_session(file)),
            System("skipml, skipping off", generated, case.scoring),
            System("skipml, in Python", generated, case.in_python),
            System("skipml", generated, case.skipping),
            System("skipml, hulls", generated, partial(case.skipping, hulls[generated])),
            System("skipml, score maps", generated, partial(case.skipping, scores[generated])),
            System("PyTorch UDF", clustered, case.pytorch),
            System("skipml, in Python", clustered, case.in_python),
            System("skipml", clustered, case.skipping),
            System("skipml, hulls", clustered, partial(case.skipping, hulls[clustered])),
            System("skipml, score maps", clustered, partial(case.skipping, scores[clustered])),
        ]
    finally:
        process.end()


def compare(
    case: Case, systems: Sequence[System], filters: Sequence[Filter], *, runs: int, tick: Callable[[], None]
) -> list[Timed]:
    """Each filter once on a new connection of each system, then `runs` times by turns; `tick` is called after each.

    Raises AssertionError where a system gives other rows than the first.
    """
    return [timed for wanted in filters for timed in _compare_one(case, systems, wanted, runs, tick)]


def _compare_one(
    case: Case, systems: Sequence[System], wanted: Filter, runs: int, tick: Callable[[], None]
) -> list[Timed]:
    chosen = [s for s in systems if not s.selectivities or wanted.selectivity in s.selectivities]
    found: list[Timed] = []
    expected: Answer | None = None
    with ExitStack() as stack:
        sessions = []
        for system in chosen:
            started = time.perf_counter()
            sessions.append(stack.enter_context(closing(system.open())))
            answer = sessions[-1].run(case.query(system.layout, wanted))
            timed = Timed(system.name, system.layout.order, wanted.selectivity, answer.rows.n)
            timed.cold = time.perf_counter() - started
            expected = expected or answer
            _check(system, wanted, answer, expected)
            found.append(timed)
            tick()
        for turn in range(runs):
            for i in (*range(turn % len(chosen), len(chosen)), *range(turn % len(chosen))):
                if chosen[i].selectivities:
                    continue
                answer = sessions[i].run(case.query(chosen[i].layout, wanted))
                assert expected is not None
                _check(chosen[i], wanted, answer, expected)
                _note(found[i], answer)
                tick()
    return found


def _check(system: System, wanted: Filter, answer: Answer, expected: Answer) -> None:
    name = f"{system.name} ({system.layout.order})"
    assert answer.rows == expected.rows, f"{name} gave other rows: {answer.rows}, not {expected.rows}, for {wanted}"


def _note(timed: Timed, answer: Answer) -> None:
    timed.warm.append(answer.seconds)
    if answer.report is not None:
        timed.planning.append(answer.report.seconds)
        timed.row_groups_skipped = answer.report.counters["skipped"]


def _with_scores(case: Case, layout: Layout) -> Path:
    """A file like that of the layout, with a column of the model's scores."""
    path = layout.path.with_name(f"{layout.path.stem}_scored_{case.model.hash[:8]}.parquet")
    if not path.exists():
        partial = path.with_suffix(".partial")
        with skipml.connect() as connection:
            connection.register_model(case.spec.name, case.model)
            connection.execute("SET enable_progress_bar = false; SET threads = 1")  # row groups of the exact size
            connection.execute(
                f"COPY (SELECT *, {case.spec.name}({', '.join(case.inputs)}) AS score FROM '{layout.path}') "
                f"TO '{partial}' (FORMAT parquet, ROW_GROUP_SIZE {layout.row_group_rows})"
            )
        partial.replace(path)
    return path
