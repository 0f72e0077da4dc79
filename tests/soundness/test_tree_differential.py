"""No row lost, no row added for tree ensembles: random lakes, thresholds among their values, against a loaded table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import skipml
from skipml.trees import Trees
from tests.forests import LINKS, random_trees
from tests.soundness.lakes import KINDS, Lake, lakes
from tests.soundness.test_differential import EXAMPLES, check_plans, check_sql, con, many, python

__all__ = ["con", "python"]  # fixtures

pytestmark = pytest.mark.usefixtures("patient")

LAKES: Mapping[str, int] = {"small row groups": 20, "duckdb": 8, "enriched": 12, "plans": 20, "enriched plans": 12}
"""Fewer than of networks: what comes before and after the bounds is the same."""

_folders = (f"forest{i}" for i in count())


@st.composite
def lakes_and_trees(draw: st.DrawFn, *, by_duckdb: bool = False) -> tuple[Lake, Trees]:
    """A lake, and trees whose thresholds lie among the values that its columns have."""
    lake = draw(lakes(by_duckdb=by_duckdb))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = [
        np.append(kind.centre + kind.scale * rng.normal(size=7) * 1.5, [0.0, kind.centre])
        for kind in (KINDS[name] for name in lake.kinds)
    ]
    n_outputs, n_trees = draw(st.sampled_from([1, 1, 3])), draw(st.integers(1, 10))
    return lake, random_trees(rng, pool, n_outputs, draw(st.sampled_from(LINKS)), n_trees=n_trees, depth=3)


@pytest.mark.parametrize("name", ["small row groups", "duckdb", "enriched"])
def test_no_row_is_lost_and_none_added(
    name: str, con: skipml.Connection, tmp_path: Path, count_cases: Callable[[int], None]
) -> None:
    counts: Counter[str] = Counter()

    @many(LAKES[name])
    @given(lakes_and_trees(by_duckdb=name == "duckdb"))
    def ask(case: tuple[Lake, Trees]) -> None:
        counts.update(check_sql(con, *case, tmp_path / next(_folders), name))

    ask()
    count_cases(counts["cases"])
    assert counts["cases"] >= LAKES[name] * EXAMPLES[name][1]
    assert counts["skipped"] >= counts["row_groups"] * 0.05, "the cases must be such that something is skipped"


@pytest.mark.parametrize("name", ["plans", "enriched plans"])
def test_decisions_of_plans_hold_for_every_row(
    name: str, python: skipml.Connection, tmp_path: Path, count_cases: Callable[[int], None]
) -> None:
    counts: Counter[str] = Counter()

    @many(LAKES[name])
    @given(lakes_and_trees())
    def decide(case: tuple[Lake, Trees]) -> None:
        counts.update(check_plans(python, *case, tmp_path / next(_folders), name))

    decide()
    count_cases(counts["cases"])
    assert counts["skip"] >= counts["groups"] * 0.1, "the cases must be such that something is skipped"
    assert counts["keep"] >= counts["groups"] * 0.004, "the cases must be such that something is kept"
