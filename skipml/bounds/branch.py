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

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.budget import Budget, Meter
from skipml.bounds.crown import LinearBounds
from skipml.bounds.falsify import Opposite, Points, Test, reaches, try_points
from skipml.bounds.leaves import Leaves
from skipml.bounds.linear_over_polygons import at_centre, seconds_per_form, tighten
from skipml.bounds.memory import Known
from skipml.bounds.outcome import EVALUATE, KEEP, SKIP, Method, Outcome, Reason
from skipml.bounds.polygons import Cuts, Polygons
from skipml.bounds.verifier import Verifier

__all__ = ["EVALUATE", "KEEP", "SKIP", "Budget", "Method", "Outcome", "Reason", "Test", "branch_and_bound", "resume"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_BISECTIONS = 5
_BOXES_PER_PROOF = 16
"""As many blocks are worked on at a time as can get that many boxes each: only whole proofs pay for others."""
_FEW_LEAVES = 64


def branch_and_bound(verifier: Verifier, blocks: Blocks, test: Test, budget: Budget) -> Outcome:
    """Decide `test` on the verifier's m values for N blocks, given as boxes; a block without a box is EVALUATE.

    Sound because the leaves of a block cover its boxes, every decision rests on bounds of all its leaves, and bounds
    contain the computed values.
    """
    return resume(verifier, blocks, test, budget, Known.nothing(len(blocks.block), len(verifier.functionals)))[0]


def resume(verifier: Verifier, blocks: Blocks, test: Test, budget: Budget, known: Known) -> tuple[Outcome, Known]:
    """The same where earlier runs have found out about the boxes what is `known` -> the outcome, and what is known now.

    Sound as `branch_and_bound` is, and because known bounds are bounds.
    """
    search = _Search(verifier, blocks, test, budget, known)
    search.run()
    return search.outcome(), search.known


class _Search:
    """The state of one run: what is known of each block, and the leaves that are still open."""

    def __init__(self, verifier: Verifier, blocks: Blocks, test: Test, budget: Budget, known: Known) -> None:
        n, m, d = len(blocks.n_rows), len(verifier.functionals), blocks.lower.shape[1]
        self._verifier, self._test, self._budget = verifier, test, budget
        polygons = Polygons.of(blocks.hulls, verifier.network.dtype)
        self._polygons = polygons if len(polygons) else None
        self._meter = Meter(budget, blocks.n_rows, verifier.seconds_per_box + polygons.seconds_per_box)
        self._blocks, self._n_rows = blocks, blocks.n_rows
        # in random order, so that the first blocks are a sample of the table
        self._roots = np.argsort(np.random.default_rng(0).permutation(n)[blocks.block], kind="stable")
        self._decision = np.full(n, EVALUATE, np.int8)
        self._reason = np.full(n, Reason.BUDGET, np.int8)
        self._method = np.full(n, Method.NONE, np.int8)
        self._boxes, self._splits = np.zeros((2, n), np.int64)
        self._before = known
        self._low, self._high = np.full((len(blocks.block), m), np.inf), np.full((len(blocks.block), m), -np.inf)
        self._lowest, self._highest = known.lowest.copy(), known.highest.copy()
        self._open = np.bincount(blocks.block, minlength=n)
        self._passed, self._failed = np.zeros((2, n), np.bool_)
        self._begun = np.zeros(n, np.bool_)
        self._finished = self._open == 0
        self._reason[self._finished] = Reason.NOT_TRIED
        none, box, value, number = np.zeros(0), np.zeros((0, d)), np.zeros((0, m)), np.zeros(0, np.int64)
        self._leaves = Leaves(box, box, number, number, value, value, box, none)

    def run(self) -> None:
        """Bound boxes of blocks and split open leaves by turns until all is decided or the budget is used up: what the
        first blocks save pays for the others.
        """
        self._remember()
        for_roots = for_leaves = 0
        while wave := self._meter.next_wave(deep=len(self._leaves) > 0):
            if len(self._roots) and (for_roots <= for_leaves or not len(self._leaves)):
                for_roots += wave
                self._bound_roots(wave)
            elif len(self._leaves) and wave > 1:
                for_leaves += wave
                self._split_leaves(wave // 2)
            else:
                break
        self._widen(self._roots, -np.inf, np.inf)

    @property
    def known(self) -> Known:
        """What is known of the boxes, tightened by what was known before."""
        return Known(
            np.maximum(self._low, self._before.lower),
            np.minimum(self._high, self._before.upper),
            self._lowest,
            self._highest,
        )

    def _remember(self) -> None:
        """Close the boxes that what is known already decides, and give up where it shows that nothing can be proved.

        Sound because known bounds are bounds.
        """
        every, block = np.arange(len(self._blocks.block)), self._blocks.block
        self._reached(every)
        self._give_up_falsified(block)
        left = self._close(every, block, self._before.lower, self._before.upper)
        self._method[block[np.isfinite(self._before.lower).all(axis=1)]] = Method.CROWN
        self._roots = self._roots[left[self._roots]]

    def _bound_roots(self, wave: int) -> None:
        """Bound boxes of the blocks as they are."""
        now, self._roots = self._roots[:wave], self._roots[wave:]
        left = ~self._finished[self._blocks.block[now]]
        self._widen(now[~left], -np.inf, np.inf)
        root = now[left]
        block = self._blocks.block[root]
        lower, upper = self._cast(self._blocks.lower[root]), self._cast(self._blocks.upper[root])
        lower, upper, left = self._shrink(lower, upper, block)
        self._count(block, Method.INTERVAL)
        lower, upper, root, block = lower[left], upper[left], root[left], block[left]
        low, high = self._verifier.interval(lower, upper)
        np.maximum(low, self._before.lower[root], out=low)
        np.minimum(high, self._before.upper[root], out=high)
        left = self._close(root, block, low, high)
        self._bound(lower[left], upper[left], root[left], (low[left], high[left]), Method.CROWN)

    def _split_leaves(self, wave: int) -> None:
        """Split open leaves, those of the blocks nearest to a proof first."""
        now = self._chosen(wave)
        leaves, self._leaves = self._leaves.take(now), self._leaves.take(~now)
        self._split(leaves)
        self._leaves = self._leaves.take(self._unfinished(self._leaves))

    def _chosen(self, wave: int) -> Bools:
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
        self._widen(self._leaves.root, self._leaves.low, self._leaves.high)
        low, high = np.full((2, len(self._n_rows), self._low.shape[1]), [[[np.inf]], [[-np.inf]]])
        np.minimum.at(low, self._blocks.block, self.known.lower)
        np.maximum.at(high, self._blocks.block, self.known.upper)
        nothing = np.all(low > high, axis=1, keepdims=True)
        return Outcome(
            decision=self._decision,
            lower=np.where(nothing, -np.inf, low),
            upper=np.where(nothing, np.inf, high),
            boxes=self._boxes,
            method=self._method,
            reason=self._reason,
            seconds=self._meter.seconds,
        )

    def _split(self, leaves: Leaves) -> None:
        """Divide leaves and bound the parts: into halves, few leaves into quarters or eighths, as a wave costs more
        than its boxes then.

        Sound because the parts together hold every number of the network's dtype that the leaf holds.
        """
        times = 1 + (len(leaves) < _FEW_LEAVES) + (len(leaves) < _FEW_LEAVES // 4)
        splits = np.bincount(leaves.block, minlength=len(self._n_rows)) << times
        self._finish(
            np.flatnonzero((splits > 0) & (self._splits + splits > self._budget.boxes_per_block)), Reason.BUDGET
        )
        leaves = leaves.take(self._unfinished(leaves))
        for _ in range(times):
            leaves = self._halved(leaves)
        np.add.at(self._splits, leaves.block, 1)
        lower, upper, full = self._shrink(leaves.lower, leaves.upper, leaves.block)
        leaves = leaves.take(full)
        self._bound(lower[full], upper[full], leaves.root, (leaves.low, leaves.high), Method.BRANCH)

    def _halved(self, leaves: Leaves) -> Leaves:
        """The halves of leaves; a single point stays. Sound as `_split` is."""
        point = (leaves.lower == leaves.upper).all(axis=1)
        rest, leaves = leaves.take(point), leaves.take(~point)
        row, side = np.arange(len(leaves)), _widest(leaves)
        lower, upper = leaves.lower[row, side], leaves.upper[row, side]
        middle = self._cast((lower + upper) * 0.5)
        middle = np.where(middle < upper, middle, self._next(upper, -np.inf))
        left, right = leaves.upper.copy(), leaves.lower.copy()
        left[row, side], right[row, side] = middle, self._next(middle, np.inf)
        np.add.at(self._open, leaves.block, 1)
        return rest.joined(replace(leaves, upper=left)).joined(replace(leaves, lower=right))

    def _shrink(self, lower: Floats, upper: Floats, block: Indices) -> tuple[Floats, Floats, Bools]:
        """Boxes [L, d] cut down by the polygons of their blocks, and which are not empty [L]; empty ones are closed.

        Sound because no row lies in what is cut off, and casting is monotone.
        """
        if self._polygons is None:
            return lower, upper, np.ones(len(block), np.bool_)
        lower, upper, empty = self._polygons.shrink(lower, upper, block)
        self._retire(block[empty])
        return self._cast(lower), self._cast(upper), ~empty

    def _bound(self, lower: Floats, upper: Floats, root: Indices, known: tuple[Floats, Floats], method: Method) -> None:
        """Bound boxes [L, d] by CROWN and close what is decided; what is not becomes leaves. `known` are bounds [L, m]
        of boxes around them.

        Sound because bounds of a larger box hold for a smaller one, so the tighter of two may be taken.
        """
        block = self._blocks.block[root]
        bounds = self._verifier.crown(lower, upper)
        np.maximum(bounds.lower, known[0], out=bounds.lower)
        np.minimum(bounds.upper, known[1], out=bounds.upper)
        self._count(block, method)
        left = self._close(root, block, bounds.lower, bounds.upper)
        lower, upper, root, block, bounds = lower[left], upper[left], root[left], block[left], bounds.take(left)
        self._finish(block[np.isinf(bounds.lower).any(axis=1) | np.isinf(bounds.upper).any(axis=1)], Reason.OVERFLOW)
        self._finish(block[(lower == upper).all(axis=1)], Reason.DEGENERATE)
        slope, promise = np.zeros_like(lower), np.zeros(len(root))
        leaves = Leaves(lower, upper, root, block, bounds.lower, bounds.upper, slope, promise)
        left = self._unfinished(leaves)
        leaves, bounds = leaves.take(left), bounds.take(left)
        self._probe(leaves, bounds, climb=method is Method.CROWN)
        self._give_up_falsified(leaves.block)
        left = self._unfinished(leaves)
        leaves = leaves.take(left)
        if method is Method.CROWN:
            leaves = self._tighten(leaves, bounds.take(left))
        self._leaves = self._leaves.joined(leaves)

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
        return leaves.take(self._close(leaves.root, leaves.block, leaves.low, leaves.high))

    def _decides(self, low: Floats, high: Floats) -> Bools:
        """Whether bounds [L, m] of a leaf are what is wanted [L]."""
        decided = self._test.never(low, high)
        return decided | self._test.always(low, high) if self._budget.prove_keep else decided

    def _close(self, root: Indices, block: Indices, low: Floats, high: Floats) -> Bools:
        """Close the leaves whose bounds [L, m] decide the test, and their blocks with the last leaf -> which leaves are
        left [L].

        Sound because a block is decided only once all its leaves are closed, SKIP if none of them can pass, KEEP if
        none can fail.
        """
        never = self._test.never(low, high)
        always = self._test.always(low, high) & ~never
        closed = never | always
        self._failed[block[never]] = True
        self._passed[block[always]] = True
        self._retire(block[closed])
        self._give_up_falsified(block)
        done: Bools = closed | self._finished[block]
        self._widen(root[done], low[done], high[done])
        return ~done

    def _retire(self, block: Indices) -> None:
        """Decide the blocks whose last leaf is closed; `block` [L] are those of the leaves closed now.

        Sound because a block without a row that has a score is SKIP.
        """
        np.subtract.at(self._open, block, 1)
        whole = np.flatnonzero(np.bincount(block, minlength=len(self._finished)))
        whole = whole[(self._open[whole] == 0) & ~self._finished[whole]]
        skipped, kept = whole[~self._passed[whole]], whole[self._passed[whole] & ~self._failed[whole]]
        self._decision[skipped] = SKIP
        self._decision[kept] = KEEP
        self._finish(np.concatenate([skipped, kept]), Reason.PROVED)
        self._meter.saved(int(self._n_rows[skipped].sum()))

    def _cuts(self, block: Indices) -> Cuts | None:
        return Cuts(self._polygons, block) if self._polygons is not None else None

    def _probe(self, leaves: Leaves, bounds: LinearBounds, climb: bool) -> None:
        """Try points of the leaves, and note by which slope to split them and how near they are to a proof."""
        aims: list[tuple[Test, Bools]] = [(self._test, self._passed)]
        if self._budget.prove_keep:
            aims.append((Opposite(self._test), self._failed))
        for test, reached in aims:
            todo = np.flatnonzero(~reached[leaves.block])
            if not len(todo):
                continue
            cuts = self._cuts(leaves.block[todo])
            here = leaves.lower[todo], leaves.upper[todo]
            points = try_points(self._verifier, test, here, bounds.take(todo), climb=climb, cuts=cuts)
            reached[leaves.block[todo[points.passed]]] = True
            inside = todo[points.inside]
            np.minimum.at(self._lowest, leaves.root[inside], points.lowest[points.inside])
            np.maximum.at(self._highest, leaves.root[inside], points.highest[points.inside])
            self._reached(leaves.root[inside])
            near = _nearness(test, bounds.take(todo), points)
            better = near >= leaves.promise[todo]
            leaves.slope[todo[better]], leaves.promise[todo[better]] = points.slope[better], near[better]

    def _reached(self, root: Indices) -> None:
        """Note the blocks of boxes [R] in which a row may pass, or fail, by the values that their points have."""
        low, high = self._lowest[root], self._highest[root]
        self._passed[self._blocks.block[root[reaches(self._test, low, high)]]] = True
        self._failed[self._blocks.block[root[reaches(Opposite(self._test), low, high)]]] = True

    def _give_up_falsified(self, block: Indices) -> None:
        """Finish blocks that can be neither SKIP nor, if that is wanted, KEEP."""
        hopeless = self._passed[block] & (self._failed[block] | (not self._budget.prove_keep))
        self._finish(block[hopeless], Reason.FALSIFIED)

    def _finish(self, block: Indices, reason: Reason) -> None:
        block = block[~self._finished[block]]
        self._finished[block] = True
        self._reason[block] = reason

    def _unfinished(self, leaves: Leaves) -> Bools:
        """Which leaves [L] belong to blocks still worked on; the bounds of the others are noted."""
        done: Bools = self._finished[leaves.block]
        self._widen(leaves.root[done], leaves.low[done], leaves.high[done])
        return ~done

    def _widen(self, root: Indices, low: Floats | float, high: Floats | float) -> None:
        """Extend the known bounds of boxes by those of a leaf. Sound because the leaves of a box cover it."""
        np.minimum.at(self._low, root, low)
        np.maximum.at(self._high, root, high)

    def _count(self, block: Indices, method: Method) -> None:
        self._method[block] = method
        if method is not Method.CROWN:  # the first box of a block had its interval bounds counted
            np.add.at(self._boxes, block, 1)
        if method is not Method.INTERVAL:
            self._meter.bounded(len(block))

    def _cast(self, x: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return x.astype(self._verifier.network.dtype).astype(np.float64)

    def _next(self, x: Floats, towards: float) -> Floats:
        dtype = self._verifier.network.dtype
        return np.nextafter(x.astype(dtype), dtype.type(towards)).astype(np.float64)


def _widest(leaves: Leaves) -> Indices:
    """The side of each leaf that moves its linear bound most [L]; a side that moves nothing counts a little, so that
    sides get split in turn.
    """
    steep = np.abs(leaves.slope)
    steepest = steep.max(axis=1, keepdims=True)
    width = leaves.upper - leaves.lower
    weight = np.where(steepest > 0, steep + 1e-3 * steepest, 1.0)
    return np.asarray(np.argmax(np.where(width > 0, weight * width, -1.0), axis=1), np.int64)


def _nearness(test: Test, bounds: LinearBounds, points: Points) -> Floats:
    """How much of the gap between the values seen and the bounds may stay for the test to pass never [L], from 0 to
    1.
    """
    enough, too_much = np.zeros(len(points.passed)), np.ones(len(points.passed))
    for _ in range(_BISECTIONS):
        share = (enough + too_much) * 0.5
        gap = share[:, None]
        low = points.lowest + gap * (bounds.lower - points.lowest)
        high = points.highest + gap * (bounds.upper - points.highest)
        proved = test.never(low, high)
        enough, too_much = np.where(proved, share, enough), np.where(proved, too_much, share)
    return enough
