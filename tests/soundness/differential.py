"""Differential fuzzing of decisions and of queries over random cases.

python -m tests.soundness.differential --minutes 10 [--seed 1] [--cases 1000000]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import perf_counter

import duckdb
import numpy as np
import pytest

import skipml
from tests.oracle import standing_clock
from tests.scorers import no_kernels
from tests.soundness.axes import Axes
from tests.soundness.cases import NAME, Case, Question, check_plans, check_sql, problems_of, smaller, write
from tests.soundness.command import fuzzer_parser
from tests.soundness.conditions import conditions, sql_of
from tests.soundness.corpus import FOLDER, store, to_json
from tests.soundness.lakes import KINDS
from tests.soundness.questions import Asker, Limits
from tests.soundness.random_models import network_of
from tests.soundness.shrink import shrunk

PREDICATES, QUERIES = 800, 2
"""Conditions on the files of one case: decided by plans, and asked in SQL."""
_SHRINK_SECONDS = 20.0


def case_of(axes: Axes) -> Case:
    """The files and the model of a case, without conditions."""
    groups = axes.lake.table(axes.rng(0))
    return Case(tuple(groups), axes.writer, axes.n_files, network_of(axes), axes.metadata, axes.budget)


def questions_of(axes: Axes, scores: Limits) -> tuple[Question, ...]:
    """Conditions in SQL, on arguments that are not always plain columns."""
    rng = axes.rng(2)
    plain = [KINDS[kind].arguments[0].format(name) for kind, name in zip(axes.types, axes.lake.columns, strict=True)]
    arguments = [
        str(rng.choice(KINDS[kind].arguments)).format(name)
        for kind, name in zip(axes.types, axes.lake.columns, strict=True)
    ]
    n_outputs = scores.scores.shape[1]
    asker = Asker(rng, scores, NAME, ", ".join(arguments), n_outputs)
    asked = [asker.question() for _ in range(QUERIES - 1)]
    found = [Question(question.condition, tuple(question.parameters)) for question in asked]
    limit = scores.near(int(rng.integers(n_outputs)))
    return (*found, Question(sql_of((">", 0, limit), NAME, ", ".join(plain), n_outputs)))


def tried(con: skipml.Connection, axes: Axes, folder: Path, predicates: int) -> tuple[Case, list[str], Counter[str]]:
    """A case with its conditions, what is wrong with it, and counts."""
    case = case_of(axes)
    try:
        files = write(case, folder)
        rng = axes.rng(3)
        case = replace(case, conditions=tuple(conditions(rng, files.scores, predicates)))
        problems, counts = check_plans(case, files)
        limits = Limits(rng, files.scores.values.astype(np.float64), case.network.dtype)
        case = replace(case, questions=questions_of(axes, limits))
        wrong, more = check_sql(con, case, files)
    except Exception as error:  # whatever it is, it is a finding
        return case, [f"{type(error).__name__}: {error}"], Counter()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return case, problems + wrong, counts + more


def simplest(con: skipml.Connection, case: Case, folders: Iterator[Path]) -> Case:
    """The simplest case that still fails."""

    def fails(smaller_case: Case) -> bool:
        try:
            return bool(problems_of(con, smaller_case, next(folders)))
        except Exception:
            return True

    return shrunk(case, smaller, fails, _SHRINK_SECONDS) if fails(case) else case


@contextmanager
def connection() -> Iterator[skipml.Connection]:
    """A connection with the scorer that plans have."""
    with pytest.MonkeyPatch.context() as patch, standing_clock():
        patch.setattr("skipml.engines.scorers.Kernels", no_kernels)
        with skipml.connect(config={"allow_unsigned_extensions": "false", "threads": 1}) as con:
            yield con


def fuzz(
    seed: int,
    is_over: Callable[[Counter[str]], bool],
    *,
    corpus: Path = FOLDER,
    predicates: int = PREDICATES,
    say: Callable[[str], object] = print,
) -> tuple[Counter[str], Counter[tuple[str, str]], list[Path]]:
    """Try random cases until it is over -> counts, how often each value of each axis was tried, the cases stored."""
    totals, axes_tried, stored = Counter[str](), Counter[tuple[str, str]](), []
    start = said = perf_counter()
    with tempfile.TemporaryDirectory() as place, connection() as con:
        folders = (Path(place) / str(i) for i in count())
        for number in count():
            if is_over(totals):
                break
            axes = Axes.draw(np.random.default_rng([seed, number]))
            case, problems, counts = tried(con, axes, next(folders), predicates)
            totals += counts + Counter(lakes=1)
            axes_tried.update(axes.values().items())
            if problems:
                totals["failed"] += 1
                say(f"seed {seed}, case {number}, {axes}: {problems[:3]}")
                stored.append(store("differential", to_json(simplest(con, case, folders), problems[0]), corpus))
                say(f"stored as {stored[-1]}")
            if perf_counter() - said > 60:
                said = perf_counter()
                say(summary(totals, said - start))
    say(f"seed {seed}: {summary(totals, perf_counter() - start)}")
    return totals, axes_tried, stored


def summary(totals: Counter[str], seconds: float) -> str:
    """One line."""
    rate = totals["cases"] / max(seconds, 1e-9)
    shares = ", ".join(f"{totals[name] / max(1, totals['blocks']):.0%} {name}" for name in ("skipped", "kept"))
    return (
        f"{totals['cases']:,} cases on {totals['lakes']:,} lakes ({rate:,.0f} per second; {shares} of "
        f"{totals['blocks']:,} blocks), {totals['queries']:,} queries, {totals['failed']} failed, {seconds:,.0f} s"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = fuzzer_parser(__doc__, minutes=10.0)
    parser.add_argument("--cases", type=int, default=10**9, help="stop earlier, after so many cases")
    given = parser.parse_args(arguments)
    end = perf_counter() + 60 * given.minutes
    print(f"seed {given.seed}, DuckDB {duckdb.__version__}")  # noqa: T201
    totals, axes_tried, stored = fuzz(given.seed, lambda totals: perf_counter() > end or totals["cases"] >= given.cases)
    for (axis, value), number in sorted(axes_tried.items()):
        print(f"  {axis:10} {value:30} {number:,}")  # noqa: T201
    return 1 if stored or totals["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
