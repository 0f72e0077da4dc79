"""Branch and bound on the inputs: decides a test for all undecided blocks at once.

The ladder is interval bounds, CROWN, concrete points, CROWN's linear bounds over polygons where these may be enough,
then splitting boxes along the input that moves the linear bound most, with CROWN in each half (Bunel et al., Branch and
Bound for Piecewise Linear Neural Network Verification, arXiv:1909.06588; input splitting as in Wang et al., Formal
Security Analysis of Neural Networks using Symbolic Intervals, arXiv:1804.10829). A block is SKIP when every leaf is
proved to pass never, KEEP when every leaf is proved to pass always. The blocks nearest to a proof come first, and the
clock is read between waves.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.bounder import Bounder
from skipml.bounds.budget import Budget, Meter
from skipml.bounds.crown import LinearBounds
from skipml.bounds.falsify import Test
from skipml.bounds.leaves import Leaves, nearness
from skipml.bounds.linear_over_polygons import at_centre, seconds_per_form, tighten
from skipml.bounds.memory import Known
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP, Method, Outcome, Reason
from skipml.bounds.polygons import Cuts, Polygons
from skipml.bounds.sightings import Sightings
from skipml.recent import Derived

__all__ = ["EVALUATE", "KEEP", "SKIP", "Budget", "Method", "Outcome", "Reason", "Test", "branch_and_bound", "resume"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_BOXES_PER_PROOF = 16
"""As many blocks are worked on at a time as can get that many boxes each: only whole proofs pay for others."""
_FEW_LEAVES = 64
_SAMPLE, _MANY_BLOCKS = 64, 256
"""Of many blocks a sample is looked at first: if all of it is hopeless, so is nearly all of the table."""


def branch_and_bound(verifier: Bounder, blocks: Blocks, test: Test, budget: Budget) -> Outcome:
    """Decide `test` on the verifier's m values for N blocks, given as boxes; a block without a box is EVALUATE.

    Sound because the leaves of a block cover its boxes, every decision rests on bounds of all its leaves, and bounds
    contain the computed values.
    """
    known = Known.nothing(blocks.lower, blocks.upper, len(verifier.functionals))
    return resume(verifier, blocks, test, budget, known)[0]


def resume(
    verifier: Bounder, blocks: Blocks, test: Test, budget: Budget, known: Known, *, chosen: Bools | None = None
) -> tuple[Outcome, Known]:
    """The same for the blocks chosen by a mask [N], where earlier runs have found out about the boxes what is `known`
    -> the outcome, in which the other blocks are EVALUATE, and what is known now.

    Sound as `branch_and_bound` is, and because known bounds are bounds.
    """
    chosen = np.ones(len(blocks.n_rows), np.bool_) if chosen is None else chosen
    search = _Search(verifier, blocks, test, budget, known, chosen=chosen)
    search.run()
    return search.outcome(), search.known


_POLYGONS: dict[np.dtype[np.floating], Derived[Blocks, Polygons]] = {
    np.dtype(np.float32): Derived(lambda blocks: Polygons.of(blocks.hulls, np.dtype(np.float32))),
    np.dtype(np.float64): Derived(lambda blocks: Polygons.of(blocks.hulls, np.dtype(np.float64))),
}


class _Search:
    """The state of one run: what is known of each block, and the leaves that are still open."""

    def __init__(
        self, verifier: Bounder, blocks: Blocks, test: Test, budget: Budget, known: Known, *, chosen: Bools
    ) -> None:
        n = len(blocks.n_rows)
        self._verifier, self._test, self._budget = verifier, test, budget
        polygons = _POLYGONS[verifier.function.input_dtype](blocks)
        self._polygons = polygons if len(polygons) else None
        self._meter = Meter(budget, blocks.n_rows[chosen], verifier.seconds_per_box + polygons.seconds_per_box)
        self._blocks, self._n_rows, self._chosen = blocks, blocks.n_rows, chosen
        self._decision = np.full(n, EVALUATE, np.int8)
        self._reason = np.full(n, Reason.BUDGET, np.int8)
        self._method = np.full(n, Method.NONE, np.int8)
        self._boxes, self._splits = np.zeros((2, n), np.int64)
        self._seen = Sightings(test, blocks.block, n, known, is_continuous=verifier.is_continuous)
        self._begun = np.zeros(n, np.bool_)
        self._before = known
        self._kept = np.ones(len(known.root), np.bool_)
        self._open = np.bincount(blocks.block[known.root], minlength=n)
        self._finished = (np.bincount(blocks.block, minlength=n) == 0) | ~chosen
        self._reason[self._finished] = Reason.NOT_TRIED
        self._leaves, self._fresh = self._remember()
        self._closed = [self._leaves.take(slice(0))]

    def run(self) -> None:
        """Bound boxes of blocks and split open leaves by turns until all is decided or the budget is used up: what the
        first blocks save pays for the others.
        """
        for_fresh = for_leaves = 0
        self._sample()
        while wave := self._meter.next_wave(deep=len(self._leaves) > 0):
            if len(self._fresh) and (for_fresh <= for_leaves or not len(self._leaves)):
                for_fresh += wave
                self._bound_fresh(wave)
            elif len(self._leaves) and wave > 1:
                for_leaves += wave
                self._split_leaves(wave // 2)
            else:
                break
        self._closed += [self._fresh, self._leaves]
        self._meter.close()

    def _sample(self) -> None:
        """Look at some of many blocks of one box, unless earlier runs did, and leave the others alone if none of these
        is worth more work.
        """
        n_blocks = len(np.unique(self._fresh.block))
        if len(self._leaves) or n_blocks < max(_MANY_BLOCKS, len(self._fresh)):
            return
        blocks = np.unique(self._blocks.block[np.isfinite(self._before.lowest).any(axis=1)])
        blocks = blocks[self._chosen[blocks]]
        if len(blocks) < _SAMPLE:
            blocks = self._fresh.block[:_SAMPLE]
        self._glance(self._fresh.take(np.isin(self._fresh.block, blocks)))
        n_left = np.count_nonzero(~self._finished[blocks])
        if n_left:
            self._bound_fresh(min(int(n_left), self._meter.next_wave(deep=False)))
        useless = EVALUATE if self._budget.prove_keep else KEEP
        if (self._finished[blocks] & (self._decision[blocks] != SKIP) & (self._decision[blocks] <= useless)).all():
            self._meter.stop()
            if self._seen.hopeless(blocks, keep=True).all():
                self._reason[~self._finished] = Reason.SAMPLE

    def _glance(self, leaves: Leaves) -> None:
        """Try points of leaves before they have bounds: most blocks that are neither SKIP nor KEEP need none."""
        leaves = leaves.take(self._unfinished(leaves) & np.isfinite(leaves.upper - leaves.lower).all(axis=1))
        for test, reached in self._seen.aims(both=True):
            todo = leaves.take(~reached[leaves.block])
            if len(todo):
                here = todo.lower, todo.upper
                points = self._verifier.try_points(test, here, None, climb=True, cuts=self._cuts(todo.block))
                self._seen.note(todo, points, reached)
        self._give_up_falsified(leaves.block, keep=True)

    @cached_property
    def known(self) -> Known:
        """What is known of the boxes in the end."""
        return Leaves.joined(self._closed).put_into(self._before, self._kept, self._seen.lowest, self._seen.highest)

    def _remember(self) -> tuple[Leaves, Leaves]:
        """Close the leaves that what is known already decides, give up where it shows that nothing can be proved -> the
        leaves left that CROWN has bounded, and the others.

        Sound because known bounds are bounds, and a block all of whose leaves are empty has no row with a score.
        """
        known, block = self._before, self._blocks.block[self._before.root]
        for method, looked_at in (
            (Method.INTERVAL, np.isfinite(known.low).all(axis=1) & np.isfinite(known.high).all(axis=1)),
            (self._verifier.first_method, known.bounded),
        ):
            self._method[block[looked_at & ~self._finished[block]]] = method
        empty = np.flatnonzero((self._open == 0) & ~self._finished)
        self._method[empty] = Method.INTERVAL
        self._retire(empty, closed=0)
        self._give_up_falsified(self._blocks.block)
        self._kept = self._settle(block, known.low, known.high)
        leaves = Leaves.of(known, block, np.flatnonzero(~self._kept))
        leaves, fresh = leaves.take(leaves.bounded), leaves.take(~leaves.bounded)
        lowest, highest = self._seen.lowest[leaves.root], self._seen.highest[leaves.root]
        leaves.promise[:] = nearness(self._test, leaves, lowest, highest)
        # in random order, so that the first blocks are a sample of the table
        order = np.random.default_rng(0).permutation(len(self._n_rows))
        return leaves, fresh.take(np.argsort(order[fresh.block], kind="stable"))

    def _bound_fresh(self, wave: int) -> None:
        """Bound boxes of the blocks as they are."""
        leaves, self._fresh = self._fresh.take(slice(wave)), self._fresh.take(slice(wave, None))
        leaves = leaves.take(self._unfinished(leaves))
        self._count(leaves.block, Method.INTERVAL)
        leaves = self._shrink(replace(leaves, lower=self._cast(leaves.lower), upper=self._cast(leaves.upper)))
        low, high = self._verifier.interval(leaves.lower, leaves.upper)
        leaves = replace(leaves, low=np.maximum(low, leaves.low), high=np.minimum(high, leaves.high))
        self._bound(leaves.take(self._close(leaves)), self._verifier.first_method, first=True)

    def _split_leaves(self, wave: int) -> None:
        """Split open leaves, those of the blocks nearest to a proof first."""
        now = self._nearest(wave)
        leaves, self._leaves = self._leaves.take(now), self._leaves.take(~now)
        self._split(leaves)
        self._leaves = self._leaves.take(self._unfinished(self._leaves))

    def _nearest(self, wave: int) -> Bools:
        """Which leaves to split: those of the blocks begun with, then of those nearest to a proof."""
        effort = np.zeros(len(self._n_rows))
        np.maximum.at(effort, self._leaves.block, (1.0 - self._leaves.promise) ** 2 * self._open[self._leaves.block])
        rank = np.lexsort([effort[self._leaves.block], ~self._begun[self._leaves.block]])[:wave]
        blocks = self._leaves.block[rank]
        _, first = np.unique(blocks, return_index=True)
        self._begun[:] = False
        self._begun[blocks[np.sort(first)][: self._meter.affordable(_BOXES_PER_PROOF)]] = True
        chosen = np.zeros(len(self._leaves), np.bool_)
        chosen[rank[self._begun[blocks]]] = True
        return chosen

    def outcome(self) -> Outcome:
        """What is known at the end."""
        lower, upper = self.known.bounds(self._blocks.block, len(self._n_rows))
        nothing = np.all(lower > upper, axis=1, keepdims=True)
        return Outcome(
            decision=self._decision,
            lower=np.where(nothing, -np.inf, lower),
            upper=np.where(nothing, np.inf, upper),
            boxes=self._boxes,
            method=self._method,
            reason=self._reason,
            seconds=self._meter.seconds,
        )

    def _split(self, leaves: Leaves) -> None:
        """Divide leaves and bound the parts: into halves, few leaves into quarters or eighths, as a wave costs more
        than its boxes then.

        Sound because the parts together hold every row that the leaf may hold.
        """
        times = 1 + (len(leaves) < _FEW_LEAVES) + (len(leaves) < _FEW_LEAVES // 4)
        splits = np.bincount(leaves.block, minlength=len(self._n_rows)) << times
        self._finish(
            np.flatnonzero((splits > 0) & (self._splits + splits > self._budget.boxes_per_block)), Reason.BUDGET
        )
        leaves = leaves.take(self._unfinished(leaves))
        self._open -= np.bincount(leaves.block, minlength=len(self._open))
        leaves = self._verifier.halved(leaves, times)
        self._open += np.bincount(leaves.block, minlength=len(self._open))
        np.add.at(self._splits, leaves.block, 1)
        leaves = self._shrink(leaves)
        self._count(leaves.block, Method.BRANCH)
        self._bound(leaves, Method.BRANCH, first=False)

    def _shrink(self, leaves: Leaves) -> Leaves:
        """Leaves cut down by the polygons of their blocks; empty ones are closed and left out.

        Sound as Polygons.shrink is for the rows that polygons hold for.
        """
        if self._polygons is None:
            return leaves
        cut = self._verifier.may_cut(leaves.lower, leaves.upper)
        whole, leaves = leaves.take(~cut), leaves.take(cut)
        lower, upper, empty = self._polygons.shrink(leaves.lower, leaves.upper, leaves.block)
        self._retire(leaves.block[empty])
        return Leaves.joined([replace(leaves, lower=lower, upper=upper).take(~empty), whole])

    def _bound(self, leaves: Leaves, method: Method, *, first: bool) -> None:
        """Bound leaves by linear forms and close what is decided; the others are worked on. Their bounds so far are
        those of boxes around them.

        Sound because bounds of a larger box hold for a smaller one, so the tighter of two may be taken.
        """
        bounds = self._verifier.linear(leaves.lower, leaves.upper)
        np.maximum(bounds.lower, leaves.low, out=bounds.lower)
        np.minimum(bounds.upper, leaves.high, out=bounds.upper)
        self._method[leaves.block] = method
        self._meter.bounded(len(leaves))
        with np.errstate(over="ignore", invalid="ignore"):  # infinite bounds
            finite = np.asarray(np.isfinite(bounds.upper - bounds.lower).all(axis=1), np.bool_)
        leaves = replace(
            leaves,
            low=bounds.lower,
            high=bounds.upper,
            bounded=finite,
            slope=np.abs(bounds.slope_upper).sum(axis=1),
            promise=np.zeros(len(leaves)),
        )
        left = self._close(leaves)
        leaves, bounds = leaves.take(left), bounds.take(left)
        block = leaves.block
        self._finish(block[np.isinf(bounds.lower).any(axis=1) | np.isinf(bounds.upper).any(axis=1)], Reason.OVERFLOW)
        self._finish(block[self._verifier.indivisible(leaves.lower, leaves.upper)], Reason.DEGENERATE)
        left = self._unfinished(leaves)
        leaves, bounds = leaves.take(left), bounds.take(left)
        self._probe(leaves, bounds, climb=first)
        self._give_up_falsified(leaves.block)
        left = self._unfinished(leaves)
        leaves = leaves.take(left)
        if first:
            leaves = self._tighten(leaves, bounds.take(left))
        self._leaves = Leaves.joined([self._leaves, leaves])

    def _tighten(self, leaves: Leaves, bounds: LinearBounds) -> Leaves:
        """Close the leaves whose linear bounds decide the test over the polygons -> those left.

        Sound because the tighter of two bounds may be taken.
        """
        cuts = self._cuts(leaves.block)
        if cuts is None:
            return leaves
        low, high = at_centre(bounds, leaves.lower, leaves.upper)
        now = np.flatnonzero(self._decides(low, high))
        if not len(now):
            return leaves
        # a side is not needed where the other one is enough
        wanted = ~np.stack([self._decides(leaves.low, high), self._decides(low, leaves.high)], axis=1)[now]
        cuts = Cuts(cuts.polygons, leaves.block[now])
        low, high = tighten(bounds.take(now), leaves.lower[now], leaves.upper[now], cuts, wanted)
        leaves.low[now], leaves.high[now] = low, high
        self._meter.spent(low.shape[1] * np.count_nonzero(wanted) * seconds_per_form(cuts.polygons))
        return leaves.take(self._close(leaves))

    def _decides(self, low: Floats, high: Floats) -> Bools:
        """Whether bounds [L, m] of a leaf are what is wanted [L]."""
        decided = self._test.never(low, high)
        return decided | self._test.always(low, high) if self._budget.prove_keep else decided

    def _close(self, leaves: Leaves) -> Bools:
        """Close the leaves whose bounds decide the test, and those of finished blocks -> which are left [L]. Sound as
        `_settle` is.
        """
        return self._put_away(leaves, self._settle(leaves.block, leaves.low, leaves.high))

    def _settle(self, block: Indices, low: Floats, high: Floats) -> Bools:
        """Decide the blocks [L] whose last leaf the bounds [L, m] close -> which leaves need no more work [L].

        Sound because a block is decided only once all its leaves are closed, SKIP if none of them can pass, KEEP if
        none can fail.
        """
        never = self._test.never(low, high)
        always = self._test.always(low, high) & ~never
        closed = never | always
        self._seen.failed[block[never]] = True
        self._seen.passed[block[always]] = True
        self._retire(block[closed])
        self._give_up_falsified(block)
        done: Bools = closed | self._finished[block]
        return done

    def _retire(self, block: Indices, closed: int = 1) -> None:
        """Decide the blocks whose last leaf is closed; `block` [L] are those of the leaves closed now.

        Sound because a block without a row that has a score is SKIP.
        """
        np.subtract.at(self._open, block, closed)
        whole = np.flatnonzero(np.bincount(block, minlength=len(self._finished)))
        whole = whole[(self._open[whole] == 0) & ~self._finished[whole]]
        skipped, kept = whole[~self._seen.passed[whole]], whole[self._seen.passed[whole] & ~self._seen.failed[whole]]
        self._decision[skipped] = SKIP
        self._decision[kept] = KEEP
        self._finish(np.concatenate([skipped, kept]), Reason.PROVED)
        self._meter.saved(int(self._n_rows[skipped].sum()))

    def _cuts(self, block: Indices) -> Cuts | None:
        return Cuts(self._polygons, block) if self._polygons is not None else None

    def _probe(self, leaves: Leaves, bounds: LinearBounds, climb: bool) -> None:
        """Try points of the leaves, and note by which slope to split them and how near they are to a proof."""
        for test, reached in self._seen.aims(both=self._budget.prove_keep):
            todo = np.flatnonzero(~reached[leaves.block])
            if not len(todo):
                continue
            open_leaves = leaves.take(todo)
            here = open_leaves.lower, open_leaves.upper
            cuts = self._cuts(open_leaves.block)
            points = self._verifier.try_points(test, here, bounds.take(todo), climb=climb, cuts=cuts)
            self._seen.note(open_leaves, points, reached)
            near = nearness(test, open_leaves, points.lowest, points.highest)
            better = near >= leaves.promise[todo]
            leaves.slope[todo[better]], leaves.promise[todo[better]] = points.slope[better], near[better]

    def _give_up_falsified(self, block: Indices, *, keep: bool | None = None) -> None:
        """Finish blocks that can be neither SKIP nor, if that matters, KEEP."""
        keep = self._budget.prove_keep if keep is None else keep
        self._finish(block[self._seen.hopeless(block, keep=keep)], Reason.FALSIFIED)

    def _finish(self, block: Indices, reason: Reason) -> None:
        block = block[~self._finished[block]]
        self._finished[block] = True
        self._reason[block] = reason

    def _unfinished(self, leaves: Leaves) -> Bools:
        """Which leaves [L] belong to blocks still worked on; the others are closed as they are."""
        return self._put_away(leaves, self._finished[leaves.block])

    def _put_away(self, leaves: Leaves, done: Bools) -> Bools:
        """Keep leaves that need no more work for the memory -> which are left [L]."""
        if done.any():
            self._closed.append(leaves.take(done))
        return ~done

    def _count(self, block: Indices, method: Method) -> None:
        self._method[block] = method
        np.add.at(self._boxes, block, 1)

    def _cast(self, x: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return x.astype(self._verifier.function.input_dtype).astype(np.float64)
