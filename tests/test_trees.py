from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.errors import ModelError
from skipml.leaf_sets import LeafSets
from skipml.links import Link
from skipml.node_walk import NodeWalk
from skipml.tree import Tree
from skipml.trees import Trees
from tests.forests import edge_rows, ensembles, sums_by_definition

F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)


def stump(threshold: float, **changes: Any) -> Trees:
    """1 up to a threshold, 2 beyond, 3 where the input is missing and `missing` is set."""
    ids = np.array([0, -1, -1])
    children = np.array([1, 0, 0]), np.array([2, 0, 0])
    value = np.array([[0.0], [1.0], [2.0]])
    tree = Tree(ids, *children, np.full(3, threshold), np.zeros(3, np.bool_), value)
    return replace(Trees(1, 1, F64, F64, (tree,), np.zeros(1)), **changes)


@settings(max_examples=150)
@given(ensembles())
def test_rows_get_what_the_definition_says(case: tuple[Trees, np.random.Generator]) -> None:
    trees, rng = case
    rows = edge_rows(trees, rng, 40)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    expected = trees.link.apply(np.ascontiguousarray(sums_by_definition(trees, rows).T)).T
    lost = np.isnan(rows).any(axis=1) & (not trees.takes_nan)
    expected[lost] = np.nan
    found = trees.forward(rows)
    assert found.dtype == trees.dtype
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=100)
@given(ensembles())
def test_walking_down_gives_the_same_leaves_as_sets_of_bits(case: tuple[Trees, np.random.Generator]) -> None:
    trees, rng = case
    outputs = range(trees.n_outputs)
    columns = list(edge_rows(trees, rng, 50).T)
    columns[0][::3] = np.nan
    sets, walk = (kind.of(trees.trees, trees._cells, outputs, trees.dtype) for kind in (LeafSets, NodeWalk))
    assert sets is not None
    assert walk is not None
    np.testing.assert_array_equal(sets.values(columns), walk.values(columns))


@settings(max_examples=30)
@given(ensembles(), st.integers(1, 70))
def test_a_row_gets_the_same_bits_in_every_batch(case: tuple[Trees, np.random.Generator], size: int) -> None:
    trees, rng = case
    rows = edge_rows(trees, rng, 70)
    whole = trees.forward(rows)
    start = int(rng.integers(0, 70 - size + 1))
    assert trees.forward(rows[start : start + size]).tobytes() == whole[start : start + size].tobytes()
    assert trees.forward_columns(list(np.asfortranarray(rows).T)).tobytes() == whole.tobytes()


def test_many_rows_are_taken_a_part_at_a_time() -> None:
    trees = stump(0.5)
    rows = np.linspace(0, 1, 20_001)[:, None]
    np.testing.assert_array_equal(trees.forward(rows)[:, 0], np.where(rows[:, 0] <= 0.5, 1.0, 2.0))


@pytest.mark.parametrize(("x", "expected"), [(0.1, 1.0), (np.nextafter(0.1, 1), 2.0), (-np.inf, 1.0), (np.nan, 2.0)])
def test_a_number_equal_to_the_threshold_goes_left(x: float, expected: float) -> None:
    assert stump(0.1).forward([[x]])[0, 0] == expected


def test_float32_inputs_are_compared_as_float32_with_a_float64_threshold() -> None:
    below, above = (float(np.float32(0.1)), 0.1)
    assert below > above  # the float32 nearest to 0.1 is greater
    assert stump(0.1, input_dtype=F32).forward([[0.1]])[0, 0] == 2.0
    assert stump(below, input_dtype=F32).forward([[0.1]])[0, 0] == 1.0
    assert stump(float(np.finfo(np.float32).max), input_dtype=F32).forward([[1e300]])[0, 0] == 2.0


def test_a_model_that_takes_no_nan_gives_nan() -> None:
    trees = stump(0.1, takes_nan=False)
    assert np.isnan(trees.forward([[np.nan]])[0, 0])
    assert trees.forward([[np.inf]])[0, 0] == 2.0


@settings(max_examples=40)
@given(ensembles())
def test_everything_that_outputs_depend_on_is_in_the_hash(case: tuple[Trees, np.random.Generator]) -> None:
    trees, _ = case
    changed = [
        replace(trees, base=trees.base + trees.dtype.type(1)),
        replace(trees, divisor=trees.divisor + 1),
        replace(trees, link=Link("exp" if trees.link.kind == "identity" else "identity")),
        replace(trees, link=replace(trees.link, scale=9.0)),
        replace(trees, takes_nan=not trees.takes_nan),
        replace(trees, input_dtype=F64 if trees.input_dtype == F32 else F32),
    ]
    if trees.trees:
        first = trees.trees[0]
        other = np.full_like(first.threshold, 77.0)
        changed.append(replace(trees, trees=(replace(first, threshold=other), *trees.trees[1:])))
        changed.append(replace(trees, trees=(replace(first, missing_left=~first.missing_left), *trees.trees[1:])))
        changed.append(replace(trees, trees=(replace(first, conditions={0: ((7.0,), False)}), *trees.trees[1:])))
    hashes = {each.hash for each in changed}
    assert len(hashes) == len(changed)
    assert trees.hash not in hashes
    assert replace(trees).hash == trees.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": np.array([0, 0, 0])}, "no place or two parents"),
        ({"left": np.array([3, 0, 0])}, "no place or two parents"),
        ({"left": np.array([2, 0, 0])}, "no place or two parents"),
        ({"feature": np.array([1, -1, -1])}, "asks for input 1 of 1"),
        ({"threshold": np.array([np.nan, 0, 0])}, "a threshold is NaN"),
        ({"threshold": np.zeros(2)}, "do not fit"),
        ({"value": np.array([[0.0], [np.inf], [0.0]])}, "NaN or infinite"),
        ({"value": np.array([[0.0], [1e308], [0.0]])}, "more than float64 holds"),
    ],
)
def test_what_is_no_tree_is_refused(change: dict[str, Any], message: str) -> None:
    tree = replace(stump(0.1).trees[0], **change)
    with pytest.raises(ModelError, match=message):
        stump(0.1, trees=(tree,))


@pytest.mark.parametrize("change", [{"n_inputs": 0}, {"base": np.zeros(2)}, {"base": np.array([np.nan])}])
def test_an_ensemble_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        stump(0.1, **change)
