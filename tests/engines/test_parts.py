"""Parts of a plan hold each row group that is left once, as a whole, and are about as large."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import EVALUATE, KEEP, SKIP
from skipml.engines.parts import row_groups_left, shared_out, unscored
from tests.engines.test_engines import write_groups
from tests.oracle import identity, model


def random_plan(folder: Path, seed: int) -> skipml.Plan:
    """On some files, of which some have blocks of three rows; any decision for each block that is right."""
    rng = np.random.default_rng(seed)
    paths = [
        write_groups(
            folder / f"{seed}-{i}.parquet", [rng.integers(0, 9, rng.integers(1, 9)).tolist() for _ in range(4)]
        )
        for i in range(3)
    ]
    skipml.enrich(paths[1:], block_rows=3)
    return skipml.plan(paths, model(identity()).between(2, 6), budget=Budget(1.0, prove_keep=True))


@pytest.mark.parametrize("seed", range(12))
def test_parts_give_the_rows_of_the_plan(tmp_path: Path, seed: int) -> None:
    plan = random_plan(tmp_path, seed)
    expected = plan.scan().read_all()
    left = row_groups_left(plan)
    for most in (1, 2, 5, 100):
        parts = list(shared_out(plan, most))
        assert len(parts) <= min(most, max(len(left), 1))
        assert sum(len(row_groups_left(part)) for part in parts) == len(left)
        assert pa.concat_tables([expected.slice(0, 0), *(part.scan().read_all() for part in parts)]).equals(expected)
        assert all(not part.footers.columns for part in parts)
        sizes = [int(part.footers.n_rows.sum()) for part in parts]
        largest = max((int(plan.footers.n_rows[blocks].sum()) for blocks in left), default=0)
        assert max(sizes, default=0) <= sum(sizes) / most + largest


def test_a_row_group_with_a_block_that_is_left_is_left(tmp_path: Path) -> None:
    plan = random_plan(tmp_path, 1)
    decision = np.full(len(plan.decisions), SKIP, np.int8)
    (last,) = np.flatnonzero(plan.footers.file_index == 2)[-1:]
    decision[last] = KEEP
    one = replace(plan, result=replace(plan.result, decision=decision))
    (part,) = shared_out(one, 9)
    assert part.footers.files == plan.footers.files[2:]
    assert set(part.footers.row_group.tolist()) == {3}
    assert part.decisions.tolist() == [SKIP] * (len(part.decisions) - 1) + [KEEP]
    none = replace(plan, result=replace(plan.result, decision=np.full_like(decision, SKIP)))
    assert list(shared_out(none, 9)) == []


def test_unscored_plans_leave_nothing_undecided(tmp_path: Path) -> None:
    plan = random_plan(tmp_path, 2)
    assert EVALUATE in plan.decisions
    all_rows = unscored(plan)
    assert ((all_rows.decisions == SKIP) == (plan.decisions == SKIP)).all()
    assert EVALUATE not in all_rows.decisions
    assert all_rows.scan().read_all().num_rows == plan.footers.n_rows[plan.decisions != SKIP].sum()
