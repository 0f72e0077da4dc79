"""Variants of what bounds tree ensembles that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from skipml import score_tests
from skipml.bounds import branch
from skipml.bounds import trees as bounds_of_trees
from skipml.bounds.trees import TreeVerifier
from skipml.leaf_sets import CellBox, LeafSets
from skipml.links import Link
from skipml.scored import Scorer
from tests.soundness.variants import Patch, Variant

TREE_VARIANTS: list[Variant] = []


def variant(battery: str, rule: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add a variant to the list; `rule` is what it breaks."""

    def add(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        TREE_VARIANTS.append(Variant(rule, battery, apply))
        return apply

    return add


def _boxes(patch: Patch, change: Callable[[CellBox], CellBox]) -> None:
    real = TreeVerifier._box
    patch.setattr(TreeVerifier, "_box", lambda *given: change(real(*given)))


@variant("trees", "a box reaches into the cell of its upper end")
def _upper_cell_left_out(patch: Patch) -> None:
    _boxes(patch, lambda box: replace(box, high=np.maximum(box.high - 1, box.low)))


@variant("trees", "a box begins in the cell of its lower end")
def _lower_cell_left_out(patch: Patch) -> None:
    _boxes(patch, lambda box: replace(box, low=np.minimum(box.low + 1, box.high)))


@variant("trees", "inputs are rounded to the type of the inputs first")
def _no_cast(patch: Patch) -> None:
    patch.setattr(TreeVerifier, "_box", _uncast_box)
    patch.setattr(branch._Search, "_cast", lambda self, x: x)


def _uncast_box(self: Any, lower: Any, upper: Any) -> CellBox:
    places = [
        [
            np.searchsorted(edges.astype(np.float64), side[:, i], side="left")
            for i, edges in enumerate(self._terms.cells.edges)
        ]
        for side in (lower, upper)
    ]
    low, high = (np.stack(columns, axis=1) for columns in places)
    nothing = np.zeros(low.shape, np.bool_)
    return CellBox(low, high, nothing, nothing)


@variant("trees", "the largest leaf bounds a score, not the first that is reached")
def _least_leaf_twice(patch: Patch) -> None:
    patch.setattr(LeafSets, "_largest", lambda self, found: self._leaves(found, last=False))


@variant("trees", "the least leaf bounds a score")
def _largest_leaf_twice(patch: Patch) -> None:
    real = LeafSets.extremes
    patch.setattr(LeafSets, "extremes", lambda *given: 2 * real(*given)[1:])


@variant("trees", "leaves are added in the type and the order of the scorer")
def _other_order(patch: Patch) -> None:
    real = TreeVerifier.interval

    def interval(self: Any, lower: Any, upper: Any) -> Any:
        with np.errstate(all="ignore"):
            low, high = real(self, lower, upper)
        size = np.maximum(np.abs(low), np.abs(high)) * 2.0**-22
        return np.minimum(low + size, (low + high) / 2), np.maximum(high - size, (low + high) / 2)

    patch.setattr(TreeVerifier, "interval", interval)


@variant("trees", "a number equal to an edge lies before it, and the next one behind")
def _next_cell_lost(patch: Patch) -> None:
    real = TreeVerifier._halves

    def halves(self: Any, leaves: Any) -> Any:
        parts, d = real(self, leaves), self.function.n_inputs
        split = parts.lower[:, :d] > leaves.lower[:, :d].min(axis=0)
        beyond = [
            np.append(edges, [np.inf])[np.searchsorted(edges, x)]
            for edges, x in zip(self._terms.cells.edges, parts.lower.T, strict=False)
        ]
        moved = np.where(split, np.nextafter(np.stack(beyond, axis=1), np.inf), parts.lower[:, :d])
        lower = parts.lower.copy()
        lower[:, :d] = np.minimum(moved, parts.upper[:, :d])
        return replace(parts, lower=lower)

    patch.setattr(TreeVerifier, "_halves", halves)


@variant("trees", "both parts of a box must be proved")
def _right_half_lost(patch: Patch) -> None:
    real = TreeVerifier._halves

    def halves(self: Any, leaves: Any) -> Any:
        parts = real(self, leaves)
        keep = np.ones(len(parts), np.bool_)
        keep[1::2] = len(parts) <= len(leaves)
        return parts.take(keep)

    patch.setattr(TreeVerifier, "_halves", halves)


@variant("trees", "one output of a softmax falls where another rises")
def _softmax_of_one_side(patch: Patch) -> None:
    real = Link.bounds

    def bounds(self: Link, low: Any, high: Any) -> Any:
        if self.kind != "softmax":
            return real(self, low, high)
        return tuple(self.apply(np.ascontiguousarray(side)).astype(np.float64) for side in (low, high))

    patch.setattr(Link, "bounds", bounds)


@variant("trees", "a negative coefficient takes the other end of an output")
def _same_ends(patch: Patch) -> None:
    def combined(self: Any, low: Any, high: Any) -> Any:
        return tuple((self.functionals @ side).T for side in (low, high))

    patch.setattr(TreeVerifier, "_combined", combined)


@variant("missing in trees", "what may be missing may go in the default direction")
def _nothing_is_missing(patch: Patch) -> None:
    _boxes(patch, lambda box: replace(box, may_miss=np.zeros_like(box.may_miss), misses=np.zeros_like(box.misses)))


@variant("missing in trees", "what may be missing may be there as well")
def _all_is_missing(patch: Patch) -> None:
    _boxes(patch, lambda box: replace(box, misses=box.may_miss))


@variant("hulls of trees", "polygons say nothing of rows that lack a number")
def _polygons_cut_missing(patch: Patch) -> None:
    patch.setattr(TreeVerifier, "may_cut", lambda self, lower, upper: np.ones(len(lower), np.bool_))


@variant("unknown in trees", "limits that are unknown are none")
def _unknown_is_known(patch: Patch) -> None:
    real = bounds_of_trees._missing_too
    patch.setattr(
        bounds_of_trees,
        "_with_missing",
        lambda regions: real(replace(regions, unknown=np.zeros_like(regions.unknown))),
    )


@variant("missing in trees", "trees that take no NaN give NaN, which is greater than all")
def _nan_is_taken(patch: Patch) -> None:
    real = score_tests._with_flags
    patch.setattr(score_tests, "_with_flags", lambda *given, **_: real(*given, takes_nan=True))


@variant("stored of trees", "maps hold the scores of rows with a NaN")
def _maps_without_nan(patch: Patch) -> None:
    patch.setattr(Scorer, "has_score", lambda self, rows, null: ~(null | np.isnan(rows)).any(axis=1))
