"""Tree ensembles behind prepared inputs -> the same trees over the inputs themselves.

A condition on a feature is one on its input: where the feature is monotone, an edge among the input's numbers, found by
bisection over all doubles with the feature's own arithmetic; where it is a step function, the cells that go left. So
nothing is lost, not a bit: every row reaches the leaves that it reaches in the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.cells import rounded_down
from skipml.errors import UnsupportedOperatorError
from skipml.preparation import Feature
from skipml.tree import Condition, Tree
from skipml.trees import Trees

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def folded(trees: Trees, features: Sequence[Feature], n_inputs: int, *, takes_nan: bool) -> Trees:
    """Trees over features as trees over inputs; raises UnsupportedOperatorError for what trees cannot take."""
    if len(features) != trees.n_inputs:
        raise UnsupportedOperatorError(f"{len(features)} features do not fit trees of {trees.n_inputs} inputs")
    found = tuple(_tree(tree, features, trees.input_dtype) for tree in trees.trees)
    return replace(trees, n_inputs=n_inputs, input_dtype=np.dtype(np.float64), trees=found, takes_nan=takes_nan)


def _tree(tree: Tree, features: Sequence[Feature], dtype: np.dtype[np.floating]) -> Tree:
    feature, threshold = tree.feature.copy(), tree.threshold.copy()
    left, right, missing_left = tree.left.copy(), tree.right.copy(), tree.missing_left.copy()
    conditions: dict[int, Condition] = {}
    for node in np.flatnonzero(tree.feature >= 0).tolist():
        prepared = features[int(tree.feature[node])]
        edges, low_left, to_left = _condition(tree, node, prepared, dtype)
        feature[node] = prepared.source
        if len(edges) == 1 and not low_left:
            left[node], right[node] = right[node], left[node]
            low_left, to_left = True, not to_left
        threshold[node], missing_left[node] = edges[0] if edges else 0.0, to_left
        if len(edges) != 1:
            conditions[node] = edges, low_left
    return Tree(feature, left, right, threshold, missing_left, tree.value, conditions)


def _condition(
    tree: Tree, node: int, feature: Feature, dtype: np.dtype[np.floating]
) -> tuple[tuple[float, ...], bool, bool]:
    """The edges among the numbers of the input, whether the first numbers go left, and whether what is missing does."""
    several, low_left = tree.condition(node)
    edges = rounded_down(several, dtype)
    to_left = bool(tree.missing_left[node])
    if not np.isnan(feature.missing):
        to_left = bool(_goes_left(np.array([feature.missing]), edges, low_left)[0])
    if feature.edges is not None and feature.values is not None:
        left = _goes_left(feature.values, edges, low_left)
        refused = np.isnan(feature.values)
        if refused.any() and not refused.all():  # refused cells go with the one before them, so that edges are few
            chosen = np.maximum.accumulate(np.where(refused, -1, np.arange(len(left))))
            left = left[np.where(chosen < 0, np.flatnonzero(~refused)[0], chosen)]
        changes = np.flatnonzero(left[1:] != left[:-1])
        return tuple(feature.edges[changes].tolist()), bool(left[0]), to_left
    if any(step.kind in ("yeo-johnson", "box-cox") for step in feature.steps):
        raise UnsupportedOperatorError("PowerTransformer before trees: leave it out, as trees split by order alone")
    return tuple(_last(feature, float(edge), dtype) for edge in edges), low_left, to_left


def _goes_left(values: Floats, edges: NDArray[Any], low_left: bool) -> Bools:
    with np.errstate(over="ignore"):
        numbers = values.astype(edges.dtype)
    return np.asarray((np.searchsorted(edges, numbers, side="left") % 2 == 0) == low_left, np.bool_)


def _last(feature: Feature, edge: float, dtype: np.dtype[np.floating]) -> float:
    """The largest double whose feature, rounded to the type, is at most the edge; -inf where there is none.

    Sound because no step ever falls, nor does rounding.
    """

    def is_low(key: int) -> bool:
        x = np.array([key if key >= 0 else _LOWEST - key - 1], np.int64).view(np.float64)
        with np.errstate(all="ignore"):
            return bool(feature.apply(x).astype(dtype)[0] <= edge)

    low, high = -_HIGHEST - 1, _HIGHEST  # the keys of all doubles, in their order
    if not is_low(low):
        return -np.inf
    if is_low(high):
        return np.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_low(middle) else (low, middle)
    return float(np.array([low if low >= 0 else _LOWEST - low - 1], np.int64).view(np.float64)[0])


_HIGHEST = int(np.array([np.inf]).view(np.int64)[0])
_LOWEST = int(np.iinfo(np.int64).min)
