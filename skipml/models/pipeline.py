"""Fitted scikit-learn pipelines, and the linear models and perceptrons that may end them, -> functions over columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.function import Function
from skipml.graph import Graph
from skipml.links import Link
from skipml.models.folding import folded
from skipml.models.linear import LINEAR, network_of
from skipml.models.transformers import Columns, categories_of, transformed
from skipml.network import Network
from skipml.pipelines import Pipeline, Words
from skipml.preparation import Feature
from skipml.prepared import Prepared
from skipml.trees import Trees

Floats = NDArray[np.float64]
ReadTrees = Callable[[Any], Trees]


@dataclass(frozen=True, eq=False)
class Read:
    """A function, and which of the columns that the estimator was fitted on are its inputs, with their names if the
    estimator knows them.
    """

    function: Function
    sources: tuple[int, ...]
    names: tuple[str, ...] | None
    n_columns: int


def is_pipeline(estimator: Any) -> bool:
    """Whether an estimator is read here: a pipeline, a linear model, a perceptron."""
    name, module = type(estimator).__name__, type(estimator).__module__
    return module.startswith("sklearn.") and (name == "Pipeline" or name in LINEAR)


def read_pipeline(estimator: Any, trees_of: ReadTrees, *, margin: bool) -> Read:
    """Read a fitted estimator; `trees_of` reads what is no linear model.

    Raises ModelError, and UnsupportedOperatorError which names the part, for what is not evaluated.
    """
    steps = [step for _, step in estimator.steps] if type(estimator).__name__ == "Pipeline" else [estimator]
    last = steps[-1]
    if last is None or isinstance(last, str) or not hasattr(last, "predict"):
        raise UnsupportedOperatorError(f"Pipeline ends in {last!r}, which predicts nothing: add a model")
    if not hasattr(steps[0], "n_features_in_"):
        raise ModelError(f"{type(steps[0]).__name__} is not fitted: call fit first")
    n = int(steps[0].n_features_in_)
    names = getattr(estimator, "feature_names_in_", None)
    inputs = Columns(None if names is None else list(names), {})
    found: dict[int, list[str]] = {}
    sources: list[int | None] = list(range(n))
    for step in steps[:-1]:
        for i, more in categories_of(step, sources, inputs).items():
            found.setdefault(i, []).extend(more)
        sources = sources if type(step).__name__ == "SimpleImputer" else [None] * len(sources)
    inputs = replace(inputs, words={i: Words.of(several) for i, several in found.items()})
    features = [Feature(i) for i in range(n)]
    for step in steps[:-1]:
        features = transformed(step, features, inputs)
    used = sorted({feature.source for feature in features})
    number = {source: i for i, source in enumerate(used)}
    features = [replace(feature, source=number[feature.source]) for feature in features]
    words = {number[i]: of for i, of in inputs.words.items() if i in number}
    function = _function(last, features, words, trees_of, (margin, _gives_sparse(steps[:-1])))
    chosen = None if names is None else tuple(str(names[i]) for i in used)
    return Read(function, tuple(used), chosen, n)


def _function(
    last: Any, features: Sequence[Feature], words: dict[int, Words], trees_of: ReadTrees, how: tuple[bool, bool]
) -> Function:
    """`how`: whether the margin is wanted, and whether features come as a sparse matrix, in which trees refuse NaN."""
    margin, is_sparse = how
    name = type(last).__name__
    if name not in LINEAR or not type(last).__module__.startswith("sklearn."):
        trees = trees_of(last)
        return behind_features(trees, features, words, takes_nan=trees.takes_nan and not is_sparse)
    try:
        return behind_features(network_of(last, margin=margin), features, words)
    except ModelError as error:
        raise type(error)(f"{name} {error}") from error


def behind_features(
    model: tuple[Network | Graph, Link] | Trees,
    features: Sequence[Feature],
    words: dict[int, Words],
    *,
    takes_nan: bool = False,
) -> Function:
    """A model that reads features as a function of the inputs; `takes_nan` says whether trees take it as a feature.

    Raises UnsupportedOperatorError for text that is no category and for what trees cannot take.
    """
    n_inputs = 1 + max(feature.source for feature in features)
    for feature in features:
        if feature.source in words and not feature.is_stepped:
            raise UnsupportedOperatorError("Pipeline passes text on: encode it with OneHotEncoder or OrdinalEncoder")
    lacking = {feature.source for feature in features if np.isnan(feature.missing)}
    fills = {i: 0.0 for i in range(n_inputs) if i not in lacking}
    accepted = {
        i: numbers
        for i in range(n_inputs)
        if (numbers := _accepted([f for f in features if f.source == i])) is not None
    }
    reads_more = bool(words or fills or accepted)
    if isinstance(model, Trees):
        inner: Function = folded(model, features, n_inputs, takes_nan=takes_nan or reads_more)
    else:
        inner = Prepared(n_inputs, tuple(features), *model)
        takes_nan = inner.takes_nan
    return Pipeline(inner, takes_nan, words, fills, accepted) if reads_more else inner


def _gives_sparse(steps: Sequence[Any]) -> bool:
    """Whether fitted transformers one behind the other give a sparse matrix; scalers leave it what it is."""
    is_sparse = False
    for step in steps:
        match type(step).__name__:
            case "Pipeline":
                is_sparse = _gives_sparse([inner for _, inner in step.steps])
            case "ColumnTransformer":
                is_sparse = bool(step.sparse_output_)
            case "OneHotEncoder":
                is_sparse = bool(step.sparse_output)
    return is_sparse


def _accepted(features: Sequence[Feature]) -> Floats | None:
    """The only numbers that no encoder of an input refuses, None if it refuses none."""
    refused = [f for f in features if f.values is not None and np.isnan(f.values).any()]
    if not refused:
        return None
    edges = np.unique(np.concatenate([f.edges for f in refused if f.edges is not None]))
    candidates = np.append(edges, edges[-1:] + 1)
    taken = ~np.any([np.isnan(f.apply(candidates)) for f in refused], axis=0)
    return np.asarray(candidates[taken])
