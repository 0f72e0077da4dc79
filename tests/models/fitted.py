"""Random small models of the libraries, fitted, with the library's own predictions to hold ours against."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.models import from_lightgbm, from_sklearn, from_xgboost
from skipml.models.lightgbm import read_lightgbm
from skipml.models.xgboost import read_xgboost
from skipml.trees import Trees
from tests.forests import edge_rows

Floats = NDArray[np.float64]
Rng = np.random.Generator
Predict = Callable[[Floats], Any]

_ROWS = 150


@dataclass(frozen=True)
class Fitted:
    """What we read, and what the library predicts; whether it takes NaN and infinite inputs, and up to what magnitude;
    by how much, relative to the largest, predictions may differ: an exp is rounded in other ways.
    """

    trees: Trees
    predict: Predict
    takes_nan: bool
    takes_infinity: bool
    most: float
    tolerance: float


def _rows(rng: Rng, *, nan: bool, n_categorical: int = 0) -> Floats:
    """Inputs with ties, zeros and, if wanted, NaN; the last columns are categories."""
    rows = rng.normal(size=(_ROWS, int(rng.integers(1, 4)) + n_categorical)) * 10.0 ** rng.integers(-2, 4)
    rows[:, 0] = rows[:, 0].round(int(rng.integers(0, 3)))
    rows[rng.random(rows.shape) < 0.1] = 0.0
    for i in range(n_categorical):
        rows[:, -1 - i] = rng.integers(0, int(rng.integers(2, 60)), _ROWS)
    if nan:
        rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def _target(rng: Rng, rows: Floats, n_classes: int) -> Any:
    """A number, or a class of each row, all of which occur."""
    known = np.nan_to_num(rows)
    score = known @ rng.normal(size=rows.shape[1]) + np.abs(known).max(axis=1) + rng.normal(size=_ROWS)
    score += 5 * score.std() * np.isin(known[:, -1] % 3, [1.0])
    if n_classes == 0:
        return score / max(float(score.std()), 1e-9)
    return (score.argsort().argsort() * n_classes // _ROWS).astype(np.int64)


def xgboost(rng: Rng, kind: str) -> Fitted:
    """A booster of trees or DART, with the objective that `kind` says."""
    import xgboost as library

    objective, n_classes = {
        "regressor": ("reg:squarederror", 0),
        "logistic": ("binary:logistic", 2),
        "logitraw": ("binary:logitraw", 2),
        "poisson": ("count:poisson", -1),
        "multiclass": ("multi:softprob", 3),
        "dart": ("reg:squarederror", 0),
        "categories": ("reg:squarederror", 0),
    }[kind]
    rows = _rows(rng, nan=bool(rng.integers(2)), n_categorical=2 if kind == "categories" else 0)
    target = np.abs(_target(rng, rows, 0)) if n_classes < 0 else _target(rng, rows, n_classes)
    types = ["q"] * rows.shape[1]
    settings: dict[str, Any] = {"objective": objective, "max_depth": int(rng.integers(1, 6)), "nthread": 1}
    settings |= {"seed": int(rng.integers(1000)), "tree_method": str(rng.choice(["hist", "exact", "approx"]))}
    settings |= {"num_parallel_tree": int(rng.integers(1, 3)), "eta": float(rng.choice([0.1, 0.3, 1.0]))}
    if rng.random() < 0.5:
        settings["base_score"] = 0.25
    if kind == "multiclass":
        settings["num_class"] = 3
    if kind == "dart":
        settings |= {"booster": "dart", "rate_drop": 0.3}
    if kind == "categories":
        types[-2:] = ["c", "c"]
        settings |= {"tree_method": "hist", "max_cat_to_onehot": int(rng.integers(1, 20))}
    categorical = kind == "categories"

    def matrix(x: Floats) -> Any:
        return library.DMatrix(x, feature_types=types, enable_categorical=categorical)

    data = library.DMatrix(rows, target, feature_types=types, enable_categorical=categorical)
    booster = library.train(settings, data, int(rng.integers(1, 12)))
    margin = bool(rng.integers(2))
    trees = from_xgboost(booster, margin=margin)
    assert read_xgboost(bytes(booster.save_raw("json")), margin=margin).hash == trees.hash
    return Fitted(
        trees=trees,
        predict=lambda x: booster.predict(matrix(x), output_margin=margin),
        takes_nan=True,
        takes_infinity=False,
        most=1e30,
        # the logarithm of the base score is rounded by the C library in its own way
        tolerance=0.0 if trees.link.kind == "identity" and kind != "poisson" else 3e-7,
    )


def lightgbm(rng: Rng, kind: str) -> Fitted:
    """A booster with the objective or the boosting that `kind` says."""
    import lightgbm as library

    n_classes = {"binary": 2, "multiclass": 3, "multiclassova": 3, "poisson": -1}.get(kind, 0)
    settings: dict[str, Any] = {
        "objective": kind if n_classes else "regression",
        "num_leaves": int(rng.integers(2, 20)),
        "min_data_in_leaf": int(rng.integers(1, 10)),
        "min_sum_hessian_in_leaf": 0.0,
        "zero_as_missing": bool(rng.integers(2)),
        "use_missing": bool(rng.integers(2)),
        "num_threads": 1,
        "verbose": -1,
        "seed": int(rng.integers(1000)),
    }
    rows = _rows(rng, nan=bool(rng.integers(2)), n_categorical=2 if kind == "categories" else 0)
    target = np.abs(_target(rng, rows, 0)) if n_classes < 0 else _target(rng, rows, n_classes)
    if kind == "binary":
        settings["sigmoid"] = float(rng.choice([1.0, 0.7]))
    if n_classes == 3:
        settings["num_class"] = 3
    if kind in ("rf", "dart"):
        settings |= {"boosting": kind, "bagging_freq": 1, "bagging_fraction": 0.6}
    categorical: Any = "auto"
    if kind == "categories":
        categorical = [rows.shape[1] - 2, rows.shape[1] - 1]
        settings |= {"max_cat_to_onehot": int(rng.integers(1, 20)), "min_data_per_group": 1, "cat_smooth": 1.0}
    data = library.Dataset(rows, target, categorical_feature=categorical, params={"verbose": -1})
    booster = library.train(settings, data, int(rng.integers(1, 12)))
    margin = bool(rng.integers(2))
    trees = from_lightgbm(booster, margin=margin)
    assert read_lightgbm(booster.model_to_string().encode(), margin=margin).hash == trees.hash
    return Fitted(
        trees=trees,
        predict=lambda x: booster.predict(x, raw_score=margin),
        takes_nan=True,
        takes_infinity=True,
        most=np.inf,
        tolerance=0.0 if trees.link.kind == "identity" else 1e-14,
    )


def sklearn(rng: Rng, kind: str) -> Fitted:
    """An estimator of the class that `kind` names."""
    from sklearn import ensemble, tree

    name, _, loss = kind.partition(" ")
    histogram, boosted = name.startswith("Hist"), name.startswith("Gradient")
    rows = _rows(rng, nan=bool(rng.integers(2)) and not boosted)
    is_classifier = name.endswith("Classifier")
    n_classes = (2 if loss == "exponential" else int(rng.integers(2, 4))) if is_classifier else 0
    target = _target(rng, rows, n_classes)
    settings: dict[str, Any] = {"max_depth": int(rng.integers(1, 7)), "random_state": int(rng.integers(1000))}
    if histogram:
        settings |= {"max_iter": int(rng.integers(1, 8)), "min_samples_leaf": 3}
    elif not name.startswith("Decision"):
        settings["n_estimators"] = int(rng.integers(1, 8))
    if loss:
        settings["loss"] = loss
    if loss in ("poisson", "gamma"):
        target = np.abs(target) + 0.1
    chosen: Any = getattr(ensemble, name, None) or getattr(tree, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a class is rare
        estimator: Any = chosen(**settings).fit(rows, target)
    margin = bool(rng.integers(2)) and is_classifier and (histogram or boosted)
    trees = from_sklearn(estimator, margin=margin)
    predict = estimator.decision_function if margin else estimator.predict_proba if is_classifier else estimator.predict
    return Fitted(
        trees=trees,
        predict=predict,
        takes_nan=trees.takes_nan,
        takes_infinity=histogram,
        most=np.inf if histogram else 1e30,
        tolerance=0.0 if trees.link.kind == "identity" else 1e-14,
    )


_XGBOOST = ("regressor", "logistic", "logitraw", "poisson", "multiclass", "dart", "categories")
_LIGHTGBM = ("regression", "binary", "multiclass", "multiclassova", "poisson", "rf", "dart", "categories")
_SKLEARN = (
    *("DecisionTreeRegressor", "DecisionTreeClassifier", "RandomForestRegressor", "RandomForestClassifier"),
    *("ExtraTreesRegressor", "ExtraTreesClassifier", "GradientBoostingRegressor", "GradientBoostingClassifier"),
    *("GradientBoostingClassifier exponential", "HistGradientBoostingRegressor", "HistGradientBoostingClassifier"),
    "HistGradientBoostingRegressor poisson",
)
KINDS: Mapping[str, tuple[Callable[[Rng, str], Fitted], str]] = {
    **{f"xgboost {kind}": (xgboost, kind) for kind in _XGBOOST},
    **{f"sklearn {kind}": (sklearn, kind) for kind in _SKLEARN},
    **{f"lightgbm {kind}": (lightgbm, kind) for kind in _LIGHTGBM},
}


def edges(fitted: Fitted, rng: Rng, n: int = 200) -> Floats:
    """Rows at thresholds and next to them, in either float type, with what else the library takes."""
    rows = edge_rows(fitted.trees, rng, n)
    for i in range(rows.shape[1]):  # categories, cut and out of range
        numbers = rng.integers(-2, 70, n) + rng.choice([0.0, 0.0, 0.5], n)
        rows[:, i] = np.where(rng.random(n) < 0.3, numbers, rows[:, i])
    with np.errstate(invalid="ignore"):
        usable = np.abs(rows) < fitted.most if np.isfinite(fitted.most) else np.isfinite(rows)
    rows = np.where(usable | (np.isinf(rows) & fitted.takes_infinity), rows, 1.0)
    if fitted.takes_nan:
        rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def difference(fitted: Fitted, rows: Floats) -> float:
    """How far our outputs for rows [n, d] are from the library's at most, relative to the largest."""
    ours = fitted.trees.forward(rows).astype(np.float64)
    theirs = np.asarray(fitted.predict(rows), np.float64).reshape(len(rows), -1)
    theirs = theirs[:, 1:] if theirs.shape[1] == 2 else theirs
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
