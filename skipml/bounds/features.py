"""Boxes of inputs as boxes of prepared features, and the extremes of linear forms of features over boxes of inputs.

Behind the numbers of a box comes, per input, whether it is missing, from 0 to 1, where a row may lack any. The features
of one input belong together: a one-hot encoder's are never 1 both, so a linear form takes its extreme at one cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.preparation import Feature

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_ROUNDING = 2.0**-40
"""Relative to the magnitudes in a sum of a form's terms: more than summing them in another order loses."""


@dataclass(frozen=True, eq=False)
class Group:
    """The features of one input: their numbers [F], the values of the cells [C, F] between `edges` [C - 1] if they are
    all step functions, and what they are where the input is missing [F].
    """

    source: int
    members: Indices
    edges: Floats | None
    cells: Floats
    missing: Floats

    @property
    def takes_nan(self) -> bool:
        """Whether a row that lacks the input has a score."""
        return not np.isnan(self.missing).any()


@dataclass(frozen=True, eq=False)
class FeatureBox:
    """What M boxes of inputs make of the features: `lower`, `upper` [M, F]; of their inputs which may be numbers and
    which may be missing [M, d].
    """

    lower: Floats
    upper: Floats
    may_be_number: Bools
    may_miss: Bools


class FeatureMap:
    """The features of `n_inputs` inputs, grouped by input."""

    def __init__(self, features: Sequence[Feature], n_inputs: int) -> None:
        self.features, self.n_inputs = tuple(features), n_inputs
        members: dict[int, list[int]] = {}
        for j, feature in enumerate(features):
            members.setdefault(feature.source, []).append(j)
        self._takes_nan = np.zeros(n_inputs, np.bool_)
        self.groups = tuple(_group(i, [(j, features[j]) for j in mine]) for i, mine in sorted(members.items()))
        for group in self.groups:
            self._takes_nan[group.source] = group.takes_nan

    def box(self, lower: Floats, upper: Floats) -> FeatureBox:
        """The box of features of each box of inputs [M, d], or [M, 2 d] with what may be missing.

        Sound because features are bounded between the ends of a box, and what is missing is added where it may be.
        """
        number, missing = self._flags(lower, upper)
        low, high = np.empty((2, len(lower), len(self.features)))
        for group in self.groups:
            i = group.source
            here, lacks = number[:, i], missing[:, i]
            for j, at_missing in zip(group.members.tolist(), group.missing.tolist(), strict=True):
                a, b = self.features[j].bounds(lower[:, i], upper[:, i])
                if lacks.any():
                    a = np.where(lacks, np.where(here, np.minimum(a, at_missing), at_missing), a)
                    b = np.where(lacks, np.where(here, np.maximum(b, at_missing), at_missing), b)
                low[:, j], high[:, j] = a, b
        bad = np.isnan(low) | np.isnan(high)
        return FeatureBox(np.where(bad, -np.inf, low), np.where(bad, np.inf, high), number, missing)

    def largest(self, form: Floats, at: FeatureBox, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """The largest value [M, m] of linear forms [M, m, F] over boxes of inputs, less that over the box of features,
        and how far each input moves them [M, m, d].

        Sound because the features of an input are those of one cell, or of a number, or of what is missing.
        """
        less = np.zeros(form.shape[:2])
        moves = np.zeros((*form.shape[:2], self.n_inputs))
        for group in self.groups:
            i, own = group.source, form[:, :, group.members]
            low, high = (side[:, None, group.members] for side in (at.lower, at.upper))
            boxed = np.where(own > 0, own * high, own * low).sum(axis=2)
            least = np.where(own > 0, own * low, own * high).sum(axis=2)
            if group.edges is None:
                moves[:, :, i] = boxed - least
                continue
            values = own @ np.nan_to_num(group.cells).T
            allowed = self._allowed(group, at, lower, upper)[:, None, :]
            if group.takes_nan:
                values = np.concatenate([values, (own @ group.missing)[:, :, None]], axis=2)
            best = np.where(allowed, values, -np.inf).max(axis=2)
            worst = np.where(allowed, values, np.inf).min(axis=2)
            some = np.isfinite(best) & np.isfinite(boxed)
            room = _ROUNDING * (np.abs(own) * np.maximum(np.abs(low), np.abs(high))).sum(axis=2)
            less += np.where(some, np.minimum(best - boxed + room, 0.0), 0.0)
            moves[:, :, i] = np.where(some, best - worst, boxed - least)
        return less, moves

    def corner(self, form: Floats, at: FeatureBox, lower: Floats, upper: Floats) -> Floats:
        """The features [M, F] of a row in each box where a linear form [M, F] is large; only for aiming."""
        point = np.where(form > 0, at.upper, at.lower)
        for group in self.groups:
            own = form[:, group.members]
            if group.edges is None:
                continue
            values = own @ np.nan_to_num(group.cells).T
            choices = np.nan_to_num(group.cells)
            if group.takes_nan:
                values = np.concatenate([values, (own @ group.missing)[:, None]], axis=1)
                choices = np.concatenate([choices, group.missing[None]])
            best = np.where(self._allowed(group, at, lower, upper), values, -np.inf).argmax(axis=1)
            point[:, group.members] = choices[best]
        return point

    def spread(self, slope: Floats) -> list[tuple[int, Floats]]:
        """How much forms [M, m, F] rise per unit of those inputs whose features are affine: number and slope [M, m]."""
        found = []
        for group in self.groups:
            slopes = [self.features[j].slope for j in group.members.tolist()]
            if None not in slopes:
                found.append((group.source, slope[:, :, group.members] @ np.array(slopes, np.float64)))
        return found

    def divisible(self, lower: Floats, upper: Floats) -> Bools:
        """Which sides of boxes [M, w] have more than one value of the features."""
        number, missing = self._flags(lower, upper)
        found = np.zeros(lower.shape, np.bool_)
        for group in self.groups:
            i = group.source
            if group.edges is None:
                several = (lower[:, i] < upper[:, i]) & np.isfinite(upper[:, i] - lower[:, i])
            else:
                first, last = _between(group, lower[:, i], upper[:, i])
                several = first < last
            found[:, i] = several & number[:, i]
            if lower.shape[1] > self.n_inputs:
                found[:, self.n_inputs + i] = number[:, i] & missing[:, i]
        return found

    def middle_edge(self, i: int, lower: Floats, upper: Floats) -> Floats | None:
        """The edge [M] to divide an input at, None for one whose features are no step functions."""
        group = next((group for group in self.groups if group.source == i), None)
        if group is None or group.edges is None:
            return None
        first, last = _between(group, lower, upper)
        return np.asarray(group.edges[np.clip((first + last - 1) // 2, 0, len(group.edges) - 1)])

    def _flags(self, lower: Floats, upper: Floats) -> tuple[Bools, Bools]:
        """Which inputs [M, d] may be a number, and which may be missing."""
        d = self.n_inputs
        if lower.shape[1] == d:
            return np.ones(lower.shape, np.bool_), np.zeros(lower.shape, np.bool_)
        return lower[:, d:] <= 0.0, (upper[:, d:] > 0.0) & self._takes_nan

    def _allowed(self, group: Group, at: FeatureBox, lower: Floats, upper: Floats) -> Bools:
        """Which cells [M, C], and which of what is missing behind them, a row of a box may be in."""
        i = group.source
        first, last = _between(group, lower[:, i], upper[:, i])
        cell = np.arange(len(group.cells))
        allowed = (cell >= first[:, None]) & (cell <= last[:, None]) & at.may_be_number[:, i, None]
        allowed &= ~np.isnan(group.cells).any(axis=1)
        return np.column_stack([allowed, at.may_miss[:, i]]) if group.takes_nan else allowed


def _between(group: Group, lower: Floats, upper: Floats) -> tuple[Indices, Indices]:
    assert group.edges is not None
    first = np.searchsorted(group.edges, lower, side="left")
    return first, np.maximum(np.searchsorted(group.edges, upper, side="left"), first)


def _group(source: int, members: Sequence[tuple[int, Feature]]) -> Group:
    edges = None
    cells = np.zeros((1, len(members)))
    if all(feature.edges is not None for _, feature in members):
        edges = np.unique(np.concatenate([f.edges for _, f in members if f.edges is not None]))
        inside = np.append(edges, np.inf)
        cells = np.stack([feature.apply(inside) for _, feature in members], axis=1)
    missing = np.array([feature.missing for _, feature in members])
    return Group(source, np.array([j for j, _ in members], np.int64), edges, cells, missing)
