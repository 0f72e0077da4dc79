"""Random small pipelines of scikit-learn, fitted, with rows on the edges of what they tell apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

import skipml

Floats = NDArray[np.float64]
Rng = np.random.Generator

_ROWS, _ASKED = 120, 60
_WORDS = ("", "AIR", "AIR REG", "MAIL", "RAIL", "ship", "ß", "Ünder", "zz")
_UNKNOWN = ("A", "AIR ", "QQ", "zzz", "Ÿ", "\U0001f600")
KINDS = (
    "linear",
    "ridge",
    "logistic",
    "softmax",
    "svc",
    "mlp",
    "mlp softmax",
    "mlp regressor",
    "forest",
    "hist",
    "gbm",
)
TOLERANCE = 1e-9
"""Relative to the largest score; sums of products come in another order, powers and exp from another library."""


@dataclass(frozen=True)
class FittedPipeline:
    """A fitted pipeline as we read it, the rows [n] to ask it about, and what it says of them [n, K]: NaN where it
    refuses a row.
    """

    kind: str
    model: skipml.Model
    pipeline: Any
    rows: pa.Table
    expected: Floats
    refused: NDArray[np.bool_]


def _table(rng: Rng, n: int, texts: tuple[str, ...], *, missing: float, integers: bool) -> pd.DataFrame:
    numbers = rng.normal(size=(n, 2)) * 10.0 ** rng.integers(-2, 4, 2)
    numbers[rng.random(numbers.shape) < 0.1] = 0.0
    codes = rng.integers(0, 5, n).astype(np.float64)
    text = np.array([str(t) for t in rng.choice(np.array(texts, object), n)], object)
    frame = pd.DataFrame({"a": numbers[:, 0], "b": np.abs(numbers[:, 1]) + 0.1, "k": codes})
    if not integers:
        frame["k"] = frame["k"] / 2
    frame["s"] = pd.Series(text, dtype=object)
    for name in ("a", "b", "k"):
        frame.loc[rng.random(n) < missing, name] = np.nan
    frame.loc[rng.random(n) < missing, "s"] = None
    return frame


def _numeric(rng: Rng, *, impute: bool, trees: bool) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PowerTransformer, RobustScaler, StandardScaler

    scalers = [StandardScaler(), MinMaxScaler(clip=bool(rng.integers(2))), MaxAbsScaler(), RobustScaler()]
    if not trees:
        scalers.append(PowerTransformer(standardize=bool(rng.integers(2))))
    steps = [scalers[int(rng.integers(len(scalers)))]]
    if rng.random() < 0.3:
        steps.append(StandardScaler())
    if impute:
        strategy = str(rng.choice(["mean", "median", "most_frequent", "constant"]))
        steps.insert(0, SimpleImputer(strategy=strategy, add_indicator=bool(rng.integers(2))))
    return make_pipeline(*steps)


def _texts(rng: Rng, *, impute: bool) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    unknown = str(rng.choice(["ignore", "error", "infrequent_if_exist"]))
    few = {"min_frequency": 12} if unknown == "infrequent_if_exist" else {}
    drop = "first" if unknown == "error" and rng.integers(2) else None
    encoder: Any = OneHotEncoder(handle_unknown=unknown, drop=drop, sparse_output=bool(rng.integers(2)), **few)
    if rng.random() < 0.3:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    if not impute:
        return encoder
    strategy = str(rng.choice(["most_frequent", "constant"]))
    fill = {"fill_value": str(rng.choice(["AIR", "none"]))} if strategy == "constant" else {}
    return make_pipeline(SimpleImputer(missing_values=None, strategy=strategy, **fill), encoder)


def _last(rng: Rng, kind: str) -> tuple[Any, int]:
    """The model, and how many classes it tells apart."""
    from sklearn import ensemble, linear_model, neural_network, svm

    sizes = (int(rng.integers(2, 9)),) * int(rng.integers(1, 3))
    few, seed = {"max_iter": 30}, {"random_state": int(rng.integers(1000))}
    depth = {"max_depth": int(rng.integers(1, 5)), **seed}
    makers: dict[str, Callable[[], tuple[Any, int]]] = {
        "linear": lambda: (linear_model.LinearRegression(), 0),
        "ridge": lambda: (linear_model.Ridge(), 0),
        "logistic": lambda: (linear_model.LogisticRegression(), 2),
        "softmax": lambda: (linear_model.LogisticRegression(), 3),
        "svc": lambda: (svm.LinearSVC(**seed), 2),
        "mlp": lambda: (neural_network.MLPClassifier(sizes, **few, **seed), 2),
        "mlp softmax": lambda: (neural_network.MLPClassifier(sizes, **few, **seed), 3),
        "mlp regressor": lambda: (neural_network.MLPRegressor(hidden_layer_sizes=sizes, **few, **seed), 0),
        "forest": lambda: (ensemble.RandomForestClassifier(int(rng.integers(1, 8)), **depth), 2),
        "hist": lambda: (ensemble.HistGradientBoostingClassifier(max_iter=int(rng.integers(1, 8)), **depth), 3),
        "gbm": lambda: (ensemble.GradientBoostingRegressor(n_estimators=int(rng.integers(1, 8)), **depth), 0),
    }
    return makers[kind]()


def _target(rng: Rng, frame: pd.DataFrame, n_classes: int) -> Any:
    known = frame[["a", "b", "k"]].fillna(0.0)
    score = ((known - known.mean()) / known.std()).to_numpy() @ rng.normal(size=3)
    score += 2.0 * (frame["s"].isin(["AIR", "MAIL"])).to_numpy() + 0.1 * rng.normal(size=len(frame))
    return score if n_classes == 0 else score.argsort().argsort() * n_classes // len(frame)


def fit(rng: Rng, kind: str, *, refused: int | None = None) -> FittedPipeline:
    """A fitted pipeline of a kind, with or without imputers; at most so many of the rows are asked about that we have
    no score for, which the pipeline has to be asked about one by one.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    impute, integers = bool(rng.integers(2)), bool(rng.integers(2))
    trees = kind in ("forest", "hist", "gbm")
    words = tuple(rng.choice(np.array(_WORDS, object), int(rng.integers(2, len(_WORDS))), replace=False))
    frame = _table(rng, _ROWS, words, missing=0.1 if impute else 0.0, integers=integers)
    codes: Any = "passthrough"
    if impute or rng.integers(2):
        codes = OneHotEncoder(handle_unknown=str(rng.choice(["ignore", "error"])))
    columns = [("n", _numeric(rng, impute=impute, trees=trees), ["a", "b"]), ("s", _texts(rng, impute=impute), ["s"])]
    preparation = ColumnTransformer([*columns, ("k", codes, ["k"])], sparse_threshold=0.3 * float(rng.integers(2)))
    if kind == "hist":
        preparation.sparse_threshold = 0.0
    last, n_classes = _last(rng, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = make_pipeline(preparation, last).fit(frame, _target(rng, frame, n_classes))
    model = skipml.Model.from_sklearn(pipeline)
    asked = _edges(rng, pipeline, frame, impute=impute)
    if refused is not None:
        lacking = np.isnan(model.evaluate(_arrow(asked))).any(axis=1)
        chosen = np.concatenate([np.flatnonzero(~lacking), np.flatnonzero(lacking)[:refused]])
        asked = asked.iloc[chosen].reset_index(drop=True)
    return FittedPipeline(kind, model, pipeline, _arrow(asked), *predicted(pipeline, asked, model.n_outputs))


def _arrow(rows: pd.DataFrame) -> pa.Table:
    return pa.table(
        {name: pa.array(rows[name], pa.float64(), from_pandas=False) for name in ("a", "b", "k")}
        | {"s": pa.array(rows["s"], pa.string(), from_pandas=True)}
    )


def _edges(rng: Rng, pipeline: Any, frame: pd.DataFrame, *, impute: bool) -> pd.DataFrame:
    """Rows like those that it was fitted on, with unknown words and codes, and numbers at and next to those seen."""
    asked = _table(rng, _ASKED, (*_WORDS, *_UNKNOWN), missing=0.15 if impute else 0.03, integers=True)
    for name in ("a", "b"):
        seen = rng.choice(frame[name].dropna().to_numpy(), len(asked))
        near = np.nextafter(seen, rng.choice([-np.inf, np.inf], len(asked)))
        which = rng.random(len(asked))
        asked[name] = np.where(which < 0.3, seen, np.where(which < 0.6, near, asked[name]))
    asked["k"] = np.where(
        rng.random(len(asked)) < 0.8, rng.choice(frame["k"].dropna().to_numpy(), len(asked)), asked["k"]
    )
    texts = np.where(rng.random(len(asked)) < 0.8, rng.choice(frame["s"].to_numpy(), len(asked)), asked["s"])
    asked["s"] = pd.Series(texts, dtype=object)
    return asked


def predicted(pipeline: Any, rows: pd.DataFrame, n_outputs: int) -> tuple[Floats, NDArray[np.bool_]]:
    """What the pipeline says of each row [n, K], and which rows it refuses [n]: it is asked about halves of what it
    refuses as a whole.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _asked(pipeline, rows, n_outputs), np.zeros(len(rows), np.bool_)
        except ValueError:
            pass
    if len(rows) == 1:
        return np.full((1, n_outputs), np.nan), np.ones(1, np.bool_)
    halves = [predicted(pipeline, part, n_outputs) for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :])]
    return np.concatenate([found for found, _ in halves]), np.concatenate([refused for _, refused in halves])


def _asked(pipeline: Any, rows: pd.DataFrame, n_outputs: int) -> Floats:
    for name in ("predict_proba", "decision_function", "predict"):
        if hasattr(pipeline, name):
            outputs = np.asarray(getattr(pipeline, name)(rows), np.float64).reshape(len(rows), -1)
            return outputs[:, 1:] if n_outputs == 1 and outputs.shape[1] == 2 else outputs
    raise AssertionError(pipeline)


def difference(fitted: FittedPipeline) -> float:
    """How far our scores are from the pipeline's, relative to the largest; infinite where only one has a score."""
    ours = fitted.model.evaluate(fitted.rows).astype(np.float64)
    lacking = np.isnan(ours).any(axis=1)
    if (lacking != fitted.refused).any():
        return float("inf")
    known = ~lacking
    if not known.any():
        return 0.0
    largest = max(float(np.abs(fitted.expected[known]).max()), 1e-30)
    return float(np.abs(ours[known] - fitted.expected[known]).max() / largest)
