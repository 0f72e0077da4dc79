"""One differential case as plain data: row groups, a model, metadata, conditions. It is checked, shrunk and stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

import skipml
from skipml.bounds.memory import SHARED
from skipml.decisions import KEEP, SKIP, prune
from skipml.features import model_inputs
from skipml.footers import read_footers
from skipml.metadata.refine import refine
from skipml.network import Network
from skipml.regions import from_refined
from tests.soundness.axes import BUDGETS, METADATA
from tests.soundness.conditions import Condition, Scores, predicate_of
from tests.soundness.lakes import write_groups

NAME = "net"
"""What the model of a case is called in SQL."""
_PLANS = 3
"""How many of the conditions of a case go through `skipml.plan`; the others share its regions."""


@dataclass(frozen=True)
class Question:
    """A condition in SQL that calls NAME, and the parameters it binds."""

    condition: str
    parameters: Sequence[float] = ()


@dataclass(frozen=True)
class Case:
    """Files, a model, and the conditions asked of them one after the other."""

    groups: tuple[pa.Table, ...]
    """An `id` and the model's columns in each."""
    writer: str
    n_files: int
    network: Network
    metadata: str
    budget: str
    conditions: tuple[Condition, ...] = ()
    questions: tuple[Question, ...] = ()

    @property
    def model(self) -> skipml.Model:
        return skipml.Model(self.network, tuple(self.groups[0].column_names[1:]))


@dataclass(frozen=True)
class Files:
    """The files of a case, and their rows."""

    paths: list[Path]
    rows: pa.Table
    scores: Scores


def write(case: Case, folder: Path) -> Files:
    """Write the files of a case into a new folder, with their metadata."""
    folder.mkdir()
    paths, rows = write_groups(case.writer, list(case.groups), case.n_files, folder)
    settings = METADATA[case.metadata]
    if settings is not None:
        models = [case.model] if settings.get("models") else []
        skipml.enrich(paths, list(case.model.columns), **{**settings, "models": models})
    null = np.asarray(model_inputs(rows, case.model.columns)[1].any(axis=1), np.bool_)
    return Files(paths, rows, Scores(case.model.evaluate(rows), null))


def check_plans(case: Case, files: Files) -> tuple[list[str], Counter[str]]:
    """What is wrong with the decisions about row groups, and counts: a case is one file, model and condition."""
    model = case.model
    SHARED.forget()
    refined = refine(read_footers([str(path) for path in files.paths], model.columns), None)
    regions = from_refined(refined, model.columns)
    block = np.repeat(np.arange(len(regions)), regions.n_rows)
    problems, counts = [], Counter[str]()
    for i, condition in enumerate(case.conditions):
        predicate = predicate_of(condition, model)
        budget = BUDGETS[case.budget](predicate.seconds_per_row)
        true, _ = files.scores.holds(condition)
        if i < _PLANS:
            plan = skipml.plan(files.paths, predicate, budget=budget)
            found = plan.result
            ids = plan.scan(columns=["id"]).read_all()["id"].to_numpy()
            if not np.array_equal(ids, files.rows["id"].to_numpy()[true]):
                problems.append(f"{condition}: the scan of the plan gives {len(ids)} rows instead of {true.sum()}")
        else:
            found = prune(predicate, regions, budget)
        if found.error:
            problems.append(f"{condition}: {found.error}")
        decision = found.decision[block]
        lost, added = true & (decision == SKIP), ~true & (decision == KEEP)
        if lost.any():
            problems.append(f"{condition}: block {block[lost][0]} is SKIP, and {lost.sum()} rows qualify")
        if added.any():
            problems.append(f"{condition}: block {block[added][0]} is KEEP, and {added.sum()} rows do not qualify")
        counts += Counter(cases=len(files.paths), blocks=len(regions))
        counts += Counter(skipped=int((found.decision == SKIP).sum()), kept=int((found.decision == KEEP).sum()))
    return problems, counts


def check_sql(con: skipml.Connection, case: Case, files: Files) -> tuple[list[str], Counter[str]]:
    """What is wrong with the rows of queries: files against a loaded table, and whether each condition parts the rows
    into TRUE, FALSE and NULL, with skipping and without.
    """
    values = files.rows
    con.execute("CREATE OR REPLACE TABLE truth AS FROM values")
    con.register_model(NAME, case.model)
    source = ", ".join(f"'{path}'" for path in files.paths)
    problems, counts = [], Counter[str]()
    try:
        for question in case.questions:
            counts += Counter(queries=1)
            problems += _compared(con, f"read_parquet([{source}])", question, values.num_rows)
    finally:
        con.skipping = True
        con.remove_function(NAME)
    return problems, counts


def _compared(con: skipml.Connection, source: str, question: Question, n_rows: int) -> list[str]:
    p, parameters = question.condition, list(question.parameters)

    def ids(table: str, condition: str) -> list[int]:
        query = f"SELECT id FROM {table} WHERE {condition}"
        try:
            return sorted(row[0] for row in con.execute(query, parameters).fetchall())
        except duckdb.Error as error:
            return [hash(type(error).__name__)]

    con.skipping = False
    expected = ids("truth", p)
    con.skipping = True
    found = ids(source, p)
    errors = con.last_report.counters["errors"] if con.last_report is not None else 0
    problems = [] if found == expected else [f"{question}: {len(found)} rows instead of {len(expected)}"]
    problems += [f"{question}: {con.last_report}"] if errors else []
    for skipping in (True, False):
        con.skipping = skipping
        parts = [ids(source, condition) for condition in (p, f"NOT ({p})", f"({p}) IS NULL")]
        if sum(map(len, parts)) != n_rows or len(set().union(*parts)) != n_rows:
            problems.append(
                f"{question}: TRUE, FALSE and NULL are {list(map(len, parts))} of {n_rows} rows ({skipping})"
            )
    return problems


def problems_of(con: skipml.Connection, case: Case, folder: Path) -> list[str]:
    """All that is wrong with a case; `folder` is made."""
    files = write(case, folder)
    problems, _ = check_plans(case, files)
    return problems + (check_sql(con, case, files)[0] if case.questions else [])


def smaller(case: Case) -> list[Case]:
    """Cases that are simpler in one way, the simplest first."""
    found: list[Case] = []
    if case.conditions and case.questions:
        found += [replace(case, questions=()), replace(case, conditions=())]
    for name in ("conditions", "questions", "groups"):
        items = getattr(case, name)
        if len(items) > 1:
            half = len(items) // 2
            found += [replace(case, **{name: part}) for part in (items[:half], items[half:])]
            found += [replace(case, **{name: items[:i] + items[i + 1 :]}) for i in range(min(len(items), 16))]
    if case.metadata != "footers":
        found.append(replace(case, metadata="footers"))
    if case.n_files > 1:
        found.append(replace(case, n_files=1))
    for i, condition in enumerate(case.conditions):
        for part in condition[1:]:
            if isinstance(part, tuple):
                found.append(replace(case, conditions=(*case.conditions[:i], part, *case.conditions[i + 1 :])))
    for i, group in enumerate(case.groups):
        half = group.num_rows // 2
        pieces = [group.slice(0, half), group.slice(half)] if half else []
        if 1 < group.num_rows <= 8:
            pieces = [pa.concat_tables([group.slice(0, k), group.slice(k + 1)]) for k in range(group.num_rows)]
        found += [replace(case, groups=(*case.groups[:i], piece, *case.groups[i + 1 :])) for piece in pieces]
    return found
