"""Top-k by score: the order of the rows, and which row groups hold none before a limit.

The order is DuckDB's: NaN is greater than every number, -0.0 equals 0.0, NULL comes first or last as told. Rows of
equal score may stand for each other, unless something behind the score tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.bounds.outcome import EVALUATE, SKIP, Outcome, Reason
from skipml.bounds.reading import as_read
from skipml.decisions import decide
from skipml.errors import PredicateError
from skipml.predicates import Score
from skipml.regions import Regions
from skipml.score_tests import Operator, Threshold

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_BEFORE: Mapping[tuple[bool, bool], Operator] = {
    (False, False): ">",
    (False, True): ">=",
    (True, False): "<",
    (True, True): "<=",
}
"""Which scores come before a limit, by whether the order rises and whether ties are broken."""
FIRST_RANK, LAST_RANK = np.iinfo(np.int64).min, np.iinfo(np.int64).max
"""Those of NULL; every value lies between them."""
_MAGNITUDE = np.int64(LAST_RANK)
"""All bits of a float64 but its sign."""


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """The `k` rows behind the first `offset` in the order of a score of one value."""

    score: Score
    k: int
    ascending: bool = False
    offset: int = 0
    nulls_first: bool = False
    breaks_ties: bool = False
    """Whether something behind the score orders the rows of equal score, so that each of them matters."""

    def __post_init__(self) -> None:
        if self.k < 0 or self.offset < 0:
            raise PredicateError(f"k and offset cannot be negative, but they are {self.k} and {self.offset}")

    @property
    def n(self) -> int:
        """How many rows come into question: those that the offset leaves out are looked for too."""
        return self.k + self.offset

    def ranks(self, values: Floats, is_null: Bools) -> Indices:
        """Integers [R] in the order of the rows, the first row having the smallest: equal for equal scores."""
        bits = np.where(np.isnan(values), np.nan, values + 0.0).view(np.int64)
        rising = bits ^ ((bits >> 63) & _MAGNITUDE)
        return np.where(is_null, self._null_rank, rising if self.ascending else ~rising)

    def value(self, rank: int) -> float | None:
        """The score of a rank, None for NULL."""
        if rank == self._null_rank:
            return None
        rising = np.array([rank if self.ascending else ~rank], np.int64)
        return float((rising ^ ((rising >> 63) & _MAGNITUDE)).view(np.float64)[0])

    @property
    def _null_rank(self) -> int:
        """Beyond the rank of every value, NaN included."""
        return FIRST_RANK if self.nulls_first else LAST_RANK

    def rule_out(self, regions: Regions, limit: int, budget: Budget, chosen: Bools) -> Outcome:
        """SKIP for those of the chosen blocks [N] that hold no row before the rank `limit`, or, where ties are broken,
        none at it either.

        Sound because a row with a score comes before only if the score passes the limit, and one without only if NULL
        does; a block that may hold NULL stays where that is so.
        """
        found = self._without_scores_before(regions, limit, budget, chosen)
        null_is_before = self._null_rank < limit or (self.breaks_ties and self._null_rank == limit)
        if not null_is_before:
            return found
        seen = as_read(regions.project(self.score.inputs), self.score.function)
        may_be_null = (seen.may_be_null | seen.all_null | seen.unknown).any(axis=1)
        return found.replace_decision(np.where(may_be_null & (found.decision == SKIP), EVALUATE, found.decision))

    def _without_scores_before(self, regions: Regions, limit: int, budget: Budget, chosen: Bools) -> Outcome:
        """SKIP for those of the chosen blocks in which no row with a score comes before the limit."""
        value = self.value(limit)
        if value is None or (np.isnan(value) and (self.ascending or not self.breaks_ties)):
            # the limit is an end of all scores: they all come before, or none
            none_is_before = self.nulls_first if value is None else not self.ascending
            seen = as_read(regions.project(self.score.inputs), self.score.function)
            proved = chosen & (seen.all_null.any(axis=1) | none_is_before)
            nothing = Outcome.evaluate_all(len(regions), 1)
            decided = nothing.replace_decision(np.where(proved, SKIP, EVALUATE))
            return replace(decided, reason=np.where(proved, Reason.PROVED, Reason.NULL_OR_NAN).astype(np.int8))
        if np.isnan(value):
            return decide(Threshold(self.score, ">=", np.inf), regions, budget, chosen)  # NaN passes it
        return decide(Threshold(self.score, _BEFORE[self.ascending, self.breaks_ties], value), regions, budget, chosen)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of R rows: `values` float64 [R] and `is_null` [R], with the row group [R] and the place of the row in
    it [R].
    """

    values: Floats
    is_null: Bools
    group: Indices
    row: Indices


@dataclass(frozen=True, slots=True)
class Worst:
    """The n-th best score so far: rows behind it need not be told of."""

    value: float | None
    """None for NULL."""
    ascending: bool
    nulls_first: bool


Visit = Callable[[Indices, Worst | None], Scored]
"""Scores the rows that come into question of some row groups, given by ascending number."""
