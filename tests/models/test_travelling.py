"""Models and predicates go to other processes as what they are made of, whatever was made of them here."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import skipml
from skipml.ann.codes import rotation
from skipml.ann.metric import Space
from skipml.ann.runs import Placement
from skipml.ann.vectors import VectorType
from tests.forests import random_trees
from tests.models import fitted_pipelines


def uniform(model: skipml.Model) -> tuple[skipml.Model, pa.Table]:
    return model, pa.table({name: np.linspace(0, 1, 60) for name in model.columns})


def network() -> tuple[skipml.Model, pa.Table]:
    torch.manual_seed(0)
    chain = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    return uniform(skipml.Model.from_torch(chain, columns=["a", "b"]))


def trees() -> tuple[skipml.Model, pa.Table]:
    rng = np.random.default_rng(0)
    function = random_trees(rng, [np.linspace(0, 1, 9)] * 2, 1, "identity", n_trees=30, depth=4)
    return uniform(skipml.Model(function, ("a", "b")))


def pipeline() -> tuple[skipml.Model, pa.Table]:
    fitted = fitted_pipelines.fit(np.random.default_rng(0), "logistic")
    return fitted.model, fitted.rows


@pytest.mark.parametrize("make", [network, trees, pipeline])
def test_models_and_predicates(tmp_path: Path, make: Callable[[], tuple[skipml.Model, pa.Table]]) -> None:
    model, rows = make()
    score = model.output(0)
    test = (score > 0.2) & ~score.between(0.6, 0.7)
    sizes = len(pickle.dumps(model)), len(pickle.dumps(test))
    pq.write_table(rows, tmp_path / "a.parquet", row_group_size=10)
    plan = skipml.plan(tmp_path / "a.parquet", test)
    found = plan.scan().read_all()
    # what was used weighs hardly more, and does the same
    assert all(len(pickle.dumps(it)) < size + 1000 for it, size in zip((model, test), sizes, strict=True))
    assert pickle.loads(pickle.dumps(model)).function.hash == model.function.hash
    other = pickle.loads(pickle.dumps(plan))
    assert other.decisions.tolist() == plan.decisions.tolist()
    assert str(other.scan().read_all().to_pylist()) == str(found.to_pylist())  # NaN is not NaN


def test_placements_of_vectors() -> None:
    rows = np.random.default_rng(0).standard_normal((64, 40)).astype(np.float32)
    placement = Placement("v", VectorType(40, False), Space("l2", 40), rows[:4], rotation(40))
    assert placement.codec is not None
    other = pickle.loads(pickle.dumps(placement))
    assert [a.tolist() for a in other.lists(rows)] == [a.tolist() for a in placement.lists(rows)]
