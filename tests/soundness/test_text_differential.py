"""Random pipelines over random files whose texts are known: nothing is lost, and nothing is added.

`python -m tests.models.thousand --kind pipeline` tries as many as there is time for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skipml
from skipml.bounds.budget import Budget
from tests.soundness.text_battery import predicates
from tests.soundness.text_fuzz import of_seed, problems, written

pytestmark = pytest.mark.usefixtures("patient")


SEEDS = [pytest.param(seed, marks=() if seed % 7 == 1 else pytest.mark.exhaustive) for seed in range(22)]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_row_is_lost_or_added(seed: int, tmp_path: Path) -> None:
    assert list(problems(of_seed(seed), np.random.default_rng(seed), tmp_path)) == []


@pytest.mark.parametrize("seed", range(3))
def test_nothing_less_is_decided_where_it_is_known_which_texts_occur(seed: int, tmp_path: Path) -> None:
    fitted = of_seed(seed)
    path, rows = written(fitted, np.random.default_rng(seed), tmp_path, "pyarrow")
    few = Budget.unlimited(boxes_per_block=2, prove_keep=True)
    for words in (0, 512):
        skipml.enrich(path, ["a", "b", "k", *(["s"] * (words > 0))], words=words, root=tmp_path / str(words))
    for _, predicate in predicates(fitted.model, rows):
        plans = [skipml.plan(path, predicate, root=tmp_path / words, budget=few).decisions for words in ("0", "512")]
        decided = plans[0] != skipml.EVALUATE
        assert (plans[1][decided] == plans[0][decided]).all()
