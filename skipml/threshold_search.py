"""Which row groups have to be scored to find the first rows in the order of a score.

Row groups are visited in the order of their bounds. The n-th best score so far is a threshold that only gets harder to
pass; a row group is ruled out once it is proved that none of its rows passes it. Contract: the first n rows of the
visited row groups, together with those of the row groups that were left open, are first n rows of the table.

Related work: Fagin et al., Optimal Aggregation Algorithms for Middleware (the threshold algorithm); Ilyas et al., A
Survey of Top-k Query Processing Techniques.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.budget import Budget
from skipml.bounds.evidence import score_map
from skipml.bounds.outcome import EVALUATE, SKIP, Outcome
from skipml.decisions import Decisions
from skipml.metadata.refine import Refined
from skipml.regions import Regions
from skipml.topk import LAST_RANK, Scored, TopK, Visit, Worst

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_FIRST_WAVE, _LARGEST_FIRST_WAVE = 2, 16
_GROWTH = 4
_LARGEST_WAVE = 1 << 22
"""Rows visited at a time: their scores are in memory together."""
_BOXES_AT_FIRST = 2
"""How many boxes a block gets at first."""
_SHARE = 0.1
"""What share of the cost of scoring the row groups that are open then may be spent on ruling them out: what was saved
already makes it no more worth while.
"""
_LESS_HOPE = 0.5
"""What part of the budget is left for the next wave where the last one has ruled nothing out."""
_REGRET = 0.1
"""What share of the row groups may be scored twice for nothing where an engine reads what is left."""
_DEPTH, _FEW = 0.1, 0.1
"""Bounds tell row groups apart if this share of them lies this far behind the best, of the range of all bounds."""
_CAUTION = 2
_CHOSEN_COST = 1.3
"""What an engine takes for chosen row groups against the same rows of whole files."""
_LEAST_GAIN = 0.25
"""What share of the rows an engine has to be spared for it to pay."""


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
    per row group SKIP where it is not needed for the answer, with the bounds of the scores. With `leaves_rest` none is
    SKIP by the search where that would spare too little.
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
        seconds, narrowed = decisions.seconds + passing.seconds, decisions.narrowed_with(passing)
        decisions = replace(decisions, **arrays, seconds=seconds, error=passing.error, narrowed=narrowed)
    needed, n_rows = found.needed, groups.footers.n_rows
    if leaves_rest and n_rows[~needed].sum() < _LEAST_GAIN * n_rows.sum():
        needed = np.ones(len(needed), np.bool_) if candidates is None else candidates
    decision = np.where(needed, EVALUATE, SKIP).astype(np.int8)
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
        self._topk, self._regions, self._group = topk, regions, group
        is_limited = math.isfinite(budget.cost_per_row)
        own = replace(budget, share=max(budget.share, _SHARE), gain_share=0.0) if is_limited else budget
        self._budget = self._hope = own
        self._n_rows = np.bincount(group, weights=regions.n_rows, minlength=n_groups).astype(np.int64)
        self._open = np.ones(n_groups, np.bool_) if candidates is None else candidates.copy()
        self._visited = np.zeros(n_groups, np.bool_)
        self._first_rank = np.full(n_groups, LAST_RANK)
        self._has_rows = np.zeros(n_groups, np.bool_)
        self._best = _Best(topk.n)
        self._outcome = Outcome.evaluate_all(len(regions), 1)
        self._waves = self._rows_scored = 0
        self._guessed = -np.inf

    def run(self, visit: Visit, *, leaves_rest: bool) -> None:
        """Visit waves of row groups and rule others out by turns, until none is open."""
        if not self._topk.n:
            self._open[:] = False
            return
        if not self._open.any():
            return
        has_scores = self._look()
        if leaves_rest and not self._is_promising(has_scores):
            return
        size = self._first_wave() if has_scores else _FIRST_WAVE
        while self._open.any():
            wave = self._next_wave(size)
            if leaves_rest and (len(wave) == np.count_nonzero(self._open) or self._is_hopeless()):
                break
            self._take(wave, visit(np.sort(wave), self._worst()))
            self._rule_out()
            size *= _GROWTH

    def _is_promising(self, has_scores: bool) -> bool:
        """Whether bounds tell the row groups apart enough for a threshold to rule some out.

        Where every row group has about the same bound, none is ruled out before a row reaches it, which hardly a row
        does unless bounds are those of the scores themselves.
        """
        if has_scores and self._topk.n < np.count_nonzero(self._open) * (1 - _LEAST_GAIN):
            return True
        behind = self._is_behind() | (self._promise() < self._guessed)
        return float(np.mean(behind[self._open])) >= _FEW

    def _is_behind(self, of_best: bool = False) -> Bools:
        """The row groups whose bound lies far behind the best one [G], by the range of all bounds or of the best."""
        best, other = self._promise(), np.full(len(self._open), np.inf)
        np.minimum.at(other, self._group, self._bounds()[0])
        bounded = self._open & np.isfinite(best) & np.isfinite(other)
        if not bounded.any() or not np.isfinite(best[self._open].max()):
            return np.zeros(len(self._open), np.bool_)
        first = int(np.argmax(np.where(self._open, best, -np.inf)))
        last = other[first] if of_best else other[bounded].min()
        return np.asarray(best <= best[first] - _DEPTH * (best[first] - last), np.bool_)

    def _first_wave(self) -> int:
        """How many row groups come into question at first where their best scores are known."""
        alike = int(np.count_nonzero(self._open & ~self._is_behind(of_best=True)))
        return int(np.clip(min(self._topk.n, alike), _FIRST_WAVE, _LARGEST_FIRST_WAVE))

    def _is_hopeless(self) -> bool:
        """Whether an engine that reads what is left had better read everything now, by what is expected."""
        if not self._waves:
            return False
        twice = np.count_nonzero(self._holds())
        left_out = np.count_nonzero(~self._open & ~self._visited)
        if twice - left_out > max(_FIRST_WAVE, _REGRET * len(self._open)):
            return True
        expected = self._expected(1)
        if expected is None:
            return False
        wanted = self._open & ~(self._promise() < expected)
        visited, read = self._n_rows[wanted].sum(), self._n_rows[wanted | self._holds()].sum()
        return bool(visited + _CHOSEN_COST * read > (1 - _LEAST_GAIN) * self._n_rows.sum())

    def _expected(self, caution: int) -> float | None:
        """The n-th best score if the open row groups were like those visited, as `_promise` has it, or with caution
        the score so many times as far behind; None if unknown.
        """
        left = int(self._n_rows[self._open].sum())
        place = caution * -(-self._topk.n * self._rows_scored // max(self._rows_scored + left, 1))
        if not 0 < place <= len(self._best.rank):
            return None
        value = self._topk.value(int(self._best.rank[place - 1]))
        return None if value is None else -value if self._topk.ascending else value

    def _worst(self) -> Worst | None:
        """The n-th best score, None while there are fewer rows."""
        limit, topk = self._best.limit, self._topk
        return None if limit is None else Worst(topk.value(limit), topk.ascending, topk.nulls_first)

    def _holds(self) -> Bools:
        """The visited row groups that hold some of the first rows.

        Sound where ties are broken because what is left out holds nothing at the n-th rank or before.
        """
        limit = self._best.limit
        if self._topk.breaks_ties:
            return self._has_rows & (self._first_rank <= (LAST_RANK if limit is None else limit))
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

    def _look(self) -> bool:
        """Bound the scores of all blocks, by what is stored of them or else aiming at a guess of the n-th best score:
        it proves nothing, but the bounds tell which row groups come first, and the work is remembered. Whether scores
        are stored.
        """
        topk, seen = self._topk, self._regions.project(self._topk.score.inputs)
        known = score_map(seen.evidence, topk.score.key, seen.sources)
        nothing = Outcome.evaluate_all(len(seen), 1)
        if known is not None:
            self._learn(replace(nothing, lower=known.lower[:, None], upper=known.upper[:, None]), self._chosen())
            return True
        guess = self._guess(seen)
        if guess is not None:
            limit = int(topk.ranks(np.array([guess]), np.zeros(1, np.bool_))[0])
            self._guessed = -guess if topk.ascending else guess
            chosen = self._chosen()
            found = topk.rule_out(self._regions, limit, self._first_budget(chosen), chosen)
            self._learn(found.replace_decision(nothing.decision), chosen)
        return False

    def _first_budget(self, chosen: Bools) -> Budget:
        """Enough for a look at each of the chosen blocks, and no more."""
        n_boxes = int(np.count_nonzero(chosen[self._regions.block]))
        return replace(self._budget, cost_per_row=0.0, free_boxes=_BOXES_AT_FIRST * n_boxes, boxes_per_block=1)

    def _guess(self, seen: Regions) -> float | None:
        """The best score of the centres of all boxes; None where no box has one."""
        bounded = (np.isfinite(seen.lower) & np.isfinite(seen.upper)).all(axis=1)
        if not bounded.any():
            return None
        centres = seen.lower[bounded] * 0.5 + seen.upper[bounded] * 0.5
        scores = self._topk.score.evaluate(centres)[:, 0]
        scores = scores[np.isfinite(scores)]
        return float(scores.min() if self._topk.ascending else scores.max()) if len(scores) else None

    def _bounds(self) -> tuple[Floats, Floats]:
        """The worst and the best score that the blocks [N] may hold, greater being better."""
        lower, upper = self._outcome.lower[:, 0], self._outcome.upper[:, 0]
        return (-upper, -lower) if self._topk.ascending else (lower, upper)

    def _promise(self) -> Floats:
        """The best score that the row groups [G] may hold, greater being better."""
        promise = np.full(len(self._open), -np.inf)
        np.maximum.at(promise, self._group, self._bounds()[1])
        return promise

    def _next_wave(self, size: int) -> Indices:
        """Open row groups, the most promising first: at most `size` that are expected to be needed, or as many as it
        takes to have n rows.
        """
        promise, expected = self._promise(), self._expected(_CAUTION)
        wanted = np.flatnonzero(self._open)
        wanted = wanted[np.argsort(-promise[wanted], kind="stable")]
        if expected is not None:
            least = max(_FIRST_WAVE, size // _GROWTH)
            size = int(np.clip(np.count_nonzero(promise[wanted] >= expected), least, size))
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
        for budget in (self._first_budget(chosen), self._hope):
            self._learn(self._topk.rule_out(self._regions, limit, budget, chosen), chosen)
            self._open &= np.bincount(self._group[self._outcome.decision != SKIP], minlength=len(self._open)) > 0
            chosen = self._chosen()
            if not chosen.any():
                break
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
