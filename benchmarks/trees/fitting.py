"""The models: gradient boosting of XGBoost and a forest of scikit-learn, fitted on rows of lineitem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import skipml

Floats = NDArray[np.float64]

KINDS = ("gbdt 100x3", "forest 30x8")
_SAMPLE = 50_000


@dataclass(frozen=True, slots=True)
class Target:
    """What is learnt: a function of the inputs, columns of lineitem."""

    name: str
    columns: tuple[str, ...]
    of: Callable[[Floats], Floats]


TARGETS = (
    Target("charge", ("l_quantity", "l_extendedprice", "l_discount"), lambda x: x[:, 1] * (1 - x[:, 2])),
    Target("given_away", ("l_extendedprice", "l_discount"), lambda x: x[:, 0] * x[:, 1]),
    Target("early", ("l_extendedprice", "l_orderkey"), lambda x: x[:, 0] * np.exp(-x[:, 1] / 600_000)),
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model, and the library's own prediction of rows [n, d] as it is fastest."""

    model: skipml.Model
    predict: Callable[[Any], Any]
    sql_type: str


def fitted(kind: str, target: Target, rows: Floats) -> Fitted:
    """A model fitted on a sample of the rows, on one thread; the same for the same rows."""
    import xgboost
    from sklearn.ensemble import RandomForestRegressor

    chosen = np.random.default_rng(0).choice(len(rows), _SAMPLE, replace=False)
    x, y = rows[chosen], target.of(rows[chosen])
    if kind == KINDS[0]:
        estimator = xgboost.XGBRegressor(n_estimators=100, max_depth=3, n_jobs=1, random_state=0).fit(x, y)
        booster = estimator.get_booster()
        booster.set_param({"nthread": 1})
        return Fitted(skipml.Model.from_xgboost(estimator, columns=target.columns), booster.inplace_predict, "FLOAT")
    forest = RandomForestRegressor(30, max_depth=8, n_jobs=1, random_state=0).fit(x, y)
    return Fitted(skipml.Model.from_sklearn(forest, columns=target.columns), forest.predict, "DOUBLE")
