"""One suite over the engines that run plans: the rows are those of DuckDB on a loaded table with the same function."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import KEEP, SKIP
from skipml.engines import arrow, duckdb_plans, polars
from skipml.engines.protocol import Engine
from tests.oracle import identity, model
from tests.soundness.axes import Axes
from tests.soundness.cases import NAME, write
from tests.soundness.conditions import conditions, predicate_of, sql_of
from tests.soundness.differential import case_of, connection
from tests.soundness.lakes import KINDS

LAKES, PLANS = 25, 8


@dataclass(frozen=True)
class Run:
    """An engine, and how to make a table of what its functions give."""

    engine: Engine[Any, Any]
    of_candidates: Callable[[Any], pa.Table]
    of_rows: Callable[[Any], pa.Table]


ENGINES = {
    "duckdb": Run(duckdb_plans, lambda found: found.to_arrow_table(), lambda found: found.to_arrow_table()),
    "arrow": Run(arrow, lambda found: found.to_table(), lambda found: found.read_all()),
    "polars": Run(polars, lambda found: found.collect().to_arrow(), lambda found: found.collect().to_arrow()),
    "polars streaming": Run(
        polars,
        lambda found: found.collect(engine="streaming").to_arrow(),
        lambda found: found.collect(engine="streaming").to_arrow(),
    ),
}


@pytest.fixture(params=ENGINES)
def run(request: pytest.FixtureRequest) -> Run:
    return ENGINES[request.param]


def write_groups(path: Path, values: list[list[int]]) -> Path:
    """A file with a row group for each list."""
    tables = [pa.table({"a": pa.array(group, pa.int64()), "id": range(len(group))}) for group in values]
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return path


@dataclass(frozen=True)
class Case:
    """A plan on random files, by name; the ids that DuckDB finds in a table of their rows, and those of the blocks that
    are not skipped.
    """

    name: str
    plan: skipml.Plan
    expected: list[int]
    left: set[int]


def random_plans(folder: Path, lakes: int, plans: int) -> Iterator[Case]:
    """So many plans on each of so many lakes."""
    number = done = 0
    with connection() as con:
        while done < lakes:
            number += 1
            axes = Axes.draw(np.random.default_rng([11, number]))
            if not all(KINDS[kind].exact for kind in axes.types):
                continue
            done += 1
            case = case_of(axes)
            files = write(case, folder / str(number))
            values = files.rows  # noqa: F841 DuckDB reads it
            con.execute("CREATE OR REPLACE TABLE truth AS FROM values")
            con.register_model(NAME, case.model)
            inputs = ", ".join(
                KINDS[kind].arguments[0].format(name) for kind, name in zip(axes.types, axes.lake.columns, strict=True)
            )
            n_outputs = case.model.n_outputs
            for condition in conditions(axes.rng(3), files.scores, plans):
                plan = skipml.plan(
                    files.paths, predicate_of(condition, case.model), budget=Budget(1.0, prove_keep=True)
                )
                asked = f"SELECT id FROM truth WHERE {sql_of(condition, NAME, inputs, n_outputs)} ORDER BY id"
                expected = [row[0] for row in con.execute(asked).fetchall()]
                left = files.rows["id"].to_numpy()[np.repeat(plan.decisions != SKIP, plan.footers.n_rows)]
                yield Case(f"{number}: {condition}", plan, expected, set(left.tolist()))
            con.remove_function(NAME)


def test_all_engines_give_the_rows_of_duckdb_on_a_table(tmp_path: Path, count_cases: Callable[[int], None]) -> None:
    skipped = 0
    for i, case in enumerate(random_plans(tmp_path, LAKES, PLANS)):
        for name, run in ENGINES.items():
            assert run.of_rows(run.engine.rows(case.plan, ["id"]))["id"].to_pylist() == case.expected, (name, case.name)
            if i // PLANS % 4 == 3:
                near = run.of_candidates(run.engine.candidates(case.plan, ["id"]))["id"].to_pylist()
                assert case.left <= set(near), (name, case.name)
        skipped += case.plan.decisions.tolist().count(SKIP)
    assert skipped > LAKES * PLANS
    count_cases(LAKES * PLANS)


def test_row_groups_that_are_skipped_are_not_read(tmp_path: Path, run: Run) -> None:
    path = write_groups(tmp_path / "a.parquet", [[1, 2], [5, 6], [9, 10]])
    plan = skipml.plan(path, model(identity()).between(4.5, 5.5))
    assert run.of_candidates(run.engine.candidates(plan, ["a"]))["a"].to_pylist() == [5, 6]
    assert run.of_rows(run.engine.rows(plan))["a"].to_pylist() == [5]


def test_rows_of_blocks_that_are_kept_are_not_scored(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_groups(tmp_path / "a.parquet", [[1, 2], [5, 6], [9, 10]])
    plan = skipml.plan(path, model(identity()) < 7, budget=Budget(1.0, prove_keep=True))
    assert plan.decisions.tolist() == [KEEP, KEEP, SKIP]
    scored: list[int] = []
    monkeypatch.setattr(type(plan.predicate), "matches", lambda self, rows: scored.append(len(rows)))
    assert run.of_rows(run.engine.rows(plan, ["a"]))["a"].to_pylist() == [1, 2, 5, 6]
    assert not scored


def test_a_plan_that_skips_all_has_the_types_of_the_files(tmp_path: Path, run: Run) -> None:
    path = write_groups(tmp_path / "a.parquet", [[1, 2], [5, 6]])
    found = run.of_rows(run.engine.rows(skipml.plan(path, model(identity()) > 7), ["id", "a"]))
    assert (found.num_rows, found.schema.names) == (0, ["id", "a"])
    assert found.schema.types == [pa.int64(), pa.int64()]


def test_a_file_that_was_rewritten_fails_the_query(tmp_path: Path, run: Run) -> None:
    path = write_groups(tmp_path / "a.parquet", [[1, 2], [5, 6]])
    plan = skipml.plan(path, model(identity()) > 4)
    lazy = run.engine.rows(plan)
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
    with pytest.raises((skipml.FileChangedError, pl.exceptions.ComputeError, duckdb.Error), match="was rewritten"):
        run.of_rows(lazy)


def test_a_file_without_a_wanted_column_is_refused_at_once(tmp_path: Path, run: Run) -> None:
    path = write_groups(tmp_path / "a.parquet", [[1, 2]])
    for ask in (run.engine.rows, run.engine.candidates):
        with pytest.raises(skipml.SchemaError, match="no column 'y'"):
            ask(skipml.plan(path, model(identity()) > 4), ["y"])


def test_names_are_taken_as_they_are(tmp_path: Path, run: Run) -> None:
    path = write_groups(tmp_path / "x=1*[a].parquet", [[1, 2], [5, 6]])
    plan = skipml.plan(path, model(identity(), "A") > 5)
    assert run.of_rows(run.engine.rows(plan))["a"].to_pylist() == [6]


def test_many_runs_are_read_in_few_scans(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write_groups(tmp_path / "a.parquet", [[i % 2] * int(rng.integers(1, 9)) for i in range(300)])
    plan = skipml.plan(path, model(identity()) > 0.8, budget=Budget(1.0))
    assert plan.decisions.tolist().count(SKIP) == 150
    lazy = plan.to_polars(["a"])
    assert lazy.explain().count("Parquet SCAN") == 63
    assert lazy.collect()["a"].to_list() == plan.scan(["a"]).read_all()["a"].to_pylist()


def test_a_plan_names_its_engines(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "a.parquet", [[1, 2], [5, 6]])
    plan = skipml.plan(path, model(identity()) > 5, budget=Budget(1.0))
    assert plan.to_polars().select(pl.col("a").sum()).collect().item() == 6
    assert plan.candidates().to_table().num_rows == 2
    found = plan.to_duckdb(["a"])
    assert found.sum("a").fetchall() == found.sum("a").fetchall() == [(6,)]
    with duckdb.connect() as con:
        assert plan.to_duckdb(connection=con).filter("a = 6").fetchall() == [(6, 1)]
