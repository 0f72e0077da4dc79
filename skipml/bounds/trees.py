"""Bounds of tree ensembles over boxes: the least and the largest leaf that each tree has in a box, added up as the
scorer adds leaves.

No margin is needed: a float sum in a fixed order is monotone in each term, so the sum of the largest leaves, computed
by the same operations, is at least the sum of any leaves. Where a row may lack an input, boxes are twice as wide:
behind the numbers comes, per input, whether it is missing, from 0 to 1.

Boxes are split at the edges of conditions: at the one that halves what the conditions in the box may change.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.bounder import content_of, fitting
from skipml.bounds.crown import LinearBounds
from skipml.bounds.direct import Direct
from skipml.bounds.falsify import Points, Test
from skipml.bounds.leaves import Leaves
from skipml.bounds.missing import around, lack_nothing, with_missing
from skipml.bounds.outcome import Method
from skipml.bounds.polygons import Cuts
from skipml.leaf_sets import CellBox
from skipml.regions import Regions
from skipml.tree import Tree
from skipml.trees import Trees

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_SLAB_BYTES = 1 << 20
_SECONDS_PER_BOX, _SECONDS_PER_WORD = 4e-6, 12e-9
_ROWS_AT_A_TIME = 1 << 14


class TreeVerifier(Direct):
    """Bounds of `functionals` [m, n_outputs] of the outputs of trees; by default the outputs themselves.

    Raises ModelError if the functionals do not fit.
    """

    is_continuous = False
    first_method = Method.INTERVAL

    def __init__(self, trees: Trees, functionals: ArrayLike | None = None) -> None:
        self.function = trees
        self.functionals = rows = fitting(functionals, trees.n_outputs)
        used = np.flatnonzero(rows.any(axis=0)).tolist()
        if len(used) == trees.n_outputs or trees.link.kind == "softmax":
            self._terms = trees.terms
        else:
            self._terms = trees.terms_of(used)
        self._slab = int(np.clip(_SLAB_BYTES // self._terms.bytes_per_row, 16, 4096))

    @cached_property
    def content(self) -> bytes:
        """A hash of everything that the bounds depend on."""
        return content_of(self)

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what bounding one box and trying its points costs on one core, in large waves."""
        return _SECONDS_PER_BOX + _SECONDS_PER_WORD * self._terms.words

    def blocks(self, regions: Regions) -> Blocks:
        """The regions, with what may be missing where the trees take NaN and a block may hold one."""
        if self.function.takes_nan and (regions.may_be_nan.any() or regions.unknown.any()):
            return with_missing(regions)
        return regions

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Bounds over boxes [M, w] -> lower, upper [M, m].

        Sound because casting is monotone, so the cells of the ends hold all numbers between, `extremes` leaves out no
        leaf that is reached, adding up is monotone, and the link's bounds are sound.
        """
        low, high = np.empty((2, len(lower), len(self.functionals)))
        for start in range(0, len(lower), self._slab):
            part = slice(start, start + self._slab)
            extremes = self._terms.extremes(self._box(lower[part], upper[part]))
            sums = self.function.sums(np.concatenate(extremes, axis=1), self._terms)
            ends = np.hsplit(sums, 2)
            low[part], high[part] = self._combined(*self.function.link.bounds(ends[0].copy(), ends[1].copy()))
        return low, high

    def linear(self, lower: Floats, upper: Floats) -> LinearBounds:
        """The same, as linear forms without slopes."""
        low, high = self.interval(lower, upper)
        flat = np.zeros((len(lower), len(self.functionals), lower.shape[1]))
        return LinearBounds(low, high, flat, flat, low.copy(), high.copy())

    def may_cut(self, lower: Floats, upper: Floats) -> Bools:
        """Boxes in which nothing may be missing: a polygon says nothing of a row that lacks one of its numbers."""
        return lack_nothing(upper, self.function.n_inputs)

    def indivisible(self, lower: Floats, upper: Floats) -> Bools:
        """Boxes within one cell of each input."""
        box = self._box(lower, upper)
        used = [i for i, edges in enumerate(self._terms.cells.edges) if len(edges)]
        single = np.where(box.misses, True, (box.low == box.high) & ~box.may_miss)
        return np.asarray(single[:, used].all(axis=1), np.bool_)

    def halved(self, leaves: Leaves, times: int) -> Leaves:
        """The parts of leaves on either side of the edge that halves what may change; what lies in one cell stays.

        Sound because no number lies between an edge and the next number behind it, and a row lacks an input or not.
        """
        for _ in range(times):
            leaves = self._halves(leaves)
        return leaves

    def _halves(self, leaves: Leaves) -> Leaves:
        box, d = self._box(leaves.lower, leaves.upper), self.function.n_inputs
        gain, place = self._gains(box)
        side = gain.argmax(axis=1)
        rest = leaves.take(gain.max(axis=1) <= 0)
        parts = [rest]
        for i in range(gain.shape[1]):
            mine = np.flatnonzero((side == i) & (gain[:, i] > 0))
            if not len(mine):
                continue
            left, right = leaves.take(mine), leaves.take(mine)
            upper, lower = left.upper.copy(), right.lower.copy()
            if i >= d:
                upper[:, i] = 0.0
                lower[:, i] = 1.0
            else:
                edges = self._terms.cells.edges[i]
                edge = edges[place[mine, i]]
                upper[:, i] = np.minimum(upper[:, i], edge)
                with np.errstate(over="ignore"):
                    lower[:, i] = np.maximum(lower[:, i], np.nextafter(edge, edge.dtype.type(np.inf)))
            parts += [replace(left, upper=upper), replace(right, lower=lower)]
        return Leaves.joined(parts)

    def _gains(self, box: CellBox) -> tuple[Floats, Indices]:
        """How much the conditions on each input [M, w] may change the sums, and the edge [M, d] that halves it."""
        d = self.function.n_inputs
        gain = np.zeros((len(box.low), 2 * d))
        place = np.zeros((len(box.low), d), np.int64)
        for i, (beyond, missing) in enumerate(self._weights):
            if not len(self._terms.cells.edges[i]):
                continue
            low, high = box.low[:, i], box.high[:, i]
            before, behind = beyond[low], beyond[high]
            number = ~box.misses[:, i]
            gain[:, i] = np.where(number & (high > low) & ~box.may_miss[:, i], behind - before, 0.0)
            place[:, i] = np.searchsorted(beyond, (before + behind) * 0.5, side="left") - 1
            np.clip(place[:, i], low, np.maximum(high - 1, low), out=place[:, i])
            gain[:, d + i] = np.where(number & box.may_miss[:, i], missing + behind - before, 0.0)  # before its numbers
        return gain, place

    @cached_property
    def _weights(self) -> list[tuple[Floats, float]]:
        """Per input how much the conditions at the edges before each cell may change, and those on what is missing."""
        cells, functionals = self._terms.cells, np.abs(self.functionals).max(axis=0)
        weights = [np.zeros(len(edges) + 1) for edges in cells.edges]
        for tree in self.function.trees:
            spread = _spread(tree, functionals)
            for node in np.flatnonzero(tree.feature >= 0).tolist():
                i = int(tree.feature[node])
                left = cells.goes_left(i, tree.condition(node), bool(tree.missing_left[node]))[:-1]
                changes = np.flatnonzero(left[1:] != left[:-1])
                weights[i][changes + 1] += spread[node] + 1e-300
        return [(np.cumsum(weight), float(weight.sum())) for weight in weights]

    def try_points(
        self,
        test: Test,
        box: tuple[Floats, Floats],
        bounds: LinearBounds | None,
        *,
        climb: bool,
        cuts: Cuts | None = None,
    ) -> Points:
        """What the centres of boxes [M, w] show: a tree has no slope to follow, but halves come near to the best."""
        d = self.function.n_inputs
        with np.errstate(over="ignore", invalid="ignore"):
            x = box[0] * 0.5 + box[1] * 0.5
        x[:, d:] = box[0][:, d:]
        x = np.where(np.isnan(x), 0.0, x)
        low, high = self.interval(x, x)
        inside = np.ones(len(x), np.bool_)
        if cuts is not None:
            inside = cuts.polygons.contains(x, cuts.block) | ~self.may_cut(x, x)
        return Points(inside & test.holds(low) & test.holds(high), low, high, inside, np.zeros_like(x))

    def apart(self, rows: Floats, slack: Floats) -> Floats:
        """How far at most another evaluation of any of the rows [n, d] is off [m].

        Sound because sums of the same leaves are the same on every machine, and bounds over the box of what the inputs
        may be instead hold every leaf that these lead to.
        """
        apart = np.zeros(len(self.functionals))
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            part = rows[start : start + _ROWS_AT_A_TIME]
            outputs = self.function.forward(part).astype(np.float64)
            exact = self.function.link.margin(outputs, self.function.dtype) * np.abs(self.functionals).sum(axis=1)
            np.maximum(apart, exact, out=apart)
            if not slack.any():
                continue
            low, high = self.interval(*around(part, slack))
            np.maximum(apart, (high - low).max(axis=0, initial=0.0), out=apart)
        return apart

    def _box(self, lower: Floats, upper: Floats) -> CellBox:
        d = self.function.n_inputs
        low, high = np.empty((2, len(lower), d), np.int64)
        for i in range(d):
            low[:, i] = self._terms.cells.place(i, np.where(np.isnan(lower[:, i]), -np.inf, lower[:, i]))
            high[:, i] = self._terms.cells.place(i, np.where(np.isnan(upper[:, i]), np.inf, upper[:, i]))
        np.maximum(low, high, out=high)
        if lower.shape[1] == d:
            nothing = np.zeros(low.shape, np.bool_)
            return CellBox(low, high, nothing, nothing)
        return CellBox(low, high, upper[:, d:] > 0, lower[:, d:] > 0)

    def _combined(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Bounds [M, m] of the functionals from those of the outputs [K, M].

        Sound because a negative coefficient takes the other end, and rounding a difference is monotone.
        """
        if np.array_equal(self.functionals, np.eye(len(low))):
            return low.T, high.T
        lower, upper = np.empty((2, low.shape[1], len(self.functionals)))
        for f, row in enumerate(self.functionals):
            chosen = np.flatnonzero(row).tolist()
            lower[:, f] = sum(row[k] * (low if row[k] > 0 else high)[k] for k in chosen)
            upper[:, f] = sum(row[k] * (high if row[k] > 0 else low)[k] for k in chosen)
        return lower, upper


def _spread(tree: Tree, functionals: Floats) -> Floats:
    """How far the leaves below each node lie apart [n]."""
    leaf = (tree.value.astype(np.float64) * functionals).sum(axis=1)
    least, most = leaf.copy(), leaf.copy()
    for level in reversed(list(tree.levels())):
        for node in level[tree.feature[level] >= 0].tolist():
            children = [int(tree.left[node]), int(tree.right[node])]
            least[node], most[node] = least[children].min(), most[children].max()
    return np.asarray(most - least)
