"""Top-k by score: which row groups have to be scored to find the first rows in the order of a score.

Row groups are visited in the order of their bounds. The n-th best score so far is a threshold that only gets harder to
pass; a row group is ruled out once it is proved that none of its rows passes it. Contract: the first n rows of the
visited row groups, together with those of the row groups that were left open, are first n rows of the table.

The order is DuckDB's: NaN is greater than every number, -0.0 equals 0.0, NULL comes first or last as told. Rows of
equal score may stand for each other, unless something behind the score tells them apart.

Related work: Fagin et al., Optimal Aggregation Algorithms for Middleware (the threshold algorithm); Ilyas et al., A
Survey of Top-k Query Processing Techniques.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.bounds.evidence import score_map
from skipml.bounds.outcome import EVALUATE, SKIP, Outcome, Reason
from skipml.decisions import Decisions, decide
from skipml.errors import PredicateError
from skipml.metadata.refine import Refined
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
_FIRST_WAVE = 2
_GROWTH = 2
_LARGEST_WAVE = 1 << 22
"""Rows visited at a time: their scores are in memory together."""
_LESS_HOPE = 0.5
"""What part of the budget is left for the next wave where the last one has ruled nothing out."""
_REGRET = 0.1
"""What share of the row groups may be scored twice for nothing where an engine reads what is left."""
_FIRST, _LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_MAGNITUDE = np.int64(_LAST)
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
        return _FIRST if self.nulls_first else _LAST

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
        seen = regions.project(self.score.inputs)
        may_be_null = (seen.may_be_null | seen.all_null | seen.unknown).any(axis=1)
        return found.replace_decision(np.where(may_be_null & (found.decision == SKIP), EVALUATE, found.decision))

    def _without_scores_before(self, regions: Regions, limit: int, budget: Budget, chosen: Bools) -> Outcome:
        """SKIP for those of the chosen blocks in which no row with a score comes before the limit."""
        value = self.value(limit)
        if value is None or (np.isnan(value) and (self.ascending or not self.breaks_ties)):
            # the limit is an end of all scores: they all come before, or none
            none_is_before = self.nulls_first if value is None else not self.ascending
            seen = regions.project(self.score.inputs)
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


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the search has found out about G row groups and N blocks that they consist of.

    `top_group`, `top_row` [at most n]: the best rows of those visited, in order, with their scores `top_value` and
    `top_is_null`; `visited`, `open` [G]: scored; neither scored nor ruled out. A row group is needed for the answer if
    it is open or holds one of the best rows. `outcome`: the decisions and the best bounds known per block.
    """

    top_group: Indices
    top_row: Indices
    top_value: Floats
    top_is_null: Bools
    visited: Bools
    open: Bools
    needed: Bools
    outcome: Outcome
    waves: int
    rows_scored: int
    threshold: float | None
    """The n-th best score; NaN where fewer rows were found, None where it is NULL."""
    is_full: bool
    """Whether n rows were found."""


def search(
    topk: TopK,
    regions: Regions,
    group: Indices,
    visit: Visit,
    budget: Budget,
    *,
    candidates: Bools | None = None,
    leaves_rest: bool = False,
) -> Found:
    """Find the first rows among the `candidates` [G], by default all row groups; `group` [N], ascending, is the row
    group of each block.

    With `leaves_rest` the row groups of the last wave are left open, and more where visits rule too little out, for an
    engine that scores again what is needed.
    """
    state = _Search(topk, regions, group, budget, candidates)
    state.run(visit, leaves_rest=leaves_rest)
    return state.found()


def search_row_groups(
    topk: TopK,
    refined: Refined,
    regions: Regions,
    visit: Visit,
    budget: Budget,
    *,
    where: Decisions | None = None,
    leaves_rest: bool = False,
) -> tuple[Found, Decisions]:
    """The search over the row groups of files, whose blocks may be finer, that a condition on the blocks leaves; and
    per row group SKIP where it is not needed for the answer, with the bounds of the scores.
    """
    groups = refined.row_groups
    group = np.arange(len(regions)) if groups is refined or refined.parent is None else refined.parent
    passing = where.merged(group) if where is not None and len(group) else where
    candidates = None if passing is None else passing.decision != SKIP
    found = search(topk, regions, group, visit, budget, candidates=candidates, leaves_rest=leaves_rest)
    decisions = Decisions.of(found.outcome)
    decisions = decisions.merged(group) if len(group) else decisions
    if passing is not None:
        arrays = {
            name: np.where(passing.decision == SKIP, getattr(passing, name), getattr(decisions, name))
            for name in ("lower", "upper", "method", "reason")
        }
        decisions = replace(decisions, **arrays, seconds=decisions.seconds + passing.seconds, error=passing.error)
    decision = np.where(found.needed, EVALUATE, SKIP).astype(np.int8)
    return found, replace(decisions, decision=decision)


@dataclass(slots=True, eq=False)
class _Best:
    """The first rows of those seen: ranks [at most n] in order, with row group and row."""

    n: int
    rank: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    group: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    row: Indices = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def limit(self) -> int | None:
        """The rank of the n-th row, None while there are fewer."""
        return int(self.rank[-1]) if 0 < len(self.rank) == self.n else None

    def add(self, rank: Indices, group: Indices, row: Indices) -> None:
        """Rows with their ranks; of rows of one rank the first in the table stay."""
        limit = self.limit
        kept = np.flatnonzero(rank <= limit) if limit is not None else np.arange(len(rank))
        if len(kept) > self.n:
            nth = np.partition(rank[kept], self.n - 1)[self.n - 1]
            kept = kept[rank[kept] <= nth]
        rank, group, row = (
            np.concatenate([old, new[kept]]) for old, new in ((self.rank, rank), (self.group, group), (self.row, row))
        )
        order = np.lexsort([row, group, rank])[: self.n]
        self.rank, self.group, self.row = rank[order], group[order], row[order]


class _Search:
    """The state of one search."""

    def __init__(self, topk: TopK, regions: Regions, group: Indices, budget: Budget, candidates: Bools | None) -> None:
        n_groups = int(group[-1]) + 1 if len(group) else 0
        self._topk, self._regions, self._group, self._budget = topk, regions, group, budget
        self._hope = budget
        self._n_rows = np.bincount(group, weights=regions.n_rows, minlength=n_groups).astype(np.int64)
        self._open = np.ones(n_groups, np.bool_) if candidates is None else candidates.copy()
        self._visited = np.zeros(n_groups, np.bool_)
        self._first_rank = np.full(n_groups, _LAST)
        self._has_rows = np.zeros(n_groups, np.bool_)
        self._best = _Best(topk.n)
        self._outcome = Outcome.evaluate_all(len(regions), 1)
        self._waves = self._rows_scored = 0

    def run(self, visit: Visit, *, leaves_rest: bool) -> None:
        """Visit waves of row groups and rule others out by turns, until none is open."""
        if not self._topk.n:
            self._open[:] = False
            return
        if not self._open.any():
            return
        self._look()
        size = _FIRST_WAVE
        while self._open.any():
            wave = self._next_wave(size)
            if leaves_rest and (len(wave) == np.count_nonzero(self._open) or self._reads_too_much_twice()):
                break
            self._take(wave, visit(np.sort(wave), self._worst()))
            self._rule_out()
            size *= _GROWTH

    def _worst(self) -> Worst | None:
        """The n-th best score, None while there are fewer rows."""
        limit, topk = self._best.limit, self._topk
        return None if limit is None else Worst(topk.value(limit), topk.ascending, topk.nulls_first)

    def _reads_too_much_twice(self) -> bool:
        """Whether the engine would score many more row groups a second time than are ruled out."""
        twice = np.count_nonzero(self._holds())
        left_out = np.count_nonzero(~self._open & ~self._visited)
        return bool(twice - left_out > max(_FIRST_WAVE, _REGRET * len(self._open)))

    def _holds(self) -> Bools:
        """The visited row groups that hold some of the first rows.

        Sound where ties are broken because what is left out holds nothing at the n-th rank or before.
        """
        limit = self._best.limit
        if self._topk.breaks_ties:
            return self._has_rows & (self._first_rank <= (_LAST if limit is None else limit))
        holds = np.zeros(len(self._open), np.bool_)
        holds[self._best.group] = True
        return holds

    def found(self) -> Found:
        """What is known at the end."""
        best, topk, limit = self._best, self._topk, self._best.limit
        values = [topk.value(rank) for rank in best.rank.tolist()]
        return Found(
            top_group=best.group,
            top_row=best.row,
            top_value=np.array([np.nan if value is None else value for value in values], np.float64),
            top_is_null=np.array([value is None for value in values], np.bool_),
            visited=self._visited,
            open=self._open,
            needed=self._open | self._holds(),
            outcome=self._outcome,
            waves=self._waves,
            rows_scored=self._rows_scored,
            threshold=np.nan if limit is None else topk.value(limit),
            is_full=limit is not None,
        )

    def _look(self) -> None:
        """Bound the scores of all blocks, by what is stored of them or else aiming at a guess of the n-th best score:
        it proves nothing, but the bounds tell which row groups come first, and the work is remembered.
        """
        topk, seen = self._topk, self._regions.project(self._topk.score.inputs)
        known = score_map(seen.evidence, topk.score.key, seen.sources)
        nothing = Outcome.evaluate_all(len(seen), 1)
        if known is not None:
            self._learn(replace(nothing, lower=known.lower[:, None], upper=known.upper[:, None]), self._chosen())
            return
        guess = self._guess(seen)
        if guess is not None:
            limit = int(topk.ranks(np.array([guess]), np.zeros(1, np.bool_))[0])
            found = topk.rule_out(self._regions, limit, self._budget, self._chosen())
            self._learn(found.replace_decision(nothing.decision), self._chosen())

    def _guess(self, seen: Regions) -> float | None:
        """The best score of the centres of all boxes; None where no box has one."""
        bounded = (np.isfinite(seen.lower) & np.isfinite(seen.upper)).all(axis=1)
        centres = seen.lower[bounded] * 0.5 + seen.upper[bounded] * 0.5
        scores = self._topk.score.verifier.values(centres)[:, 0]
        scores = scores[np.isfinite(scores)]
        return float(scores.min() if self._topk.ascending else scores.max()) if len(scores) else None

    def _next_wave(self, size: int) -> Indices:
        """Open row groups, the most promising first: `size` of them, or as many as it takes to have n rows."""
        promise = np.full(len(self._open), -np.inf)
        bound = -self._outcome.lower[:, 0] if self._topk.ascending else self._outcome.upper[:, 0]
        np.maximum.at(promise, self._group, bound)
        wanted = np.flatnonzero(self._open)
        wanted = wanted[np.argsort(-promise[wanted], kind="stable")]
        rows = np.cumsum(self._n_rows[wanted])
        missing = self._topk.n - len(self._best.rank)
        enough = int(np.searchsorted(rows, missing)) + 1 if missing > 0 else 0
        most = int(np.searchsorted(rows, _LARGEST_WAVE)) + 1
        return wanted[: min(max(size, enough), most)]

    def _take(self, wave: Indices, scored: Scored) -> None:
        """Take note of the scores of a wave."""
        ranks = self._topk.ranks(scored.values, scored.is_null)
        np.minimum.at(self._first_rank, scored.group, ranks)
        self._has_rows[scored.group] = True
        self._best.add(ranks, scored.group, scored.row)
        self._visited[wave], self._open[wave] = True, False
        self._waves += 1
        self._rows_scored += int(self._n_rows[wave].sum())

    def _rule_out(self) -> None:
        """Close open row groups all of whose blocks hold nothing before the n-th best row.

        Sound because that row only ever moves forward: what is ruled out stays ruled out.
        """
        limit, chosen = self._best.limit, self._chosen()
        if limit is None or not chosen.any():
            return
        before = np.count_nonzero(self._open)
        self._learn(self._topk.rule_out(self._regions, limit, self._hope, chosen), chosen)
        self._open &= np.bincount(self._group[self._outcome.decision != SKIP], minlength=len(self._open)) > 0
        self._hope = self._budget if np.count_nonzero(self._open) < before else self._hope.part(_LESS_HOPE)

    def _chosen(self) -> Bools:
        """The blocks [N] of open row groups that are not ruled out."""
        chosen: Bools = self._open[self._group] & (self._outcome.decision != SKIP)
        return chosen

    def _learn(self, found: Outcome, chosen: Bools) -> None:
        """Take over an outcome of the chosen blocks, with the tighter of the bounds."""
        lower = np.maximum(found.lower, self._outcome.lower)
        upper = np.minimum(found.upper, self._outcome.upper)
        self._outcome = self._outcome.settled(replace(found, lower=lower, upper=upper), chosen)
