"""Conditions on the distance to a query, as predicates that decide about posting lists."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann.balls import distance_bounds
from skipml.ann.metric import Matrix, Metric, Singles, distances
from skipml.ann.postings import ROW_ID
from skipml.ann.vectors import query_matrix
from skipml.bounds.budget import Budget
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP, Method, Outcome, Reason
from skipml.errors import PredicateError
from skipml.predicates import Predicate, Score
from skipml.regions import Regions
from skipml.score_tests import Operator

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_NEGATED: dict[Operator, Operator] = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}
_COMPARE = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}
_SECONDS_PER_VALUE = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """The distance of a row to a query [d]; compare it with a number: `index.distance(q) < 0.5`."""

    metric: Metric
    column: str
    query: Singles

    def __lt__(self, limit: float) -> Within:
        return Within(self, "<", float(limit))

    def __le__(self, limit: float) -> Within:
        return Within(self, "<=", float(limit))

    def __gt__(self, limit: float) -> Within:
        return Within(self, ">", float(limit))

    def __ge__(self, limit: float) -> Within:
        return Within(self, ">=", float(limit))

    def evaluate(self, rows: pa.Table) -> Floats:
        """That of each row of a table, which may come from the index or from its source."""
        found = _matrix(rows.column(self.column), len(self.query))
        return distances(self.metric, self.query[None], np.zeros(len(found), np.int64), found)


def _matrix(column: Any, dimension: int) -> Matrix:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    if pa.types.is_fixed_size_binary(whole.type):
        start = whole.offset * dimension
        data = np.frombuffer(whole.buffers()[1], np.int8)[start : start + len(whole) * dimension]
        return np.asarray(data.reshape(-1, dimension), np.int8)
    return query_matrix(whole, dimension)


@dataclass(frozen=True, slots=True, eq=False)
class Within(Predicate):
    """`distance < limit`, or `<=`, `>`, `>=`: decided by the ball around the vectors of a block."""

    distance: Distance
    operator: Operator
    limit: float

    def __post_init__(self) -> None:
        if math.isnan(self.limit):
            raise PredicateError("a distance cannot be compared with NaN: give a number")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.distance.column,)

    @property
    def scores(self) -> tuple[Score, ...]:
        return ()

    @property
    def seconds_per_row(self) -> float:
        return _SECONDS_PER_VALUE * len(self.distance.query)

    def decide(self, regions: Regions, budget: Budget, chosen: Bools | None = None) -> Outcome:
        start = perf_counter()
        balls = regions.balls.get(self.distance.column)
        if balls is None:
            return Outcome.evaluate_all(len(regions), 1)
        low, high = distance_bounds(self.distance.metric, balls, self.distance.query)
        compare, is_above = _COMPARE[self.operator], self.operator in (">", ">=")
        known = np.isfinite(low) & np.isfinite(high)
        # outside of what is known a distance may be NaN, which is greater than every number
        always = known & compare(low if is_above else high, self.limit)
        never = known & ~compare(high if is_above else low, self.limit)
        decision = np.where(always, KEEP, np.where(never, SKIP, EVALUATE)).astype(np.int8)
        reason = np.where(known, np.where(decision == EVALUATE, Reason.DEGENERATE, Reason.PROVED), Reason.OVERFLOW)
        found = Outcome(
            decision=decision,
            lower=low[:, None],
            upper=high[:, None],
            boxes=np.zeros(len(regions), np.int64),
            method=np.full(len(regions), Method.BALL, np.int8),
            reason=reason.astype(np.int8),
            seconds=perf_counter() - start,
        )
        return found if chosen is None else found.only(chosen)

    def matches(self, rows: pa.Table) -> Bools:
        value = self.distance.evaluate(rows)
        compared = _COMPARE[self.operator](value, self.limit)
        return np.asarray(compared | (np.isnan(value) & (self.operator in (">", ">="))), np.bool_)

    def negated(self) -> Predicate:
        return Within(self.distance, _NEGATED[self.operator], self.limit)


@dataclass(frozen=True, slots=True, eq=False)
class Present(Predicate):
    """Whether a row of the index is there still; `touched` says which blocks [N] hold deleted rows."""

    deleted: NDArray[np.int64]
    touched: Bools
    is_not: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        return (ROW_ID,)

    @property
    def scores(self) -> tuple[Score, ...]:
        return ()

    @property
    def seconds_per_row(self) -> float:
        return 0.0

    def decide(self, regions: Regions, budget: Budget, chosen: Bools | None = None) -> Outcome:
        found = Outcome.evaluate_all(len(regions), 0)
        untouched = SKIP if self.is_not else KEEP
        found = found.replace_decision(np.where(self.touched, EVALUATE, untouched).astype(np.int8))
        return found if chosen is None else found.only(chosen)

    def matches(self, rows: pa.Table) -> Bools:
        return np.asarray(np.isin(rows.column(ROW_ID).to_numpy(), self.deleted) == self.is_not, np.bool_)

    def negated(self) -> Predicate:
        return Present(self.deleted, self.touched, not self.is_not)
