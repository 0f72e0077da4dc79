"""Random pipelines and trees as skl2onnx exports them, with what onnxruntime says of rows on their edges."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

import skipml
from skipml.models.onnx_ml import read_onnx_ml

Floats = NDArray[np.float64]
Rng = np.random.Generator

_ROWS, _ASKED = 120, 80
_WORDS = ("", "AIR", "AIR REG", "MAIL", "ship", "ß", "zz")
_UNKNOWN = ("A", "AIR ", "QQ", "zzz")
TREES = ("tree", "forest", "extra", "forest regressor", "gbm", "gbm softmax", "gbm regressor")
LINEAR = ("logistic", "softmax", "ridge")
KINDS = (*TREES, *LINEAR, *(f"columns {kind}" for kind in (*TREES[:5], *LINEAR)))
"""Trees and linear models behind numbers in one tensor, and behind columns with text."""


@dataclass(frozen=True)
class FittedOnnx:
    """An export, the model that we read in it, rows as a table, and what onnxruntime gives [n, K]."""

    export: onnx.ModelProto
    model: skipml.Model
    rows: pa.Table
    expected: Floats
    tolerance: float


def _estimator(rng: Rng, kind: str) -> tuple[Any, int]:
    """The last step, and how many classes it tells apart."""
    from sklearn import ensemble, linear_model, tree

    seed = {"random_state": int(rng.integers(1000))}
    depth = {"max_depth": int(rng.integers(1, 6)), **seed}
    n = int(rng.integers(1, 9))
    makers: Mapping[str, Callable[[], tuple[Any, int]]] = {
        "tree": lambda: (tree.DecisionTreeClassifier(**depth), 3),
        "forest": lambda: (ensemble.RandomForestClassifier(n, **depth), 2),
        "extra": lambda: (ensemble.ExtraTreesClassifier(n, **depth), 3),
        "forest regressor": lambda: (ensemble.RandomForestRegressor(n, **depth), 0),
        "gbm": lambda: (ensemble.GradientBoostingClassifier(n_estimators=n, **depth), 2),
        "gbm softmax": lambda: (ensemble.GradientBoostingClassifier(n_estimators=n, **depth), 3),
        "gbm regressor": lambda: (ensemble.GradientBoostingRegressor(n_estimators=n, **depth), 0),
        "logistic": lambda: (linear_model.LogisticRegression(), 2),
        "softmax": lambda: (linear_model.LogisticRegression(), 3),
        "ridge": lambda: (linear_model.Ridge(), 0),
    }
    return makers[kind]()


def _frame(rng: Rng, n: int, words: tuple[str, ...]) -> pd.DataFrame:
    numbers = (rng.normal(size=(n, 2)) * 10.0 ** rng.integers(-2, 4, 2)).astype(np.float32)
    numbers[:, 1] = numbers[:, 1].round(1)
    numbers[rng.random(numbers.shape) < 0.1] = 0.0
    text = pd.Series(rng.choice(np.array(words, object), n), dtype=object)
    return pd.DataFrame({"a": numbers[:, 0], "b": numbers[:, 1], "s": text})


def _steps(rng: Rng, *, impute: bool) -> list[Any]:
    from sklearn import preprocessing
    from sklearn.impute import SimpleImputer

    scalers = [
        preprocessing.StandardScaler(),
        preprocessing.MinMaxScaler(),
        preprocessing.MaxAbsScaler(),
        preprocessing.RobustScaler(),
    ]
    chosen = [scalers[int(rng.integers(len(scalers)))] for _ in range(int(rng.integers(0, 3)))]
    return [*([SimpleImputer()] if impute else []), *chosen]


def fit(rng: Rng, kind: str) -> FittedOnnx:
    """A fitted model of a kind, exported."""
    from onnxruntime import InferenceSession, SessionOptions
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    by_columns, name = kind.startswith("columns "), kind.removeprefix("columns ")
    impute = bool(rng.integers(2))
    last, n_classes = _estimator(rng, name)
    words = tuple(rng.choice(np.array(_WORDS, object), int(rng.integers(2, len(_WORDS))), replace=False))
    frame = _frame(rng, _ROWS, words)
    steps: list[Any] = _steps(rng, impute=impute)
    encoder: Any = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    if by_columns and name in TREES and rng.integers(2):
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    if by_columns:
        numbers = make_pipeline(*steps) if steps else "passthrough"
        steps = [ColumnTransformer([("n", numbers, ["a", "b"]), ("s", encoder, ["s"])], sparse_threshold=0.0)]
    train: Any = frame if by_columns else frame[["a", "b"]].to_numpy()
    score = frame["a"].rank() * rng.normal() + frame["b"].rank() * rng.normal() + 5 * frame["s"].isin(["AIR", "zz"])
    target = score.rank() * n_classes // (_ROWS + 1) if n_classes else score / 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = make_pipeline(*steps, last).fit(train, target.astype(int) if n_classes else target)
        one = [(c, (StringTensorType if c == "s" else FloatTensorType)([None, 1])) for c in ("a", "b", "s")]
        types = one if by_columns else [("X", FloatTensorType([None, 2]))]
        options = {id(last): {"zipmap": False}} if n_classes else None
        export = to_onnx(pipeline, initial_types=types, options=options, target_opset={"": 18, "ai.onnx.ml": 3})
    read = read_onnx_ml(export, margin=False)
    model = skipml.Model(read.function, read.names or ("a", "b"))
    asked = _asked(rng, frame, read.function, nan=impute or name in TREES)
    quiet = SessionOptions()
    quiet.log_severity_level, quiet.intra_op_num_threads = 3, 1
    session = InferenceSession(export.SerializeToString(), quiet, providers=["CPUExecutionProvider"])
    feeds = (
        {c: asked[[c]].to_numpy(object if c == "s" else np.float32) for c in ("a", "b", "s")}
        if by_columns
        else {"X": asked[["a", "b"]].to_numpy(np.float32)}
    )
    outputs = np.asarray(session.run(None, feeds)[-1], np.float64).reshape(len(asked), -1)
    expected = outputs[:, 1:] if outputs.shape[1] == 2 and n_classes == 2 else outputs
    rows = pa.table(
        {c: pa.array(asked[c].to_numpy(np.float64), pa.float64(), from_pandas=False) for c in ("a", "b")}
        | {"s": pa.array(asked["s"], pa.string())}
    )
    return FittedOnnx(export, model, rows, expected, 2e-5 if name in LINEAR else 4e-6)


def _asked(rng: Rng, frame: pd.DataFrame, function: Any, *, nan: bool) -> pd.DataFrame:
    """Rows like those it was fitted on, at their midpoints and next to them, with words that are not known."""
    asked = _frame(rng, _ASKED, (*_WORDS, *_UNKNOWN))
    trees = getattr(getattr(function, "inner", function), "trees", ())
    for i, name in enumerate(("a", "b")):
        edges = [tree.threshold[tree.feature == i] for tree in trees]
        seen = np.concatenate([frame[name].to_numpy(np.float64), *edges])
        with np.errstate(over="ignore"):
            at = rng.choice(seen[np.abs(seen) < 1e30], _ASKED).astype(np.float32)
        near = np.nextafter(at, rng.choice([-np.inf, np.inf], _ASKED).astype(np.float32))
        which = rng.random(_ASKED)
        asked[name] = np.where(which < 0.4, at, np.where(which < 0.7, near, asked[name])).astype(np.float32)
        if nan:
            asked.loc[rng.random(_ASKED) < 0.1, name] = np.nan
    return asked


def difference(fitted: FittedOnnx) -> float:
    """How far our scores are from onnxruntime's, relative to the largest; infinite where only one has a score."""
    ours = fitted.model.evaluate(fitted.rows).astype(np.float64)
    if (np.isnan(ours) != np.isnan(fitted.expected)).any():
        return float("inf")
    apart = np.nanmax(np.abs(ours - fitted.expected), initial=0.0)
    return float(apart / max(np.nanmax(np.abs(fitted.expected), initial=0.0), 1e-30))
