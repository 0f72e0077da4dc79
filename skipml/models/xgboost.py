"""XGBoost models -> Trees, from the JSON or UBJSON that XGBoost itself writes.

The library's own file is read, not a conversion such as treelite's: it holds every float32 that is compared or added,
needs no package to read, and says what no conversion keeps (weights of DART, encodings of categories). What is
evaluated, as of XGBoost 1.6 to 3.2 (src/predictor/cpu_predictor.cc):

- inputs are float32; a row goes left where x < split, a category where it is not in the node's set or is none
- NaN is missing and goes in the node's default direction
- float32 sums begin with the base score and add the leaves in order; DART multiplies each by its weight first
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.links import Kind, Link
from skipml.models.categories import edges_around
from skipml.models.ubjson import read_ubjson
from skipml.tree import Condition, Tree
from skipml.trees import Trees

if TYPE_CHECKING:
    import xgboost

_F32: np.dtype[np.floating] = np.dtype(np.float32)
_IDENTITY = (
    "reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror",
    "reg:quantileerror", "reg:expectileerror", "binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map",
)  # fmt: skip
_LINKS: dict[str, Kind] = {
    **dict.fromkeys(_IDENTITY, "identity"),
    **dict.fromkeys(("binary:logistic", "reg:logistic"), "logistic"),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"), "exp"),
    **dict.fromkeys(("multi:softprob", "multi:softmax"), "softmax"),
}
_JSON = re.compile(rb"\s*\{\s*\"")
_MOST_CATEGORIES = 1 << 16
_NO_NODE = -1


def from_xgboost(model: xgboost.Booster | xgboost.XGBModel, *, margin: bool = False) -> Trees:
    """Take a snapshot of a Booster or an estimator, up to its best iteration if it stopped early.

    Raises ModelError, and UnsupportedOperatorError which names the part, for what is not evaluated here.
    """
    try:
        import xgboost
    except ImportError as error:
        raise ModelError("from_xgboost needs xgboost, which is not installed: pip install xgboost") from error
    missing = getattr(model, "missing", np.nan)
    if missing is not None and not np.isnan(missing):
        raise ModelError(f"the estimator takes {missing} as missing; SQL has NaN for that: train with missing=nan")
    booster = model.get_booster() if isinstance(model, xgboost.XGBModel) else model
    if not isinstance(booster, xgboost.Booster):
        raise ModelError(f"from_xgboost takes a Booster or an estimator of xgboost, not {type(model).__name__}")
    if isinstance(model, xgboost.XGBModel) and booster.attr("best_iteration") is not None:
        booster = booster[: booster.best_iteration + 1]
    return read_xgboost(bytes(booster.save_raw("ubj")), margin=margin)


def read_xgboost(data: bytes, *, margin: bool = False) -> Trees:
    """A saved model, JSON or UBJSON: its predictions, or with `margin` the sums before the objective's link.

    Raises ModelError, and UnsupportedOperatorError which names the part, for what is not evaluated here.
    """
    try:
        document = json.loads(data) if _JSON.match(data) else read_ubjson(data)
        return _trees(document["learner"], margin)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"is no model of XGBoost ({type(error).__name__}: {error}); is the file damaged?") from error


def _trees(learner: Mapping[str, Any], margin: bool) -> Trees:
    booster, parameters = learner["gradient_booster"], learner["learner_model_param"]
    weights = None
    if booster["name"] == "dart":
        weights, booster = np.array(booster["weight_drop"], _F32), booster["gbtree"]
    elif booster["name"] != "gbtree":
        raise UnsupportedOperatorError(f"booster {booster['name']}: only gbtree and dart are trees")
    model = booster["model"]
    if len(model.get("cats", {}).get("enc", ())):
        raise UnsupportedOperatorError(
            "categories of a data frame, which the model translates itself: train on their codes, feature type 'c'"
        )
    n_outputs = max(int(parameters["num_class"]), int(parameters.get("num_target", "1")), 1)
    link = _link(learner["objective"]["name"], margin)
    groups = np.array(model["tree_info"], np.int64)
    read = zip(model["trees"], groups.tolist(), weights if weights is not None else [None] * len(groups), strict=True)
    return Trees(
        n_inputs=int(parameters["num_feature"]),
        n_outputs=n_outputs,
        input_dtype=_F32,
        dtype=_F32,
        trees=tuple(_tree(tree, group, n_outputs, weight) for tree, group, weight in read),
        base=_base(parameters["base_score"], learner["objective"]["name"], n_outputs),
        link=link,
    )


def _link(objective: str, margin: bool) -> Link:
    if objective not in _LINKS and not margin:
        raise UnsupportedOperatorError(f"objective {objective}: its predictions are not computed; ask for margin=True")
    return Link("identity" if margin else _LINKS[objective])


def _base(text: str, objective: str, n_outputs: int) -> NDArray[np.floating]:
    """The base score as a margin: files hold it as a prediction, since version 3.1 one per output."""
    scores = np.atleast_1d(np.array(json.loads(text), _F32))
    one = _F32.type(1)
    with np.errstate(all="ignore"):
        match _LINKS.get(objective):
            case "logistic":
                scores = -np.log(one / scores - one)
            case "exp":
                scores = np.log(scores.astype(np.float64)).astype(_F32)
    return np.broadcast_to(scores, n_outputs).astype(_F32)


def _tree(tree: Mapping[str, Any], group: int, n_outputs: int, weight: np.float32 | None) -> Tree:
    if int(tree["tree_param"].get("size_leaf_vector", "1") or 1) > 1:
        raise UnsupportedOperatorError("leaves that are vectors: train with multi_strategy='one_output_per_tree'")
    left, right = (np.array(tree[f"{side}_children"], np.int64) for side in ("left", "right"))
    is_leaf = left == _NO_NODE
    split = np.array(tree["split_conditions"], _F32)
    value = np.zeros((len(left), n_outputs), _F32)
    value[:, group] = np.where(is_leaf, split if weight is None else split * weight, 0)
    feature = np.where(is_leaf, -1, np.array(tree["split_indices"], np.int64))
    conditions = _categories(tree)
    for node in np.flatnonzero(np.isneginf(split) & ~is_leaf).tolist():
        conditions.setdefault(node, ((), False))
    return Tree(
        feature=feature,
        left=left,
        right=right,
        threshold=np.nextafter(split, _F32.type(-np.inf)).astype(np.float64),  # x < t is x <= the number before t
        missing_left=np.array(tree["default_left"], np.bool_),
        value=value,
        conditions=conditions,
    )


def _categories(tree: Mapping[str, Any]) -> dict[int, Condition]:
    """The conditions of nodes that split by category: those in the set, cut to integers, go right."""
    values = np.array(tree["categories"], np.int64)
    found: dict[int, Condition] = {}
    places = (np.array(tree[f"categories_{name}"], np.int64).tolist() for name in ("nodes", "segments", "sizes"))
    for node, start, size in zip(*places, strict=True):
        chosen = np.unique(values[start : start + size])
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < _MOST_CATEGORIES:
            raise UnsupportedOperatorError(f"a category of {chosen[-1]}: only 0 to {_MOST_CATEGORIES - 1} are taken")
        found[node] = (edges_around(chosen, _F32, lowest=0.0), True)
    return found
