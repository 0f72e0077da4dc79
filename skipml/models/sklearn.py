"""Fitted trees, forests and gradient boosting of scikit-learn -> Trees.

There is no file to read: a scikit-learn model is saved as a pickle, which is never loaded here. What is evaluated, as
of scikit-learn 1.4 to 1.9:

- trees: inputs are float32, compared with float64 thresholds by `<=`; HistGradientBoosting: inputs are float64
- NaN goes where the node says; where an estimator refuses NaN, the score is NaN
- float64 sums add the trees in order: of a forest divided by their number, of gradient boosting behind the initial
  prediction, each leaf times the learning rate
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.links import Kind, Link
from skipml.tree import Tree
from skipml.trees import Trees

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

_F32: np.dtype[np.floating] = np.dtype(np.float32)
_F64: np.dtype[np.floating] = np.dtype(np.float64)
_CONSTANT_INIT = ("DummyClassifier", "DummyRegressor")
_INSTEAD = {
    "IsolationForest": "it scores by the depth of leaves; train a classifier on its labels",
    "Pipeline": "give the last step, and columns that are transformed already",
    "XGB": "use from_xgboost",
    "LGBM": "use from_lightgbm",
}


def from_sklearn(estimator: BaseEstimator, *, margin: bool = False) -> Trees:
    """Take a snapshot of a fitted DecisionTree, ExtraTree, RandomForest, ExtraTrees, GradientBoosting or
    HistGradientBoosting, Classifier or Regressor: predictions or probabilities, of two classes that of the second; with
    `margin` the decision function of gradient boosting.

    Raises ModelError, and UnsupportedOperatorError which names the part, for what is not evaluated here.
    """
    try:
        from sklearn import ensemble, tree
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted
    except ImportError as error:
        raise ModelError("from_sklearn needs scikit-learn, which is not installed: pip install scikit-learn") from error
    name = type(estimator).__name__
    averaged = (
        *(tree.DecisionTreeClassifier, tree.DecisionTreeRegressor),
        *(ensemble.RandomForestClassifier, ensemble.RandomForestRegressor),
        *(ensemble.ExtraTreesClassifier, ensemble.ExtraTreesRegressor),
    )
    boosted = (ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor)
    histograms = (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)
    try:
        if isinstance(estimator, (*averaged, *boosted, *histograms)):
            check_is_fitted(estimator)
        if isinstance(estimator, averaged):
            return _averaged(estimator, margin)
        if isinstance(estimator, boosted):
            return _boosted(estimator, margin)
        if isinstance(estimator, histograms):
            return _histogram_boosted(estimator, margin)
    except NotFittedError as error:
        raise ModelError(f"{name} is not fitted: call fit first") from error
    except ModelError as error:
        raise type(error)(f"{name}: {error}") from error
    instead = next((text for start, text in _INSTEAD.items() if name.startswith(start)), "")
    raise UnsupportedOperatorError(
        f"{name} is not evaluated: {instead or 'trees, forests and gradient boosting of scikit-learn are'}"
    )


def _averaged(estimator: Any, margin: bool) -> Trees:
    """A tree or a forest: the average of its trees' values."""
    if margin:
        raise ModelError("has no margin: its predictions are averages already")
    if estimator.n_outputs_ != 1:
        raise UnsupportedOperatorError(f"has {estimator.n_outputs_} targets: train one model for each")
    members = getattr(estimator, "estimators_", [estimator])
    n_values = members[0].tree_.value.shape[2]
    kept = slice(1, 2) if n_values == 2 else slice(None)
    n_outputs = len(range(n_values)[kept])
    tags = members[0].__sklearn_tags__().input_tags
    return Trees(
        n_inputs=int(estimator.n_features_in_),
        n_outputs=n_outputs,
        input_dtype=_F32,
        dtype=_F64,
        trees=tuple(_tree(member.tree_, member.tree_.value[:, 0, kept]) for member in members),
        base=np.zeros(n_outputs),
        divisor=float(len(members)),
        takes_nan=bool(tags.allow_nan and members[0].monotonic_cst is None),
    )


def _boosted(estimator: Any, margin: bool) -> Trees:
    """Gradient boosting: the initial prediction and the trees, each times the learning rate."""
    if estimator.init_ != "zero" and type(estimator.init_).__name__ not in _CONSTANT_INIT:
        raise UnsupportedOperatorError(
            f"begins with the predictions of a {type(estimator.init_).__name__}: train with init=None or 'zero'"
        )
    n_outputs = estimator.estimators_.shape[1]
    start = np.zeros((1, estimator.n_features_in_), np.float32)
    link = Link()
    if not margin and hasattr(estimator, "classes_"):
        scale = 2.0 if estimator.loss == "exponential" else 1.0
        link = Link("logistic", scale) if n_outputs == 1 else Link("softmax")
    trees = []
    for stage in estimator.estimators_:
        for k, member in enumerate(stage):
            value = np.zeros((member.tree_.node_count, n_outputs))
            value[:, k] = estimator.learning_rate * member.tree_.value[:, 0, 0]
            trees.append(_tree(member.tree_, value))
    return Trees(
        n_inputs=int(estimator.n_features_in_),
        n_outputs=n_outputs,
        input_dtype=_F32,
        dtype=_F64,
        trees=tuple(trees),
        base=np.asarray(estimator._raw_predict_init(start), np.float64)[0].copy(),
        link=link,
        takes_nan=False,
    )


def _histogram_boosted(estimator: Any, margin: bool) -> Trees:
    """Histogram gradient boosting: the baseline and the trees, which hold the learning rate."""
    if estimator.is_categorical_ is not None and np.any(estimator.is_categorical_):
        raise UnsupportedOperatorError("categorical_features: train on their codes as numbers, or with LightGBM")
    n_outputs = int(estimator.n_trees_per_iteration_)
    kinds: dict[str, Kind] = {"IdentityLink": "identity", "LogLink": "exp", "LogitLink": "logistic"}
    name = type(estimator._loss.link).__name__
    if not margin and n_outputs == 1 and name not in kinds:
        raise UnsupportedOperatorError(f"loss {estimator.loss}: its predictions are not computed; ask for margin=True")
    kind: Kind = "identity" if margin else "softmax" if n_outputs > 1 else kinds[name]
    stages = estimator._predictors
    trees = [_histogram_tree(one.nodes, k, n_outputs) for stage in stages for k, one in enumerate(stage)]
    return Trees(
        n_inputs=int(estimator.n_features_in_),
        n_outputs=n_outputs,
        input_dtype=_F64,
        dtype=_F64,
        trees=tuple(trees),
        base=np.asarray(estimator._baseline_prediction, np.float64).reshape(n_outputs).copy(),
        link=Link(kind),
    )


def _tree(tree: Any, value: NDArray[np.float64]) -> Tree:
    is_leaf = tree.children_left < 0
    nodes = tree.__getstate__()["nodes"]
    return Tree(
        feature=np.where(is_leaf, -1, tree.feature).astype(np.int64),
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        threshold=tree.threshold.astype(np.float64),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
        value=np.where(is_leaf[:, None], value, 0.0),
    )


def _histogram_tree(nodes: Any, output: int, n_outputs: int) -> Tree:
    is_leaf = nodes["is_leaf"].astype(np.bool_)
    value = np.zeros((len(nodes), n_outputs))
    value[:, output] = np.where(is_leaf, nodes["value"], 0.0)
    return Tree(
        feature=np.where(is_leaf, -1, nodes["feature_idx"]).astype(np.int64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
        value=value,
    )
