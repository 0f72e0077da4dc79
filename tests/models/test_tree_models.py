"""Models of tree libraries: what they predict, bit for bit, and what is refused."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skipml
from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.models import from_lightgbm, from_sklearn, from_xgboost, load
from skipml.models.lightgbm import read_lightgbm
from skipml.models.ubjson import read_ubjson
from skipml.models.xgboost import read_xgboost
from tests.models.thousand import KINDS, compared

xgboost = pytest.importorskip("xgboost")
lightgbm = pytest.importorskip("lightgbm")
sklearn = pytest.importorskip("sklearn")

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(300, 2))
Y = X[:, 0] * X[:, 1]
CLASS = (Y > 0).astype(np.int64)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_library_and_no_row_is_lost(kind: str) -> None:
    assert [found.problems for found in (compared(kind, seed) for seed in range(4)) if found.problems] == []


def booster(**settings: Any) -> Any:
    return xgboost.train({"nthread": 1, **settings}, xgboost.DMatrix(X, settings.pop("y", CLASS)), 4)


def light(**settings: Any) -> Any:
    settings = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, **settings}
    return lightgbm.train(settings, lightgbm.Dataset(X, CLASS), 4)


@pytest.mark.parametrize("name", ["m.json", "m.ubj"])
def test_a_file_of_xgboost_is_recognised(name: str, tmp_path: Path) -> None:
    model = booster(objective="binary:logistic")
    model.save_model(tmp_path / name)
    loaded = skipml.Model.load(tmp_path / name, columns=["a", "b"])
    assert loaded.hash == skipml.Model.from_xgboost(model, columns=["a", "b"]).hash
    np.testing.assert_allclose(loaded.function.forward(X)[:, 0], model.predict(xgboost.DMatrix(X)), rtol=1e-6)
    margin = skipml.Model.load(tmp_path / name, columns=["a", "b"], margin=True).function.forward(X)[:, 0]
    np.testing.assert_array_equal(margin, model.predict(xgboost.DMatrix(X), output_margin=True))


def test_a_file_of_lightgbm_is_recognised(tmp_path: Path) -> None:
    model = light(objective="binary")
    model.save_model(tmp_path / "m.txt")
    loaded = skipml.Model.load(tmp_path / "m.txt", columns=["a", "b"])
    assert loaded.hash == skipml.Model.from_lightgbm(model, columns=["a", "b"]).hash
    np.testing.assert_allclose(loaded.function.forward(X)[:, 0], model.predict(X), rtol=1e-14)


def test_estimators_are_taken_as_boosters_are() -> None:
    classifier = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(X, CLASS)
    np.testing.assert_allclose(from_xgboost(classifier).forward(X)[:, 0], classifier.predict_proba(X)[:, 1], rtol=1e-6)
    other = lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(X, CLASS)
    np.testing.assert_allclose(from_lightgbm(other).forward(X)[:, 0], other.booster_.predict(X), rtol=1e-14)


def test_a_booster_that_stopped_early_is_cut_where_it_was_best() -> None:
    noise = np.random.default_rng(1).integers(0, 2, 300)
    model = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, n_jobs=1, learning_rate=1.0)
    model.fit(X, CLASS, eval_set=[(X, noise)], verbose=False)
    assert model.best_iteration < model.get_booster().num_boosted_rounds() - 1
    np.testing.assert_allclose(from_xgboost(model).forward(X)[:, 0], model.predict_proba(X)[:, 1], rtol=1e-6)


def test_a_snapshot_does_not_change_with_the_model() -> None:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(3, max_depth=3, random_state=0, warm_start=True).fit(X, Y)
    trees = from_sklearn(forest)
    before = trees.forward(X)
    forest.set_params(n_estimators=6).fit(X, -Y)
    np.testing.assert_array_equal(trees.forward(X), before)


def test_a_forest_of_large_trees_is_walked() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rows = np.random.default_rng(2).normal(size=(12_000, 3))
    forest = ExtraTreesRegressor(4, random_state=0, n_jobs=1).fit(rows, rows.sum(axis=1))
    trees = from_sklearn(forest)
    assert type(trees.terms).__name__ == "NodeWalk"
    np.testing.assert_array_equal(trees.forward(rows[:500])[:, 0], forest.predict(rows[:500]))


@cache
def refused_sklearn() -> dict[str, tuple[Any, str]]:
    from sklearn.ensemble import (
        GradientBoostingRegressor,
        HistGradientBoostingRegressor,
        IsolationForest,
        RandomForestClassifier,
        RandomForestRegressor,
        VotingRegressor,
    )
    from sklearn.linear_model import LinearRegression
    from sklearn.tree import DecisionTreeRegressor

    codes = np.column_stack([X[:, 0], np.arange(300) % 4])
    return {
        "isolation": (IsolationForest(random_state=0).fit(X), "IsolationForest is not evaluated: it scores by the dep"),
        "voting": (VotingRegressor([("t", DecisionTreeRegressor())]).fit(X, Y), "VotingRegressor is not evaluated: tr"),
        "linear": (LinearRegression().fit(X, Y), "LinearRegression is not evaluated"),
        "xgboost": (xgboost.XGBRegressor(n_estimators=1).fit(X, Y), "use from_xgboost"),
        "lightgbm": (lightgbm.LGBMRegressor(n_estimators=1, verbose=-1).fit(X, Y), "use from_lightgbm"),
        "unfitted": (RandomForestRegressor(), "RandomForestRegressor is not fitted: call fit first"),
        "targets": (RandomForestRegressor(2).fit(X, X), "has 2 targets: train one model for each"),
        "outputs": (RandomForestClassifier(2).fit(X, np.stack([CLASS, CLASS], 1)), "has 2 targets"),
        "init": (GradientBoostingRegressor(init=LinearRegression(), n_estimators=2).fit(X, Y), "begins with the pred"),
        "categories": (HistGradientBoostingRegressor(categorical_features=[1]).fit(codes, Y), "categorical_features"),
        "text": ("model", "str is not evaluated"),
    }


@pytest.mark.parametrize("name", refused_sklearn())
def test_what_is_not_evaluated_of_sklearn_is_refused_by_name(name: str) -> None:
    estimator, message = refused_sklearn()[name]
    with pytest.raises(ModelError, match=message):
        from_sklearn(estimator)


def test_an_average_has_no_margin() -> None:
    from sklearn.ensemble import RandomForestRegressor

    with pytest.raises(ModelError, match="has no margin"):
        from_sklearn(RandomForestRegressor(2).fit(X, Y), margin=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"booster": "gblinear"}, "booster gblinear: only gbtree and dart are trees"),
        (
            {"objective": "binary:hinge"},
            "objective binary:hinge: its predictions are not computed; ask for margin=True",
        ),
    ],
)
def test_what_is_not_evaluated_of_xgboost_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=message):
        from_xgboost(booster(**settings))


def test_a_margin_needs_no_link() -> None:
    model = booster(objective="binary:hinge")
    expected = model.predict(xgboost.DMatrix(X), output_margin=True)
    np.testing.assert_array_equal(from_xgboost(model, margin=True).forward(X)[:, 0], expected)


def test_vectors_in_leaves_are_refused() -> None:
    model = xgboost.XGBRegressor(n_estimators=2, multi_strategy="multi_output_tree", tree_method="hist")
    with pytest.raises(UnsupportedOperatorError, match="leaves that are vectors"):
        from_xgboost(model.fit(X, X))


def test_several_targets_are_several_outputs() -> None:
    model = xgboost.XGBRegressor(n_estimators=3, n_jobs=1).fit(X, X)
    np.testing.assert_array_equal(from_xgboost(model).forward(X), model.predict(X))


def test_another_missing_value_is_refused() -> None:
    with pytest.raises(ModelError, match=r"takes 0\.0 as missing"):
        from_xgboost(xgboost.XGBRegressor(n_estimators=1, missing=0.0).fit(X, Y))


def test_categories_of_a_data_frame_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "b": pandas.Categorical([f"k{i % 5}" for i in range(300)])})
    model = xgboost.XGBRegressor(n_estimators=2, enable_categorical=True).fit(frame, Y)
    with pytest.raises(UnsupportedOperatorError, match="categories of a data frame"):
        from_xgboost(model)
    other = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(frame, Y)
    with pytest.raises(UnsupportedOperatorError, match="categories of a data frame"):
        from_lightgbm(other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"linear_tree": True}, "leaves that are linear models"),
        ({"objective": "regression", "reg_sqrt": True}, "objective regression sqrt"),
        ({"objective": "cross_entropy_lambda"}, "objective cross_entropy_lambda"),
    ],
)
def test_what_is_not_evaluated_of_lightgbm_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=message):
        from_lightgbm(light(**settings))


@pytest.mark.parametrize("read", [from_xgboost, from_lightgbm])
def test_another_object_is_refused(read: Any) -> None:
    with pytest.raises(ModelError, match="takes a Booster or an estimator"):
        read("model.json")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(pickle.dumps(booster()))
    with pytest.raises(ModelError, match="looks like a pickle"):
        load(path)


def test_a_margin_of_a_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(ModelError, match="only trees and scikit-learn models have a margin"):
        load(tmp_path / "m.onnx", margin=True)


@pytest.mark.parametrize("kind", ["json", "ubj"])
def test_damaged_files_of_xgboost_are_refused(kind: str) -> None:
    data = bytes(booster(objective="binary:logistic").save_raw(kind))
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))).tolist():
            damaged[at] = int(rng.integers(256))
        cut = bytes(damaged[: int(rng.integers(1, len(data)))]) if rng.random() < 0.3 else bytes(damaged)
        try:
            read_xgboost(cut).forward(X[:5])
        except ModelError:
            continue


def test_damaged_files_of_lightgbm_are_refused() -> None:
    data = light(objective="binary").model_to_string().encode()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))).tolist():
            damaged[at] = int(rng.integers(32, 127))
        cut = bytes(damaged[: int(rng.integers(1, len(data)))]) if rng.random() < 0.3 else bytes(damaged)
        try:
            read_lightgbm(cut).forward(X[:5])
        except ModelError:
            continue


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{i\x01ai\x05}", {"a": 5}),
        (b"[$d#i\x02\x3f\x80\x00\x00\x40\x00\x00\x00", [1.0, 2.0]),
        (b"[i\x01TZSi\x02hi]", [1, True, None, "hi"]),
        (b"{#i\x01i\x01aL\x00\x00\x00\x00\x00\x00\x01\x00", {"a": 256}),
        (b"[#i\x00", []),
    ],
)
def test_ubjson_is_read(data: bytes, value: Any) -> None:
    found = read_ubjson(data)
    assert (found.tolist() if isinstance(found, np.ndarray) else found) == value


@pytest.mark.parametrize(
    "data", [b"", b"{", b"X", b"[$d", b"[$di\x02", b"Si\xffa", b"i\x01i\x01", b"[" * 99, b"[$d#l\x7f\xff\xff\xff"]
)
def test_what_is_no_ubjson_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_ubjson(data)
