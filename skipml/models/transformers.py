"""Fitted transformers of scikit-learn -> prepared features, one column each.

Scalers, imputers and powers become steps in scikit-learn's own order of operations; of an encoder its own answers for
every category are kept. The numbers that go in are float64, text is its place among the words (`skipml.pipelines`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.pipelines import Words
from skipml.preparation import Feature, Step, StepKind

Floats = NDArray[np.float64]

_MOST_CATEGORIES = 500
_UNKNOWN_TEXT = "\x00 no category"
_INSTEAD = {
    "FunctionTransformer": "it runs any code: compute the column in SQL and pass it as an argument",
    "QuantileTransformer": "use PowerTransformer or RobustScaler",
    "PolynomialFeatures": "a feature of several columns: compute it in SQL",
    "PCA": "a feature of several columns: use a network that holds the matrix, with from_torch",
    "KBinsDiscretizer": "use a tree, which finds bins itself",
    "TargetEncoder": "use OneHotEncoder or OrdinalEncoder",
    "KNNImputer": "use SimpleImputer",
    "IterativeImputer": "use SimpleImputer",
    "Normalizer": "a feature of several columns: compute it in SQL",
}
_KNOWN = (
    "StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, PowerTransformer, SimpleImputer, OneHotEncoder, "
    "OrdinalEncoder, ColumnTransformer and Pipeline are"
)


@dataclass(frozen=True)
class Columns:
    """What is known of the inputs: their names, if the pipeline was fitted on a table, and the words of text inputs."""

    names: Sequence[str] | None
    words: Mapping[int, Words]


def transformed(step: Any, features: Sequence[Feature], inputs: Columns) -> list[Feature]:
    """The features behind a fitted transformer; raises UnsupportedOperatorError with its name."""
    if _is_nothing(step):
        return list(features)
    name = type(step).__name__
    try:
        if not hasattr(step, "n_features_in_"):
            raise ModelError("is not fitted: call fit first")
        if step.n_features_in_ != len(features):
            raise ModelError(f"takes {step.n_features_in_} features, but {len(features)} come before it")
        if name in ("Pipeline", "ColumnTransformer"):
            return _TRANSFORMERS[name](step, features, inputs)
        if name not in _TRANSFORMERS or not type(step).__module__.startswith("sklearn."):
            instead = _INSTEAD.get(name, _KNOWN)
            raise UnsupportedOperatorError(f"is not evaluated: {instead}")
        return _TRANSFORMERS[name](step, features, inputs)
    except ModelError as error:
        raise type(error)(f"{name} {error}") from error


def categories_of(step: Any, sources: Sequence[int | None], inputs: Columns) -> dict[int, list[str]]:
    """The words that a transformer tells apart, by the input that its columns come from; None for what is no column as
    it was.
    """
    name = type(step).__name__
    found: dict[int, list[str]] = {}
    if name == "Pipeline":
        for _, inner in step.steps:
            _add(found, categories_of(inner, sources, inputs))
            sources = sources if type(inner).__name__ == "SimpleImputer" else [None] * len(sources)
    elif name == "ColumnTransformer":
        for _, inner, chosen in step.transformers_:
            if isinstance(inner, str) and inner == "drop":
                continue
            _add(found, categories_of(inner, [sources[i] for i in _positions(chosen, step, inputs)], inputs))
    else:
        values = getattr(step, "categories_", None)
        if name == "SimpleImputer":
            values = [[value] for value in step.statistics_]
        for source, words in zip(sources, values if values is not None else (), strict=False):
            texts = [word for word in words if isinstance(word, str)]
            if source is not None and texts:
                found.setdefault(source, []).extend(texts)
    return found


def _add(found: dict[int, list[str]], more: Mapping[int, list[str]]) -> None:
    for source, words in more.items():
        found.setdefault(source, []).extend(words)


def _is_nothing(step: Any) -> bool:
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return True
    return type(step).__name__ == "FunctionTransformer" and step.func is None


def _pipeline(step: Any, features: Sequence[Feature], inputs: Columns) -> list[Feature]:
    found = list(features)
    for _, inner in step.steps:
        found = transformed(inner, found, inputs)
    return found


def _column_transformer(step: Any, features: Sequence[Feature], inputs: Columns) -> list[Feature]:
    found: list[Feature] = []
    if getattr(step, "transformer_weights", None):
        raise UnsupportedOperatorError("has transformer_weights: leave them out and scale instead")
    for _, inner, chosen in step.transformers_:
        if isinstance(inner, str) and inner == "drop":
            continue
        taken = [features[i] for i in _positions(chosen, step, inputs)]
        if taken:
            found += transformed(inner, taken, replace(inputs, names=None))
    return found


def _positions(chosen: Any, step: Any, inputs: Columns) -> list[int]:
    """The numbers of columns that are chosen by number, name, mask or slice."""
    names = list(getattr(step, "feature_names_in_", inputs.names or ()))
    n = int(step.n_features_in_)
    if isinstance(chosen, slice):
        start, stop = (names.index(end) if isinstance(end, str) else end for end in (chosen.start, chosen.stop))
        stop = stop + 1 if isinstance(chosen.stop, str) else stop
        return list(range(n))[slice(start, stop, chosen.step)]
    several = [chosen] if isinstance(chosen, (str, int, np.integer)) else list(chosen)
    if several and all(isinstance(one, (bool, np.bool_)) for one in several):
        return [i for i, one in enumerate(several) if one]
    try:
        return [names.index(one) if isinstance(one, str) else range(n)[int(one)] for one in several]
    except (ValueError, IndexError, TypeError) as error:
        raise ModelError(f"chooses columns in a way that is not understood: {chosen!r}") from error


def _each(features: Sequence[Feature], kind: StepKind, values: Any) -> list[Feature]:
    if values is None:
        return list(features)
    return [f.then(Step(kind, (float(value),))) for f, value in zip(features, values, strict=True)]


def _clipped(features: Sequence[Feature], low: float, high: float) -> list[Feature]:
    return [feature.then(Step("clip", (float(low), float(high)))) for feature in features]


def _standard(step: Any, features: Sequence[Feature], _: Columns) -> list[Feature]:
    found = _each(features, "subtract", step.mean_ if step.with_mean else None)
    return _each(found, "divide", step.scale_ if step.with_std else None)


def _min_max(step: Any, features: Sequence[Feature], _: Columns) -> list[Feature]:
    found = _each(_each(features, "multiply", step.scale_), "add", step.min_)
    return _clipped(found, *step.feature_range) if step.clip else found


def _max_abs(step: Any, features: Sequence[Feature], _: Columns) -> list[Feature]:
    found = _each(features, "divide", step.scale_)
    return _clipped(found, -1.0, 1.0) if getattr(step, "clip", False) else found


def _robust(step: Any, features: Sequence[Feature], _: Columns) -> list[Feature]:
    found = _each(features, "subtract", step.center_ if step.with_centering else None)
    return _each(found, "divide", step.scale_ if step.with_scaling else None)


def _power(step: Any, features: Sequence[Feature], inputs: Columns) -> list[Feature]:
    if any(abs(power) > 1000 for power in step.lambdas_ if not np.isnan(power)) or np.isnan(step.lambdas_).any():
        raise ModelError("has a power that is no usable number: scale the column before")
    found = _each(features, step.method, step.lambdas_)
    return _standard(step._scaler, found, inputs) if step.standardize else found


def _imputer(step: Any, features: Sequence[Feature], inputs: Columns) -> list[Feature]:
    statistics = list(step.statistics_)
    missing = step.missing_values
    if not _is_missing(missing) and type(missing).__name__ != "NAType":
        raise UnsupportedOperatorError(f"takes {missing!r} for missing: use NULL, with missing_values=np.nan")
    found, indicated = [], []
    chosen = set(step.indicator_.features_.tolist()) if step.add_indicator else set()
    for i, (feature, value) in enumerate(zip(features, statistics, strict=True)):
        if i in chosen:
            indicated.append(_indicator(feature))
        if isinstance(value, str):
            if feature.steps or feature.is_stepped:
                raise ModelError("fills text behind another transformer: let it be the first")
            found.append(feature.imputed(float(inputs.words[feature.source].place(value.encode()))))
        elif value is None or (isinstance(value, float) and np.isnan(value)):
            raise UnsupportedOperatorError("drops a column that it never saw a value of: leave the column out")
        else:
            found.append(feature.imputed(float(value)))
    return found + indicated


def _indicator(feature: Feature) -> Feature:
    """1 where the feature is missing."""
    if not np.isnan(feature.missing) or feature.is_stepped:
        raise UnsupportedOperatorError("has add_indicator behind another imputer or encoder: let it be the first")
    return Feature(feature.source, (), 1.0, np.zeros(1), np.zeros(2))


def _encoder(step: Any, features: Sequence[Feature], inputs: Columns) -> list[Feature]:
    """Each column is asked for every category, for one that there is not, and for what is missing."""
    widths = getattr(step, "_n_features_outs", [1] * len(features))
    if getattr(step, "handle_unknown", "") == "use_encoded_value" and np.isnan(float(step.unknown_value)):
        raise UnsupportedOperatorError("gives NaN to unknown categories: use another unknown_value")
    found: list[Feature] = []
    start = 0
    for i, (feature, width) in enumerate(zip(features, widths, strict=True)):
        if len(step.categories_[i]) > _MOST_CATEGORIES:
            raise UnsupportedOperatorError(
                f"has {len(step.categories_[i])} categories in a column, and {_MOST_CATEGORIES} are evaluated: "
                "group rare ones before"
            )
        answers = _Answers(step, i, slice(start, start + int(width)))
        edges, values, missing = _cells(answers, feature, inputs)
        found += [feature.encoded(edges, values[:, k].copy(), float(missing[k])) for k in range(int(width))]
        start += int(width)
    return found


@dataclass(frozen=True)
class _Answers:
    """What an encoder makes of one column."""

    step: Any
    column: int
    outputs: slice

    @property
    def categories(self) -> list[Any]:
        """As they were learnt."""
        return list(self.step.categories_[self.column])

    def __call__(self, value: Any) -> Floats:
        """The outputs for a value, NaN where the encoder refuses it."""
        row = np.array([[categories[0] for categories in self.step.categories_]], dtype=object)
        row[0, self.column] = value
        if all(categories.dtype.kind in "fiub" for categories in self.step.categories_):
            row = row.astype(np.float64)
        names = getattr(self.step, "feature_names_in_", None)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if names is not None:
                    import pandas

                    row = pandas.DataFrame({name: row[:, k] for k, name in enumerate(names)}, dtype=row.dtype)
                outputs = self.step.transform(row)
        except ValueError:
            return np.full(self.outputs.stop - self.outputs.start, np.nan)
        if hasattr(outputs, "toarray"):
            outputs = outputs.toarray()
        return np.asarray(outputs, np.float64)[0, self.outputs]


def _cells(answers: _Answers, feature: Feature, inputs: Columns) -> tuple[Floats, Floats, Floats]:
    """The edges, the values of the cells [C, width] and the value of what is missing [width]."""
    missing_ones = [value for value in answers.categories if _is_missing(value)]
    known = [value for value in answers.categories if not _is_missing(value)]
    if len(missing_ones) > 1:
        raise UnsupportedOperatorError("tells None from NaN: in SQL both are NULL; impute before")
    words = inputs.words.get(feature.source)
    missing = answers(missing_ones[0] if missing_ones else None if words is not None else np.nan)
    if missing_ones and np.isnan(missing).any():
        raise UnsupportedOperatorError("gives NaN to what is missing: set encoded_missing_value to a number")
    if words is not None:
        if not all(isinstance(value, str) for value in known):
            raise UnsupportedOperatorError("has categories that are text and others that are not: make them one type")
        table = np.tile(answers(_UNKNOWN_TEXT), (words.n_places, 1))
        for value in known:
            table[words.place(value.encode())] = answers(value)
        return np.arange(words.n_places - 1, dtype=np.float64), table, missing
    numbers = sorted(float(value) for value in known)
    unknown = answers(_beyond(numbers))
    edges, values = list[float](), [unknown]
    for number in numbers:
        before = float(np.nextafter(number, -np.inf))
        if edges and edges[-1] == before:
            values.pop()
        else:
            edges.append(before)
        edges.append(number)
        values += [answers(number), unknown]
    return np.array(edges), np.stack(values), missing


def _beyond(numbers: Sequence[float]) -> float:
    """A number that is none of these."""
    return (2.0 * max(map(abs, numbers), default=0.0)) + 1.5


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


_TRANSFORMERS: dict[str, Callable[[Any, Sequence[Feature], Columns], list[Feature]]] = {
    "Pipeline": _pipeline,
    "ColumnTransformer": _column_transformer,
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
    "PowerTransformer": _power,
    "SimpleImputer": _imputer,
    "OneHotEncoder": _encoder,
    "OrdinalEncoder": _encoder,
}
