"""TreeEnsembleRegressor and TreeEnsembleClassifier of ONNX-ML -> Trees, as onnxruntime evaluates them.

Inputs, thresholds and leaves are float32; a row goes to the true branch where its condition holds, NaN where the node
says that it is tracked there. onnxruntime adds trees in an order that follows the batch, here it is that of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.links import IDENTITY, Link
from skipml.tree import Condition, Tree
from skipml.trees import Trees

Indices = NDArray[np.int64]

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_FLOAT32 = np.dtype(np.float32)


def regressor_of(attributes: Mapping[str, Any], n_features: int) -> Trees:
    """The trees of a TreeEnsembleRegressor; raises ModelError for what is not evaluated."""
    aggregate = _text(attributes.get("aggregate_function", b"SUM"))
    if aggregate not in ("SUM", "AVERAGE"):
        raise UnsupportedOperatorError(f"aggregates by {aggregate}: SUM and AVERAGE are evaluated")
    if (post := _text(attributes.get("post_transform", b"NONE"))) != "NONE":
        raise UnsupportedOperatorError(f"has post_transform {post}: only NONE is evaluated of a regressor")
    n_outputs = int(attributes.get("n_targets", 1))
    trees = _trees(attributes, "target", n_outputs)
    divisor = float(len(trees)) if aggregate == "AVERAGE" else 1.0
    base = _base(attributes, n_outputs)
    if divisor != 1.0 and base.any():
        raise UnsupportedOperatorError("averages trees and adds base values: export it with SUM")
    return _ensemble(n_features, trees, base, divisor, IDENTITY)


def classifier_of(attributes: Mapping[str, Any], n_features: int, *, margin: bool) -> Trees:
    """The trees of a TreeEnsembleClassifier: of two classes the second's probability, or with `margin` its sum."""
    n_classes = len(attributes.get("classlabels_int64s", ())) or len(attributes.get("classlabels_strings", ()))
    post = _text(attributes.get("post_transform", b"NONE"))
    links = {"NONE": IDENTITY, "LOGISTIC": Link("logistic"), "SOFTMAX": Link("softmax")}
    if post not in links or n_classes < 2:
        raise UnsupportedOperatorError(f"has {n_classes} classes and post_transform {post}, which is not evaluated")
    trees = _trees(attributes, "class", n_classes)
    base = _base(attributes, n_classes)
    link = IDENTITY if margin else links[post]
    if n_classes > 2:
        return _ensemble(n_features, trees, base, 1.0, link)
    ids = set(attributes["class_ids"])
    weights = np.asarray(attributes["class_weights"], np.float32)
    if len(ids) == 1:  # one sum, which stands for the second class
        base = np.asarray(attributes.get("base_values", [0.0]), np.float32)
        if len(base) != 1 or post == "SOFTMAX" or (post == "LOGISTIC" and (weights >= 0).all()):
            raise UnsupportedOperatorError(
                f"sums one class of two with post_transform {post}, {len(base)} base values and no negative weight: "
                "export it with a weight for each class"
            )
        chosen = int(ids.pop())
        return _ensemble(n_features, _only(trees, chosen), base, 1.0, link)
    if post == "SOFTMAX":
        return _ensemble(n_features, trees, base, 1.0, link)
    return _ensemble(n_features, _only(trees, 1), base[1:], 1.0, link)


def _ensemble(n_features: int, trees: list[Tree], base: NDArray[np.float32], divisor: float, link: Link) -> Trees:
    return Trees(n_features, len(base), _FLOAT32, _FLOAT32, tuple(trees), base, divisor, link, takes_nan=True)


def _only(trees: list[Tree], output: int) -> list[Tree]:
    """Trees that add to one output."""
    return [
        Tree(t.feature, t.left, t.right, t.threshold, t.missing_left, t.value[:, [output]].copy(), t.conditions)
        for t in trees
    ]


def _base(attributes: Mapping[str, Any], n_outputs: int) -> NDArray[np.float32]:
    base = np.asarray(attributes.get("base_values", np.zeros(n_outputs)), np.float32)
    return base if len(base) == n_outputs else np.broadcast_to(base[:1], (n_outputs,)).copy()


def _trees(attributes: Mapping[str, Any], kind: str, n_outputs: int) -> list[Tree]:
    if "nodes_values" not in attributes:
        raise UnsupportedOperatorError("holds its thresholds as tensors: export it with float32 inputs")
    of_tree, ids = (np.asarray(attributes[f"nodes_{name}"], np.int64) for name in ("treeids", "nodeids"))
    n = len(of_tree)
    tracks = attributes.get("nodes_missing_value_tracks_true") or [0] * n
    fields = [attributes[f"nodes_{name}"] for name in ("featureids", "truenodeids", "falsenodeids", "values", "modes")]
    if any(len(field) != n for field in (ids, tracks, *fields)):
        raise ModelError("its lists of nodes do not fit each other; is the file damaged?")
    nodes: dict[int, list[int]] = {}  # by tree, in the order of the file
    for k, number in enumerate(of_tree.tolist()):
        nodes.setdefault(number, []).append(k)
    places = {number: {int(ids[k]): i for i, k in enumerate(mine)} for number, mine in nodes.items()}
    values = {number: np.zeros((len(mine), n_outputs), np.float32) for number, mine in nodes.items()}
    leaves = [attributes[f"{kind}_{name}"] for name in ("treeids", "nodeids", "ids", "weights")]
    for tree, node, output, weight in zip(*leaves, strict=True):
        if node not in places.get(tree, {}) or not 0 <= output < n_outputs:
            raise ModelError(f"tree {tree}: a leaf has no node or no output; is the file damaged?")
        values[tree][places[tree][node], output] += np.float32(weight)
    return [
        _tree([[field[k] for k in mine] for field in (*fields, tracks)], places[number], values[number])
        for number, mine in nodes.items()
    ]


def _tree(fields: list[list[Any]], place: Mapping[int, int], value: NDArray[np.float32]) -> Tree:
    features, true, false, values, modes, tracks = fields
    n = len(features)
    feature, left, right = np.full(n, -1), np.zeros(n, np.int64), np.zeros(n, np.int64)
    threshold, missing = np.zeros(n), np.zeros(n, np.bool_)
    conditions: dict[int, Condition] = {}
    for k, mode in enumerate(_text(mode) for mode in modes):
        if mode == "LEAF":
            continue
        if mode not in _MODES:
            raise UnsupportedOperatorError(f"has nodes of mode {mode}: {', '.join(_MODES)} are evaluated")
        if true[k] not in place or false[k] not in place:
            raise ModelError("a node leads to none; is the file damaged?")
        limit = np.float32(values[k])
        before = float(np.nextafter(limit, np.float32(-np.inf)))
        several = mode in ("BRANCH_EQ", "BRANCH_NEQ")
        feature[k], left[k], right[k] = int(features[k]), place[true[k]], place[false[k]]
        missing[k] = bool(tracks[k]) or mode == "BRANCH_NEQ"
        threshold[k] = before if mode in ("BRANCH_LT", "BRANCH_GTE") else float(limit)
        if several:
            conditions[k] = (before, float(limit)), mode == "BRANCH_NEQ"
        elif mode in ("BRANCH_GTE", "BRANCH_GT"):
            left[k], right[k], missing[k] = right[k], left[k], not missing[k]
    return Tree(feature, left, right, threshold, missing, value, conditions)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
