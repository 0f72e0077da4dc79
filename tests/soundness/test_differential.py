"""No row lost, no row added: random lakes, networks and conditions, against the same rows in a loaded table.

The oracle is a DuckDB table, because DuckDB's own Parquet scan leaves out NaN rows for a plain comparison. Skipping is
off for it, and it has no row groups that anything of skipml could skip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import KEEP, SKIP
from skipml.engines import scorers
from skipml.function import Function
from skipml.network import Network
from tests.scorers import no_kernels
from tests.soundness.lakes import KINDS, Lake, Rng, lakes
from tests.soundness.questions import Asker, Limits, lake_networks, wanted

pytestmark = pytest.mark.usefixtures("patient")

EXAMPLES: Mapping[str, tuple[int, int]] = {
    "small row groups": (110, 6),
    "duckdb": (30, 5),
    "enriched": (60, 5),
    "plans": (100, 5),
    "enriched plans": (60, 5),
}
"""Lakes, and questions with limits of their own to each."""
_VERSION = int(duckdb.__version__.split(".")[0])


def many(lakes: int) -> settings:
    """So many examples; the profile that searches for new cases tries twenty times as many."""
    times = 1 if settings().derandomize else 20
    return settings(max_examples=times * lakes, suppress_health_check=list(HealthCheck))


def test_there_are_a_thousand_cases_with_each_version() -> None:
    assert sum(n * questions for n, questions in EXAMPLES.values()) >= 1000


@pytest.fixture(scope="module")
def con() -> Iterator[skipml.Connection]:
    with skipml.connect() as connection:
        connection.execute("SET threads = 1")
        yield connection


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> Iterator[skipml.Connection]:
    """A connection with the scorer that plans without an engine have."""
    monkeypatch.setattr(scorers, "Kernels", no_kernels)
    with skipml.connect(config={"allow_unsigned_extensions": "false"}) as connection:
        connection.execute("SET threads = 1")
        yield connection


_model_names = (f"net{i}_" for i in count())
_folder_names = (f"lake{i}" for i in count())


@st.composite
def lakes_and_networks(draw: st.DrawFn, *, by_duckdb: bool = False) -> tuple[Lake, Network]:
    lake = draw(lakes(by_duckdb=by_duckdb))
    return lake, draw(lake_networks(lake))


def loaded(con: skipml.Connection, lake: Lake, folder: Path) -> tuple[list[Path], pa.Table, Rng]:
    """Write the lake and load the same values as the table `truth`.

    Each lake has a folder of its own: DuckDB 1.5 may take pages from its cache where a file is rewritten at once.
    """
    folder.mkdir()
    rng = np.random.default_rng([lake.seed, _VERSION])
    paths, values = lake.write(folder, rng)
    con.execute("CREATE OR REPLACE TABLE truth AS FROM values")
    return paths, values, rng


def enriched(paths: list[Path], lake: Lake, rng: Rng) -> None:
    """Store all that can be stored, in one of the places where it can be."""
    size = int(rng.choice([4, 8, 13, 45]))
    boxes, embed = int(rng.choice([0, 2, 5])), bool(rng.integers(2))
    skipml.enrich(paths, list(lake.columns), pairs="all", hull_bytes=size, boxes=boxes, embed=embed)


def arguments(rng: Rng, lake: Lake) -> str:
    """SQL expressions over the columns, the model's inputs."""
    return ", ".join(
        str(rng.choice(KINDS[kind].arguments)).format(name) for kind, name in zip(lake.kinds, lake.columns, strict=True)
    )


def scores_of(con: skipml.Connection, call: str, network: Function) -> Limits:
    """The scores of all rows."""
    found = [row[0] for row in con.execute(f"SELECT {call} FROM truth").fetchall()]
    rows = [value if isinstance(value, list) else [value] * network.n_outputs for value in found]
    scores = np.array([[np.nan if v is None else v for v in row] for row in rows], np.float64)
    return Limits(np.random.default_rng(len(rows)), scores.reshape(-1, network.n_outputs), network.dtype)


def check_sql(con: skipml.Connection, lake: Lake, network: Function, folder: Path, name: str) -> Counter[str]:
    """Ask the files and the table the same questions."""
    questions = EXAMPLES[name][1]
    paths, _, rng = loaded(con, lake, folder)
    if name == "enriched":
        enriched(paths, lake, rng)
    called = next(_model_names)
    con.register_model(called, skipml.Model(network, tuple(lake.columns)))
    inputs = arguments(rng, lake)
    con.skipping = False
    limits = scores_of(con, f"{called}({inputs})", network)
    asker = Asker(rng, Limits(rng, limits.scores, limits.dtype), called, inputs, network.n_outputs)
    source = f"'{paths[0]}'" if len(paths) == 1 else f"'{folder}/*.parquet'"
    counts: Counter[str] = Counter()
    for _ in range(questions):
        question = asker.question()
        con.skipping = True
        found = con.execute(f"SELECT id FROM {source} WHERE {question.condition}", question.parameters).fetchall()
        report = con.last_report
        con.skipping = False
        expected = con.execute(f"SELECT id FROM truth WHERE {question.condition}", question.parameters).fetchall()
        assert sorted(found) == sorted(expected), (question, str(report))
        assert report is not None
        assert not report.counters["errors"], f"{report}: an error while pruning would hide what is tested here"
        counts += Counter(cases=1, **{k: v for k, v in report.counters.items() if k in ("row_groups", "skipped")})
    return counts


@pytest.mark.parametrize("name", ["small row groups", "duckdb", "enriched"])
def test_no_row_is_lost_and_none_added(
    name: str, con: skipml.Connection, tmp_path: Path, count_cases: Callable[[int], None]
) -> None:
    counts: Counter[str] = Counter()

    @many(EXAMPLES[name][0])
    @given(lakes_and_networks(by_duckdb=name == "duckdb"))
    def ask(case: tuple[Lake, Network]) -> None:
        counts.update(check_sql(con, *case, tmp_path / next(_folder_names), name))

    ask()
    count_cases(counts["cases"])
    assert counts["cases"] >= EXAMPLES[name][0] * EXAMPLES[name][1]
    assert counts["skipped"] >= counts["row_groups"] * 0.05, "the cases must be such that something is skipped"


def check_plans(con: skipml.Connection, lake: Lake, network: Function, folder: Path, name: str) -> Counter[str]:
    """Hold the decisions of plans against every row."""
    questions = EXAMPLES[name][1]
    paths, table, rng = loaded(con, lake, folder)
    if name == "enriched plans":
        enriched(paths, lake, rng)
    called, model = next(_model_names), skipml.Model(network, tuple(lake.columns))
    con.register_model(called, model)
    inputs = ", ".join(
        KINDS[kind].arguments[0].format(column) for kind, column in zip(lake.kinds, lake.columns, strict=True)
    )
    con.skipping = False
    budget = Budget.unlimited(boxes_per_block=32, prove_keep=True)
    limits = Limits(rng, model.evaluate(table).astype(np.float64), network.dtype)
    counts: Counter[str] = Counter()
    for _ in range(questions):
        test = wanted(rng, model, limits, f"{called}({inputs})")
        plan = skipml.plan(paths, test.predicate, budget=budget)
        assert not plan.result.error
        expected = test.predicate.matches(table)
        if all(KINDS[kind].exact for kind in lake.kinds):
            rows = con.execute(f"SELECT id FROM truth WHERE {test.sql} ORDER BY id").fetchall()
            assert table["id"].to_numpy()[expected].tolist() == [row[0] for row in rows], test
        group = np.repeat(np.arange(len(plan.decisions)), plan.footers.n_rows)
        assert not expected[plan.decisions[group] == SKIP].any(), "SKIP: TRUE for no row"
        assert expected[plan.decisions[group] == KEEP].all(), "KEEP: TRUE for every row"
        ids = plan.scan(columns=["id"]).read_all()["id"].to_pylist()
        assert ids == table["id"].to_numpy()[expected].tolist(), test
        counts += Counter(cases=1, groups=len(plan.decisions))
        counts += Counter(skip=int((plan.decisions == SKIP).sum()), keep=int((plan.decisions == KEEP).sum()))
    return counts


@pytest.mark.parametrize("name", ["plans", "enriched plans"])
def test_decisions_of_plans_hold_for_every_row(
    name: str, python: skipml.Connection, tmp_path: Path, count_cases: Callable[[int], None]
) -> None:
    counts: Counter[str] = Counter()

    @many(EXAMPLES[name][0])
    @given(lakes_and_networks())
    def decide(case: tuple[Lake, Network]) -> None:
        counts.update(check_plans(python, *case, tmp_path / next(_folder_names), name))

    decide()
    count_cases(counts["cases"])
    assert counts["cases"] >= EXAMPLES[name][0] * EXAMPLES[name][1]
    assert counts["skip"] >= counts["groups"] * 0.1, "the cases must be such that something is skipped"
    assert counts["keep"] >= counts["groups"] * 0.02, "the cases must be such that something is kept"
