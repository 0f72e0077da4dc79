"""Shortcuts: conjuncts that are not asked of the rows for which metadata has answered them.

A conjunct C becomes `CASE WHEN <answered> THEN <answer> ELSE C END`: DuckDB evaluates C for the rows that are left, and
where all are answered it neither scores nor reads the model's columns. What is answered is the place of a row in the
files served, so it holds for this plan alone. C stays in the text, and so do its parameters.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.bounds.outcome import EVALUATE, KEEP, Reason
from skipml.decisions import Decisions
from skipml.engines.dialect import Node
from skipml.engines.places import COLUMNS, Places
from skipml.engines.routes import Route
from skipml.engines.sql import Parser, Query, Reference
from skipml.footers import Footers

_LEAST_GAIN = 1e-3
"""Seconds that a shortcut has to save, as it makes the query longer."""
_WORTH_KEEP = 0.03
"""Seconds of scoring, below which no work is done to prove KEEP alone."""
_AT_LEAST = 1.5
"""How many times what asking for places costs it has to save."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What is known of the rows of one scan: the decision about each block, for all model conditions together, and the
    conjuncts, by number, that are TRUE where it is KEEP.
    """

    blocks: Footers
    decision: NDArray[np.int8]
    conjuncts: Collection[int]
    cost_per_row: float
    """Seconds that asking the conjuncts costs."""
    repeated: float = 0.0
    """How many times more a CASE asks for a score: DuckDB shares none between comparisons there, BETWEEN is two."""

    @property
    def are_complete(self) -> bool:
        """Whether no row that is not skipped needs a score."""
        return not (self.decision == EVALUATE).any()


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A table reference to run, the CASE for each conjunct by number, and the rows read without scoring."""

    node: Node
    cases: dict[int, Node]
    rows_unscored: int


def shorten(parser: Parser, query: Query, reference: Reference, route: Route, answers: Answers) -> Shortcut | None:
    """The shortcut for one reference that is read by a route, None where there is none or it does not pay."""
    places = Places.of(answers.blocks, answers.decision, route.served)
    answered = int(places.n_rows.sum()) - places.rows(EVALUATE)
    cost = places.cost / query.threads * int(places.n_rows.sum())
    gain = (answered - answers.repeated * places.rows(EVALUATE)) * answers.cost_per_row
    if gain < _LEAST_GAIN or gain < _AT_LEAST * cost:
        return None
    if not places.are_alike and not _are_known(query, reference, route):
        return None
    answered_test = places.test(lambda decision: decision != EVALUATE, reference.alias)
    answer = "TRUE"
    if places.rows(KEEP) < answered:
        answer = places.test(lambda decision: decision == KEEP, reference.alias) if places.rows(KEEP) else "FALSE"
    case = parser.select_list([f"CASE WHEN {answered_test} THEN {answer} ELSE FALSE END"])[0]
    node = route.node or parser.read(reference, answers.blocks.files, None, ())
    return Shortcut(node, dict.fromkeys(answers.conjuncts, case), answered)


def _are_known(query: Query, reference: Reference, route: Route) -> bool:
    """Whether DuckDB can tell where a row lies in the files served."""
    real = {name.lower() for name, _ in reference.schema} | {name.lower() for name in reference.column_aliases}
    if route.is_condition or real & set(COLUMNS):
        return False
    # DuckDB numbers files anew where a condition leaves out some, by their partitions or names.
    by_name = "filename" in query.virtual_columns or reference.option("filename")
    return len(route.served) == 1 or not (by_name or any("=" in path for path in reference.files))


def keep_is_worth_work(decisions: Decisions, blocks: Footers, budget: Budget) -> bool:
    """Whether scoring what is left costs enough that some of it may be saved."""
    if decisions.error or (decisions.reason == Reason.SAMPLE).any():  # of a sample nothing can be KEEP
        return False
    left = int(blocks.n_rows[(decisions.decision == EVALUATE) & (decisions.reason != Reason.WITNESS)].sum())
    return left * budget.cost_per_row > _WORTH_KEEP
