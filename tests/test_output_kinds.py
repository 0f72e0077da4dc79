"""Probabilities, margins, classes and sums: no row is lost, and row groups are skipped, with DuckDB and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import skipml
from skipml.bounds.budget import Budget
from skipml.bounds.choice import bounder
from skipml.bounds.through import Through
from skipml.errors import ModelError, PredicateError
from skipml.links import Link
from skipml.predicates import Predicate

_ROWS, _GROUP = 3000, 100
_LIMITS = (0.0, 0.02, 0.3, 0.5, 0.7, 0.98, 1.0)
COLUMNS = ["a", "b"]


class Residual(nn.Module):
    """Two blocks with branches around them."""

    def __init__(self, act: nn.Module, n_outputs: int) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, n_outputs)
        self.norm, self.act = nn.LayerNorm(8), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act(self.first(x))
        return self.last(h + self.act(self.second(self.norm(h))))  # type: ignore[no-any-return]


def modules() -> dict[str, nn.Module]:
    torch.manual_seed(3)
    return {
        "sigmoid of relu": nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid()),
        "softmax of relu": nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(1)),
        "softmax of two": nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2), nn.Softmax(1)),
        "sigmoids of tanh": nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2), nn.Sigmoid()),
        "gelu residual": Residual(nn.GELU(), 2),
        "silu residual, double": Residual(nn.SiLU(), 1).double(),
        "softmax, double": nn.Sequential(nn.Linear(2, 3), nn.Softmax(1)).double(),
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pa.Table]:
    rng = np.random.default_rng(0)
    a = np.sort(rng.normal(size=_ROWS)) * 3
    rows = pa.table({"a": a, "b": np.sin(a) * 2 + 0.1 * rng.normal(size=_ROWS), "id": np.arange(_ROWS)})
    path = str(tmp_path_factory.mktemp("outputs") / "t.parquet")
    pq.write_table(rows, path, row_group_size=_GROUP)
    skipml.enrich(path, columns=COLUMNS)
    return path, rows


def _check(path: str, predicate: Predicate, holds: NDArray[np.bool_]) -> int:
    """How many row groups are skipped, none of which holds a row that passes."""
    decisions = skipml.plan(path, predicate, budget=Budget.unlimited(48)).decisions
    passes = holds.reshape(-1, _GROUP)
    assert not passes[decisions == skipml.SKIP].any(), "a row is lost"
    assert passes[decisions == skipml.KEEP].all(), "a row is too many"
    return int((decisions == skipml.SKIP).sum())


@pytest.mark.parametrize("name", modules())
def test_no_row_is_lost(name: str, table: tuple[str, pa.Table]) -> None:
    path, rows = table
    model = skipml.Model.from_torch(modules()[name], columns=COLUMNS)
    scores = model.evaluate(rows).astype(np.float64)
    skipped = 0
    for i in range(model.n_outputs):
        near = [float(np.quantile(scores[:, i], q)) for q in (0.001, 0.1, 0.9, 0.999)]
        for limit in (*_LIMITS, *near):
            skipped += _check(path, model.output(i) > limit, scores[:, i] > limit)
            skipped += _check(path, model.output(i) <= limit, scores[:, i] <= limit)
        for j in range(model.n_outputs):
            if i != j:
                margin = scores[:, i] - scores[:, j]
                for limit in (-0.5, 0.0, 0.2, 0.9, float(np.quantile(margin, 0.99))):
                    skipped += _check(path, model.margin(i, j) > limit, margin > limit)
                    skipped += _check(path, model.margin(i, j) < limit, margin < limit)
        if model.n_outputs > 1:
            skipped += _check(path, model.is_class(i), scores.argmax(axis=1) == i)
    assert skipped > 50


def test_a_margin_of_probabilities_is_no_comparison_of_classes(table: tuple[str, pa.Table]) -> None:
    """Of two classes both have one functional, but what is remembered of one says nothing of the other."""
    path, rows = table
    model = skipml.Model.from_torch(modules()["softmax of two"], columns=COLUMNS)
    assert Through.of(Link("softmax"), np.array([[1.0, -1.0]])).way == "all"
    assert Through.of(Link("softmax"), np.array([[1.0, -1.0]]), signs=True).way == "classes"
    scores = model.evaluate(rows).astype(np.float64)
    one, other = model.margin(0, 1), model.is_class(0).score
    assert one.verifier.content != other.verifier.content
    for _ in range(2):
        _check(path, model.is_class(0), scores[:, 0] >= scores[:, 1])
        _check(path, one > 0.9, scores[:, 0] - scores[:, 1] > 0.9)
    for first, second in ((0, 0), (0, 2), (-1, 0)):
        with pytest.raises(PredicateError, match="margin"):
            model.margin(first, second)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Softmax(1)])
def test_probabilities_are_within_their_bounds(scale: float, dtype: torch.dtype, end: nn.Module) -> None:
    """Also where they are as good as 0 or 1, and where margins are as good as equal."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 3)
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.weight[1].copy_(layer.weight[0])
        layer.bias[1].copy_(layer.bias[0] * (1 + 1e-7))
    function = skipml.Model.from_torch(nn.Sequential(layer, end).to(dtype), columns=COLUMNS).function
    rng = np.random.default_rng(0)
    lower = rng.normal(size=(200, 2))
    upper = lower + rng.random((200, 2)) * 10.0 ** rng.uniform(-9, 0, (200, 1))
    points = np.stack([lower, upper, lower + rng.random((200, 2)) * (upper - lower)])
    found = function.forward(points.clip(lower, upper).reshape(-1, 2)).astype(np.float64).reshape(3, 200, 3)
    for functionals in (np.eye(3), np.eye(3)[:1], np.eye(3)[:1] - np.eye(3)[1:], np.eye(3)[:1] - np.eye(3)[1:2]):
        verifier = bounder(function, functionals)
        for low, high in (
            verifier.outputs(*verifier.interval(lower, upper)),
            verifier.outputs(verifier.linear(lower, upper).lower, verifier.linear(lower, upper).upper),
        ):
            values = found @ functionals.T
            assert (low <= values).all()
            assert (values <= high).all()


def test_a_sum_of_models_is_one_score(table: tuple[str, pa.Table]) -> None:
    path, rows = table
    one = skipml.Model.from_torch(modules()["sigmoid of relu"], columns=COLUMNS)
    other = skipml.Model.from_torch(nn.Sequential(nn.Linear(1, 4), nn.GELU(), nn.Linear(4, 1)), columns=["b"])
    both = skipml.Model.weighted([(0.7, one), (-0.3, other)])
    assert both.columns == ("a", "b")
    scores = both.evaluate(rows)[:, 0].astype(np.float64)
    np.testing.assert_allclose(
        scores, (0.7 * one.evaluate(rows) - 0.3 * other.evaluate(rows))[:, 0], rtol=1e-4, atol=1e-5
    )
    limit = float(np.quantile(scores, 0.99))
    assert _check(path, both > limit, scores > limit) > 10
    with pytest.raises(ModelError, match="at least one"):
        skipml.Model.weighted([])


@pytest.mark.parametrize("name", ["sigmoid of relu", "softmax of relu", "gelu residual"])
def test_sql_gives_the_same_rows(name: str, table: tuple[str, pa.Table]) -> None:
    path, _ = table
    model = skipml.Model.from_torch(modules()[name], columns=COLUMNS)
    con = skipml.connect()
    con.register_model("m", model)
    call = "m(a, b)" if model.n_outputs == 1 else "m(a, b)[1]"
    conditions = [f"{call} > 0.98", f"{call} <= 0.02", f"{call} BETWEEN 0.4 AND 0.6"]
    conditions += ["m_class(a, b) = 1"] if model.n_outputs > 1 else []
    for condition in conditions:
        sql = f"SELECT id FROM '{path}' WHERE {condition} ORDER BY id"
        con.skipping = True
        found = con.execute(sql).fetchall()
        con.skipping = False
        assert found == con.execute(sql).fetchall()
    con.close()


def test_what_is_stored_of_scores_is_used(table: tuple[str, pa.Table], tmp_path: Path) -> None:
    _, rows = table
    path = str(tmp_path / "stored.parquet")
    pq.write_table(rows, path, row_group_size=_GROUP)
    chosen: dict[str, Any] = modules()
    models = [skipml.Model.from_torch(chosen[n], columns=COLUMNS) for n in ("softmax of relu", "gelu residual")]
    skipml.enrich(path, columns=COLUMNS, models=models)
    for model in models:
        scores = model.evaluate(rows).astype(np.float64)
        for limit in (float(np.quantile(scores[:, 0], 0.99)), float(scores[:, 0].max())):
            assert _check(path, model.output(0) >= limit, scores[:, 0] >= limit) > 20
        _check(path, model.is_class(0), scores.argmax(axis=1) == 0)
