"""Random pipelines over random files whose texts are known: nothing is lost, and nothing is added.

`python -m tests.models.thousand --kind pipeline` tries as many as there is time for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.soundness.text_fuzz import of_seed, problems

pytestmark = pytest.mark.usefixtures("patient")


SEEDS = [pytest.param(seed, marks=() if seed % 7 == 1 else pytest.mark.exhaustive) for seed in range(22)]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_row_is_lost_or_added(seed: int, tmp_path: Path) -> None:
    assert list(problems(of_seed(seed), np.random.default_rng(seed), tmp_path)) == []
