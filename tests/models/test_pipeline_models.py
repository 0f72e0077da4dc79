"""Pipelines of scikit-learn: scores are those of the pipeline, what is refused says so, files hold the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)
from skops import io as skops_io

import skipml
from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.inspection import model_facts
from tests.models.fitted_pipelines import KINDS, TOLERANCE, difference, fit


def _frame(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    text = pd.Series(rng.choice(["x", "y"], n), dtype=object)
    return pd.DataFrame({"a": rng.normal(size=n), "b": rng.random(n) + 0.5, "gone": 1.0, "s": text})


def _with_text() -> Any:
    frame = _frame()
    chosen = [("n", make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]), ("s", OneHotEncoder(), ["s"])]
    return make_pipeline(ColumnTransformer(chosen), LogisticRegression()).fit(frame, frame["a"] > 0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_pipeline(kind: str, seed: int) -> None:
    fitted = fit(np.random.default_rng([seed, len(kind)]), kind)
    allowed = 0.0 if kind in ("forest", "hist", "gbm") else TOLERANCE
    assert difference(fitted) <= allowed


def test_columns_have_their_names_and_those_that_are_dropped_are_no_inputs() -> None:
    pipeline = _with_text()
    assert skipml.Model.from_sklearn(pipeline).columns == ("a", "b", "s")
    assert skipml.Model.from_sklearn(pipeline, columns=["p", "q", "r", "t"]).columns == ("p", "q", "t")
    with pytest.raises(ModelError, match="4 inputs but 3 columns"):
        skipml.Model.from_sklearn(pipeline, columns=["a", "b", "s"])
    nameless = make_pipeline(StandardScaler(), Ridge()).fit(_frame()[["a", "b"]].to_numpy(), _frame()["a"])
    with pytest.raises(ModelError, match="columns="):
        skipml.Model.from_sklearn(nameless)


def test_null_has_a_value_where_it_is_imputed_and_none_where_it_is_not() -> None:
    model = skipml.Model.from_sklearn(_with_text())
    rows = pa.table({"a": pa.array([None, 1.0, 1.0]), "b": [1.0, 1.0, 1.0], "s": ["x", None, "unknown"]})
    assert np.isnan(model.evaluate(rows)[:, 0]).tolist() == [False, True, True]


@pytest.mark.parametrize("is_sparse", [False, True])
def test_trees_refuse_nan_where_their_features_are_a_sparse_matrix(is_sparse: bool) -> None:
    frame = _frame()
    chosen = ColumnTransformer(
        [("n", StandardScaler(), ["a"]), ("s", OneHotEncoder(), ["s"])], sparse_threshold=float(is_sparse)
    )
    pipeline = make_pipeline(chosen, RandomForestRegressor(2, random_state=0)).fit(frame, frame["b"])
    asked = pd.DataFrame({"a": [np.nan], "b": [1.0], "gone": [1.0], "s": ["x"]})
    scores = skipml.Model.from_sklearn(pipeline).evaluate(pa.table({"a": [np.nan], "s": ["x"]}))
    assert np.isnan(scores[0, 0]) == is_sparse
    if is_sparse:
        with pytest.raises(ValueError, match="NaN"):
            pipeline.predict(asked)
    else:
        assert scores[0, 0] == pipeline.predict(asked)[0]


_ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
REFUSED = [
    (FunctionTransformer(np.abs), Ridge(), "FunctionTransformer.*compute the column in SQL"),
    (QuantileTransformer(n_quantiles=5), Ridge(), "QuantileTransformer.*PowerTransformer"),
    (PowerTransformer(), RandomForestRegressor(2), "PowerTransformer before trees"),
    (FeatureUnion([("s", StandardScaler())]), Ridge(), "FeatureUnion"),
    (SimpleImputer(missing_values=0.0), Ridge(), "SimpleImputer takes 0.0 for missing"),
    (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
        RandomForestRegressor(2),
        "another unknown",
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("step", "last", "message"), REFUSED)
def test_what_is_not_evaluated_is_refused_by_name(step: Any, last: Any, message: str) -> None:
    frame = _frame()
    pipeline = make_pipeline(step, last).fit(frame[["a", "b"]], frame["a"])
    with pytest.raises(UnsupportedOperatorError, match=message):
        skipml.Model.from_sklearn(pipeline)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("activation", ["tanh", "logistic", "relu", "identity"])
def test_perceptrons_have_the_activations_of_scikit_learn(activation: str) -> None:
    frame = _frame()
    last = MLPRegressor(hidden_layer_sizes=(4, 3), activation=activation, max_iter=3, random_state=0)
    pipeline = make_pipeline(StandardScaler(), last).fit(frame[["a", "b"]], frame["a"])
    model = skipml.Model.from_sklearn(pipeline)
    scores = model.evaluate(pa.Table.from_pandas(frame[["a", "b"]]))[:, 0]
    np.testing.assert_allclose(scores, pipeline.predict(frame[["a", "b"]]), rtol=1e-9)


def test_what_is_not_fitted_is_refused() -> None:
    with pytest.raises(ModelError, match="not fitted"):
        skipml.Model.from_sklearn(make_pipeline(StandardScaler(), Ridge()), columns=["a"])


@pytest.mark.parametrize("broken", ["scale", "mean"])
def test_numbers_that_would_make_a_feature_fall_are_refused(broken: str) -> None:
    frame = _frame()
    scaler = StandardScaler().fit(frame[["a"]])
    pipeline = make_pipeline(scaler, Ridge().fit(frame[["a"]], frame["b"]))
    setattr(scaler, f"{broken}_", np.array([-1.0 if broken == "scale" else np.inf]))
    with pytest.raises(ModelError, match="fit it again"):
        skipml.Model.from_sklearn(pipeline, columns=["a"])


@pytest.mark.parametrize("trees", [False, True])
def test_a_skops_file_holds_the_same_model(trees: bool, tmp_path: Path) -> None:
    pipeline = _with_text()
    if trees:
        frame = _frame()
        pipeline = make_pipeline(StandardScaler(), RandomForestRegressor(3)).fit(frame[["a", "b"]], frame["a"])
    path = tmp_path / "m.skops"
    skops_io.dump(pipeline, path)
    expected = skipml.Model.from_sklearn(pipeline)
    loaded = skipml.Model.load(path)
    assert (loaded.hash, loaded.columns) == (expected.hash, expected.columns)
    facts = model_facts(str(path))
    assert facts["columns_read"] == list(expected.columns)
    assert facts.get("text", []) == ([] if trees else ["s"])
    assert facts.get("null_has_a_value", []) == ([] if trees else ["a", "b"])


def test_a_skops_file_with_code_of_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.skops"
    skops_io.dump(make_pipeline(FunctionTransformer(_frame), Ridge()), path)
    with pytest.raises(UnsupportedOperatorError, match="_frame"):
        skipml.Model.load(path)


def test_stored_scores_of_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.Table.from_pandas(_frame()), path)
    with pytest.raises(skipml.EnrichmentError, match="reads text"):
        skipml.enrich(path, ["a", "b"], models=[skipml.Model.from_sklearn(_with_text())])
