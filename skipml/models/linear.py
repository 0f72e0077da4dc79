"""Fitted linear models and multi-layer perceptrons of scikit-learn -> networks in float64, with the link behind them.

Rows are scored in another order of summation than scikit-learn's, which follows the batch; bounds hold for any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.graph import Elementwise, Graph, Node, Operator, network_of_graph
from skipml.links import IDENTITY, Link
from skipml.network import Affine, LeakyRelu, Network

_REGRESSORS = [
    *("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "BayesianRidge"),
    *("ARDRegression", "HuberRegressor", "LinearSVR", "SGDRegressor", "Lars", "LassoLars", "QuantileRegressor"),
]
_DECISIONS = ["LinearSVC", "RidgeClassifier", "RidgeClassifierCV", "Perceptron", "PassiveAggressiveClassifier"]
_PROBABILITIES = ["LogisticRegression", "LogisticRegressionCV"]
LINEAR = (*_REGRESSORS, *_DECISIONS, *_PROBABILITIES, "SGDClassifier", "MLPClassifier", "MLPRegressor")
"""What `network_of` takes, by name."""


def network_of(estimator: Any, *, margin: bool) -> tuple[Network | Graph, Link]:
    """The network and the link of a fitted model: what `predict` gives of a regressor, `predict_proba` of a classifier
    (of two classes that of the second) or, with `margin` or where there is none, `decision_function`.

    Raises UnsupportedOperatorError, with the name of the part, for what is not evaluated.
    """
    name = type(estimator).__name__
    if not hasattr(estimator, "n_features_in_"):
        raise ModelError("is not fitted: call fit first")
    if name.startswith("MLP"):
        return _perceptron(estimator, margin)
    weight = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
    bias = np.broadcast_to(np.asarray(estimator.intercept_, np.float64).reshape(-1), (len(weight),)).copy()
    network = Network(weight.shape[1], len(weight), np.dtype(np.float64), (Affine(weight.copy(), bias),))
    if name in _REGRESSORS and margin:
        raise ModelError("has no margin: it predicts a number")
    if name in _REGRESSORS or name in _DECISIONS or margin:
        return network, IDENTITY
    if name == "SGDClassifier":
        if estimator.loss != "log_loss" or len(weight) > 1:
            raise UnsupportedOperatorError(
                f"with loss {estimator.loss!r} and {len(estimator.classes_)} classes has no probability that is "
                "evaluated: ask for margin=True"
            )
        return network, Link("logistic")
    rest = getattr(estimator, "multi_class", "auto")
    one_by_one = rest == "ovr" or getattr(estimator, "solver", "") == "liblinear"
    if (len(weight) > 1 and one_by_one) or (len(weight) == 1 and rest == "multinomial"):
        raise UnsupportedOperatorError(f"multi_class={rest!r}: leave it out, or ask for margin=True")
    return network, Link("logistic") if len(weight) == 1 else Link("softmax")


def _perceptron(estimator: Any, margin: bool) -> tuple[Network | Graph, Link]:
    links: dict[str, Link] = {"identity": IDENTITY, "logistic": Link("logistic"), "softmax": Link("softmax")}
    if estimator.out_activation_ not in links:
        raise UnsupportedOperatorError(f"output activation {estimator.out_activation_!r} is not evaluated")
    link = links[estimator.out_activation_]
    if margin and link.kind == "identity":
        raise ModelError("has no margin: it predicts a number")
    hidden: dict[str, LeakyRelu | Elementwise | None] = {
        "identity": None,
        "relu": LeakyRelu(0.0),
        "tanh": Elementwise("tanh"),
        "logistic": Elementwise("sigmoid"),
    }
    if estimator.activation not in hidden:
        raise UnsupportedOperatorError(f"activation {estimator.activation!r} is not bounded")
    between = hidden[estimator.activation]
    ops: list[Operator] = []
    for weight, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        ops += [between] if ops and between is not None else []
        ops.append(Affine(np.asarray(weight.T, np.float64).copy(), np.asarray(bias, np.float64).copy()))
    n_outputs = len(estimator.intercepts_[-1])
    if n_outputs > 1 and link.kind == "logistic":
        raise UnsupportedOperatorError("several labels per row: train one model for each")
    nodes = tuple(Node(op, (k,)) for k, op in enumerate(ops))
    graph = Graph(int(estimator.coefs_[0].shape[0]), np.dtype(np.float64), nodes)
    return network_of_graph(graph), IDENTITY if margin else link
