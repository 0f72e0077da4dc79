"""Bounds of networks behind prepared inputs: boxes of inputs become boxes of features, which the network's own bounds
take, and linear forms in the features are tightened by what the features of one input cannot be together.

Boxes are divided in the inputs: at the middle of numbers, between the cells of encoders, at what is missing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.crown import LinearBounds
from skipml.bounds.falsify import Points, Test, towards_of
from skipml.bounds.features import FeatureBox, FeatureMap
from skipml.bounds.leaves import Leaves
from skipml.bounds.margins import MarginVerifier
from skipml.bounds.missing import around, lack_nothing, with_missing
from skipml.bounds.polygons import Cuts
from skipml.prepared import Prepared
from skipml.regions import Regions

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_ROUNDING = 2.0**-44
_SECONDS_PER_FEATURE = 0.3e-6


class PreparedVerifier(MarginVerifier):
    """Bounds of a network behind prepared inputs over boxes of the inputs, as `MarginVerifier` has them."""

    function: Prepared
    is_continuous = False

    def __init__(self, prepared: Prepared, functionals: ArrayLike | None = None, *, signs: bool = False) -> None:
        super().__init__(prepared, prepared.network, functionals, signs=signs)
        self.function = prepared
        self._features = FeatureMap(prepared.features, prepared.n_inputs)

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what bounding one box and trying its points costs on one core, in large waves."""
        return super().seconds_per_box + _SECONDS_PER_FEATURE * len(self._features.features)

    def blocks(self, regions: Regions) -> Blocks:
        """The regions, with what may be missing where a block may hold a NaN."""
        return with_missing(regions) if regions.may_be_nan.any() or regions.unknown.any() else regions

    def is_finite(self, lower: Floats, upper: Floats) -> Bools:
        """Those that are in the inputs that features are more than step functions of."""
        unstepped = [group.source for group in self._features.groups if group.edges is None]
        return super().is_finite(lower[:, unstepped], upper[:, unstepped])

    def read_over(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """The box of features, which those of all parts of the box lie in."""
        box = self._features.box(lower[None], upper[None])
        return box.lower[0], box.upper[0]

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Quick bounds over boxes [M, w]. Sound because the box of features holds those of every row."""
        box = self._features.box(lower, upper)
        return self.network_bounds.interval(box.lower, box.upper)

    def linear(self, lower: Floats, upper: Floats) -> LinearBounds:
        """CROWN's bounds over the box of features, less what features of one input cannot be together, as linear forms
        in those inputs that features are affine in.

        Sound because CROWN's forms hold for all features in the box, and for an affine feature the form in the input
        is the form in the feature, up to rounding that is added.
        """
        box = self._features.box(lower, upper)
        inner = self.network_bounds.crown(box.lower, box.upper)
        with np.errstate(all="ignore"):
            high = self._side(inner.slope_upper, inner.linear_upper, box, (lower, upper))
            low = -self._side(-inner.slope_lower, -inner.linear_lower, box, (lower, upper))
            slopes = [self._in_inputs(slope, lower, upper) for slope in (inner.slope_lower, inner.slope_upper)]
            room = [self._room(slope, lower, upper) for slope in slopes]
        sides = (np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high))
        forms = sides[0] - room[0], sides[1] + room[1]
        return LinearBounds(
            np.maximum(inner.lower, sides[0]), np.minimum(inner.upper, sides[1]), slopes[0], slopes[1], *forms
        )

    def _side(self, slope: Floats, bound: Floats, box: FeatureBox, inputs: tuple[Floats, Floats]) -> Floats:
        """The largest value [M, m] of forms over boxes of inputs, where over those of features it is `bound`."""
        less, _ = self._features.largest(slope, box, *inputs)
        tighter = bound + less + 2.0**-48 * (np.abs(bound) + np.abs(less))
        return np.where(less < 0, np.minimum(tighter, bound), bound)

    def _in_inputs(self, slope: Floats, lower: Floats, upper: Floats) -> Floats:
        """The slopes [M, m, w] of forms of features in those inputs that are numbers and that all features are affine
        in; the others are at their extremes already.
        """
        found = np.zeros((*slope.shape[:2], lower.shape[1]))
        for i, rising in self._features.spread(slope):
            usable = np.isfinite(upper[:, i] - lower[:, i])
            usable &= self.may_cut(lower, upper)  # polygons cut by the slopes of either input
            found[:, :, i] = np.where(usable[:, None] & np.isfinite(rising), rising, 0.0)
        return found

    def _room(self, slope: Floats, lower: Floats, upper: Floats) -> Floats:
        """What rounding the features and the slopes may take from forms [M, m]."""
        largest = np.where(np.isfinite(lower), np.abs(lower), 0.0) + np.where(np.isfinite(upper), np.abs(upper), 0.0)
        offsets = np.zeros(lower.shape[1])
        offsets[: self.function.n_inputs] = self._offsets
        room: Floats = _ROUNDING * np.einsum("kmd,kd->km", np.abs(slope), largest + offsets)
        return room

    @cached_property
    def _offsets(self) -> Floats:
        """The largest number that is added to each input [d], in its own unit."""
        found = np.zeros(self.function.n_inputs)
        for feature in self._features.features:
            slope = feature.slope
            if slope:
                shifts = sum(abs(float(step.apply(np.zeros(1))[0])) for step in feature.steps)
                found[feature.source] = max(found[feature.source], shifts * max(1.0, 1.0 / abs(slope)))
        return found

    def may_cut(self, lower: Floats, upper: Floats) -> Bools:
        """Boxes in which nothing may be missing: a polygon says nothing of a row that lacks one of its numbers."""
        return lack_nothing(upper, self.function.n_inputs)

    def indivisible(self, lower: Floats, upper: Floats) -> Bools:
        """Boxes in which every feature has one value."""
        return np.asarray(~self._features.divisible(lower, upper).any(axis=1), np.bool_)

    def halved(self, leaves: Leaves, times: int) -> Leaves:
        """The parts of leaves on either side of a number, of an edge, or of what is missing; what is indivisible stays.

        Sound because no number lies between a place and the next number behind it, and a row lacks an input or not.
        """
        for _ in range(times):
            leaves = self._halves(leaves)
        return leaves

    def _halves(self, leaves: Leaves) -> Leaves:
        d = self.function.n_inputs
        side = self._widest(leaves)
        parts = [leaves.take(side < 0)]
        for i in np.unique(side[side >= 0]).tolist():
            mine = leaves.take(side == i)
            upper, lower = mine.upper.copy(), mine.lower.copy()
            if i >= d:
                upper[:, i], lower[:, i] = 0.0, 1.0
            else:
                place = self._place(i, lower[:, i], upper[:, i])
                upper[:, i], lower[:, i] = place, np.nextafter(place, np.inf)
            parts += [replace(mine, upper=upper), replace(mine, lower=lower)]
        return Leaves.joined(parts)

    def _place(self, i: int, lower: Floats, upper: Floats) -> Floats:
        """Where to divide boxes along an input [M]: at an edge, or in the middle."""
        edge = self._features.middle_edge(i, lower, upper)
        with np.errstate(over="ignore"):
            place = lower * 0.5 + upper * 0.5 if edge is None else edge
        return np.clip(place, lower, np.nextafter(upper, -np.inf))

    def _widest(self, leaves: Leaves) -> NDArray[np.int64]:
        """The side to divide each leaf along [L], -1 for what is indivisible."""
        may_divide = self._features.divisible(leaves.lower, leaves.upper)
        width = np.where(may_divide, leaves.upper - leaves.lower, 0.0)
        moved = np.nan_to_num(np.abs(leaves.slope) * width, posinf=0.0)
        weight = moved + 1e-3 * moved.max(axis=1, keepdims=True) + 1e-300
        side = np.where(may_divide, weight, -1.0).argmax(axis=1)
        return np.where(may_divide.any(axis=1), side, -1).astype(np.int64)

    def try_points(
        self,
        test: Test,
        box: tuple[Floats, Floats],
        bounds: LinearBounds | None,
        *,
        climb: bool,
        cuts: Cuts | None = None,
    ) -> Points:
        """What the centre of each box [M, w] shows, and the corner that its gradient points at."""
        d = self.function.n_inputs
        with np.errstate(all="ignore"):
            middle = np.nan_to_num(box[0] * 0.5 + box[1] * 0.5)
        middle[:, d:] = box[0][:, d:]
        at = self._features.box(*box)
        here = self._features.box(middle, middle)
        values = self.network_bounds.values(np.nan_to_num(here.lower))
        limits = (bounds.lower, bounds.upper) if bounds is not None else (values - 1e300, values + 1e300)
        towards = towards_of(test, values, *limits)
        form = self.network_bounds.gradients(np.nan_to_num(here.lower), towards)
        corner = np.nan_to_num(self._features.corner(form, at, *box))
        at_corner = self.network_bounds.values(corner)
        inside = np.ones(len(values), np.bool_)
        if cuts is not None:
            inside = cuts.polygons.contains(middle, cuts.block) | ~self.may_cut(*box)
            at_corner = values  # a corner may lie outside
        passed = inside & (test.holds(values) | test.holds(at_corner))
        with np.errstate(all="ignore"):
            slope = self._moves(form, at, box)
        lowest, highest = np.minimum(values, at_corner), np.maximum(values, at_corner)
        return Points(passed, lowest, highest, inside, slope)

    def _moves(self, form: Floats, at: FeatureBox, box: tuple[Floats, Floats]) -> Floats:
        """How much inputs, and what may be missing of them, move forms [M, F] per unit [M, w]."""
        _, moves = self._features.largest(form[:, None, :], at, *box)
        moves = moves[:, 0]
        if box[0].shape[1] > moves.shape[1]:
            moves = np.hstack([moves, moves])
        return np.nan_to_num(moves / np.maximum(box[1] - box[0], 1e-300), posinf=0.0)

    def apart(self, rows: Floats, slack: Floats) -> Floats:
        """How far at most another evaluation of any of the rows [n, d] is off [m]; infinite where nothing is known.

        Sound because both evaluations of each row lie within the bounds of the box around it.
        """
        bounds = self.linear(*around(rows, slack))
        return self.farthest(bounds.lower, bounds.upper)
