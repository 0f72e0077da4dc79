"""LightGBM models -> Trees, from the text that LightGBM itself writes.

As with XGBoost the library's own file is read: its numbers are exact and it needs no package. What is evaluated, as of
LightGBM 3 and 4 (include/LightGBM/tree.h):

- numbers within 1e-35 of zero are zero; a row goes left where x <= threshold, in float64
- NaN is zero, or missing, or zero is missing too, as each node says; what is missing goes in its default direction
- a category, the number cut to an integer, goes left where it is in the node's set; NaN and negative ones go right
- float64 sums begin with zero and add the leaves in order
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.links import Link
from skipml.models.categories import edges_around
from skipml.tree import Condition, Tree
from skipml.trees import Trees

if TYPE_CHECKING:
    import lightgbm

_F64: np.dtype[np.floating] = np.dtype(np.float64)
_ZERO = float(np.float32(1e-35))
_BELOW_ZERO = float(np.nextafter(-_ZERO, -np.inf))
_IDENTITY = frozenset(
    ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", "none")
)
_LOGISTIC = frozenset(("binary", "multiclassova", "cross_entropy", "xentropy"))
_EXP = frozenset(("poisson", "gamma", "tweedie"))
_CATEGORICAL, _DEFAULT_LEFT, _MISSING = 1, 2, 2
"""The bits of a decision type: two masks, and by how much to shift for the two bits of the missing type."""
_ZERO_MISSES, _NAN_MISSES = 1, 2
_NO_CATEGORIES = ("null", "None", "[]")


def from_lightgbm(model: lightgbm.Booster | lightgbm.LGBMModel, *, margin: bool = False) -> Trees:
    """Take a snapshot of a Booster or an estimator, up to its best iteration if it stopped early.

    Raises ModelError, and UnsupportedOperatorError which names the part, for what is not evaluated here.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ModelError("from_lightgbm needs lightgbm, which is not installed: pip install lightgbm") from error
    booster = model.booster_ if isinstance(model, lightgbm.LGBMModel) else model
    if not isinstance(booster, lightgbm.Booster):
        raise ModelError(f"from_lightgbm takes a Booster or an estimator of lightgbm, not {type(model).__name__}")
    return read_lightgbm(booster.model_to_string().encode(), margin=margin)


def read_lightgbm(data: bytes, *, margin: bool = False) -> Trees:
    """A saved model: its predictions, or with `margin` the sums before the objective's link.

    Raises ModelError, and UnsupportedOperatorError which names the part, for what is not evaluated here.
    """
    try:
        return _trees(data.decode(), margin)
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"is no model of LightGBM ({type(error).__name__}: {error}); is the file damaged?") from error


def _trees(text: str, margin: bool) -> Trees:
    body, _, tail = text.partition("\nend of trees")
    parts = body.replace("\r\n", "\n").split("\nTree=")
    header = _fields(parts[0])
    categories = [line for line in tail.splitlines() if line.startswith("pandas_categorical:")]
    if any(line.partition(":")[2].strip() not in _NO_CATEGORIES for line in categories):
        raise UnsupportedOperatorError(
            "categories of a data frame, which LightGBM translates itself: train on their codes, as integers"
        )
    n_outputs = int(header["num_tree_per_iteration"])
    trees = tuple(_tree(_fields(part), number % n_outputs, n_outputs) for number, part in enumerate(parts[1:]))
    averages = "average_output" in header and trees and not margin  # the library's raw scores are sums
    return Trees(
        n_inputs=int(header["max_feature_idx"]) + 1,
        n_outputs=n_outputs,
        input_dtype=_F64,
        dtype=_F64,
        trees=trees,
        base=np.zeros(n_outputs, _F64),
        divisor=float(len(trees) // n_outputs) if averages else 1.0,
        link=Link() if margin else _link(header.get("objective", "none").split()),
    )


def _fields(text: str) -> dict[str, str]:
    """The lines `key=value`; a key alone has no value."""
    return {key.strip(): value for key, _, value in (line.partition("=") for line in text.splitlines())}


def _link(objective: Sequence[str]) -> Link:
    name, options = objective[0], dict(option.partition(":")[::2] for option in objective[1:])
    if name in _IDENTITY and "sqrt" not in options:
        return Link()
    if name in _LOGISTIC:
        return Link("logistic", float(options.get("sigmoid", 1)))
    if name in _EXP:
        return Link("exp")
    if name == "multiclass":
        return Link("softmax")
    raise UnsupportedOperatorError(
        f"objective {' '.join(objective)}: its predictions are not computed; ask for margin=True"
    )


def _tree(fields: Mapping[str, str], output: int, n_outputs: int) -> Tree:
    if fields.get("is_linear", "0").strip() not in ("0", ""):
        raise UnsupportedOperatorError("leaves that are linear models: train with linear_tree=false")
    leaves = _numbers(fields["leaf_value"])
    n_inner = int(fields["num_leaves"]) - 1
    value = np.zeros((n_inner + len(leaves), n_outputs))
    value[n_inner:, output] = leaves
    if len(leaves) != n_inner + 1:
        raise ModelError("the leaves of a tree do not fit its nodes; is the file damaged?")
    if not n_inner:
        nothing = np.zeros(1, np.int64)
        return Tree(nothing - 1, nothing, nothing, np.zeros(1), np.zeros(1, np.bool_), value)
    feature, threshold = _numbers(fields["split_feature"]), _numbers(fields["threshold"])
    kind = _numbers(fields["decision_type"]).astype(np.int64)
    missing_left, conditions = np.zeros(len(value), np.bool_), {}
    for node in range(n_inner):
        if kind[node] & _CATEGORICAL:
            conditions[node] = _category_condition(fields, int(threshold[node]))
        else:
            condition, missing_left[node] = _condition(float(threshold[node]), int(kind[node]))
            if len(condition[0]) == 1 and condition[1]:
                threshold[node] = condition[0][0]
            else:
                conditions[node] = condition
    return Tree(
        feature=np.concatenate([feature, np.full(len(leaves), -1)]).astype(np.int64),
        left=_children(fields["left_child"], n_inner),
        right=_children(fields["right_child"], n_inner),
        threshold=np.concatenate([threshold, np.zeros(len(leaves))]),
        missing_left=missing_left,
        value=value,
        conditions=conditions,
    )


def _numbers(text: str) -> NDArray[np.float64]:
    return np.array(text.split(), np.float64)


def _children(text: str, n_inner: int) -> NDArray[np.int64]:
    """The children [n] of all nodes: a leaf, which has none, is written as the complement of its number."""
    child = _numbers(text).astype(np.int64)
    return np.concatenate([np.where(child < 0, n_inner + ~child, child), np.zeros(n_inner + 1, np.int64)])


def _condition(threshold: float, kind: int) -> tuple[Condition, bool]:
    """Which numbers go left at a node, and whether NaN does."""
    missing, default_left = (kind >> _MISSING) & 3, bool(kind & _DEFAULT_LEFT)
    zero_left = default_left if missing == _ZERO_MISSES else threshold >= 0.0
    ends = sorted({_BELOW_ZERO, _ZERO, threshold, np.inf})
    left = [zero_left if _BELOW_ZERO < end <= _ZERO else end <= threshold for end in ends]
    edges = tuple(end for end, here, behind in zip(ends, left, left[1:], strict=False) if here != behind)
    return (edges, left[0]), default_left if missing == _NAN_MISSES else zero_left


def _category_condition(fields: Mapping[str, str], number: int) -> Condition:
    """A set of categories: a bit for each, in words of 32."""
    starts, words = _numbers(fields["cat_boundaries"]).astype(np.int64), _numbers(fields["cat_threshold"])
    mine = words[starts[number] : starts[number + 1]].astype("<u4")
    chosen = np.flatnonzero(np.unpackbits(mine.view(np.uint8), bitorder="little"))
    return edges_around(chosen, _F64, lowest=float(np.nextafter(-1.0, 0.0))), False
