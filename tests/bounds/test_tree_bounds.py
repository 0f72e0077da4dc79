"""Bounds of tree ensembles contain what their scorer computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.bounds import trees as bounds_of_trees
from skipml.bounds.leaves import Leaves
from skipml.bounds.memory import Known
from skipml.bounds.trees import TreeVerifier
from skipml.links import Kind, Link
from skipml.trees import Trees
from tests.forests import LINKS, Floats, Rng, edge_rows, ensembles, random_trees


def random_boxes(trees: Trees, rng: Rng, n: int) -> tuple[Floats, Floats, Floats]:
    """Boxes that say what may be missing [n, 2 d] with both ends at or near thresholds, and rows [n, 30, d] in them."""
    d = trees.n_inputs
    ends = np.sort(np.stack([edge_rows(trees, rng, n), edge_rows(trees, rng, n)]), axis=0)
    may_miss = (rng.random((n, d)) < 0.3) & trees.takes_nan
    misses = may_miss & (rng.random((n, d)) < 0.3)
    rows = np.stack([edge_rows(trees, rng, 30) for _ in range(n)])
    rows = np.clip(rows, ends[0][:, None], ends[1][:, None])
    rows[:, 0], rows[:, 1] = ends
    missing = misses[:, None] | (may_miss[:, None] & (rng.random(rows.shape) < 0.5))
    rows[missing] = np.nan
    lower = np.hstack([ends[0], misses.astype(np.float64)])
    return lower, np.hstack([ends[1], may_miss.astype(np.float64)]), rows


def functionals_of(trees: Trees, rng: Rng) -> Floats:
    """All outputs, one of them, or how much one is greater than the others."""
    k = trees.n_outputs
    label = int(rng.integers(k))
    kind = int(rng.integers(3)) if k > 1 else 0
    if kind == 0:
        return np.eye(k)
    if kind == 1:
        return np.eye(k)[label : label + 1]
    return np.delete(np.eye(k)[label] - np.eye(k), label, axis=0)


@settings(max_examples=100)
@given(ensembles(), st.booleans())
def test_bounds_contain_every_score(case: tuple[Trees, Rng], walks: bool) -> None:
    trees, rng = case
    lower, upper, rows = random_boxes(trees, rng, 12)
    functionals = functionals_of(trees, rng)
    with pytest.MonkeyPatch.context() as patch:
        if walks:
            patch.setattr("skipml.trees.LeafSets.of", lambda *given: None)
        verifier = TreeVerifier(trees, functionals)
        low, high = verifier.interval(lower, upper)
    outputs = trees.forward(rows.reshape(-1, trees.n_inputs)).astype(np.float64)
    values = (outputs @ functionals.T).reshape(12, 30, -1)
    assert (low[:, None] <= values).all()
    assert (values <= high[:, None]).all()


@settings(max_examples=40)
@given(ensembles(n_inputs=st.integers(1, 2), n_outputs=st.just(1)))
def test_bounds_of_one_tree_are_exact(case: tuple[Trees, Rng]) -> None:
    trees, rng = case
    for tree in trees.trees:
        one = Trees(trees.n_inputs, 1, trees.input_dtype, trees.dtype, (tree,), trees.base)
        lower, upper, _ = random_boxes(one, rng, 6)
        low, high = TreeVerifier(one).interval(lower, upper)
        for k in range(6):
            axes = []
            for i in range(one.n_inputs):
                with np.errstate(over="ignore"):
                    ends = [float(one.input_dtype.type(side[k, i])) for side in (lower, upper)]
                edges = one._cells.edges[i].astype(np.float64)
                inside = np.concatenate([edges, np.nextafter(edges.astype(one.input_dtype), np.inf).astype(np.float64)])
                numbers = np.array([*ends, *inside[(inside >= ends[0]) & (inside <= ends[1])]])
                missed, may_miss = lower[k, one.n_inputs + i] > 0, upper[k, one.n_inputs + i] > 0
                axes.append(np.array([np.nan]) if missed else np.append(numbers, [np.nan] * bool(may_miss)))
            grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, one.n_inputs)
            scores = one.forward(grid)[:, 0].astype(np.float64)
            assert low[k, 0] == scores.min()
            assert high[k, 0] == scores.max()


def leaves_of(verifier: TreeVerifier, lower: Floats, upper: Floats) -> Leaves:
    known = Known.nothing(lower, upper, len(verifier.functionals))
    return Leaves.of(known, np.arange(len(lower)), np.arange(len(lower)))


@settings(max_examples=40)
@given(ensembles(), st.integers(1, 4))
def test_parts_of_a_box_hold_all_its_rows_once(case: tuple[Trees, Rng], times: int) -> None:
    trees, rng = case
    lower, upper, rows = random_boxes(trees, rng, 8)
    verifier, d = TreeVerifier(trees), trees.n_inputs
    parts = verifier.halved(leaves_of(verifier, lower, upper), times)
    for k in range(8):
        with np.errstate(over="ignore"):
            cast = rows[k].astype(trees.input_dtype).astype(np.float64)
            mine = parts.root == k
            low, high = (s[mine].astype(trees.input_dtype).astype(np.float64) for s in (parts.lower, parts.upper))
        missing = np.isnan(cast)[:, None]
        inside = ((low[:, :d] <= cast[:, None]) & (cast[:, None] <= high[:, :d])) | missing
        inside &= (low[:, d:] <= missing) & (missing <= high[:, d:])
        assert (inside.all(axis=2).sum(axis=1) == 1).all()


@settings(max_examples=40)
@given(ensembles())
def test_what_cannot_be_divided_has_one_score(case: tuple[Trees, Rng]) -> None:
    trees, rng = case
    lower, upper, _ = random_boxes(trees, rng, 8)
    verifier = TreeVerifier(trees)
    parts = leaves_of(verifier, lower, upper)
    for _ in range(60):
        if verifier.indivisible(parts.lower, parts.upper).all():
            break
        parts = verifier.halved(parts.take(np.arange(min(len(parts), 64))), 1)
    single = verifier.indivisible(parts.lower, parts.upper)
    assert len(verifier.halved(parts.take(single), 3)) == single.sum()
    low, high = verifier.interval(parts.lower[single], parts.upper[single])
    exact = trees.link.kind == "identity"
    assert (low == high).all() if exact else np.allclose(low, high, rtol=1e-3, atol=1e-6)


@settings(max_examples=40)
@given(ensembles())
def test_rows_that_an_engine_may_round_stay_within_the_margin(case: tuple[Trees, Rng]) -> None:
    trees, rng = case
    rows = edge_rows(trees, rng, 20)
    rows = np.where(np.isfinite(rows) & (np.abs(rows) < 1e30), rows, np.nan if trees.takes_nan else 0.0)
    slack = np.where(rng.random(trees.n_inputs) < 0.5, 1e-6, 0.0)
    apart = TreeVerifier(trees).apart(rows, slack)
    moved = rows + slack * rng.uniform(-1, 1, rows.shape)
    off = np.abs(trees.forward(moved).astype(np.float64) - trees.forward(rows).astype(np.float64))
    assert (off.max(axis=0) <= apart).all()


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bounds_of_links_contain_what_links_compute(kind: Kind, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for size in (0.1, 3.0, 30.0, 200.0):
        sums = (rng.normal(size=(3, 400)) * size).astype(dtype)
        width = rng.random((3, 400)) * rng.choice([0, 1e-6, 1.0], 400) * size
        low, high = np.nextafter(sums - width.astype(dtype), -np.inf), sums + width.astype(dtype)
        for k in range(3):
            sums[k] = np.where(rng.random(400) < 0.3, rng.choice([low[k], high[k]], axis=0), sums[k])
        link = Link(kind, 0.7)
        lower, upper = link.bounds(low.astype(dtype), high)
        outputs = link.apply(sums.astype(dtype)).astype(np.float64)
        assert (lower <= outputs).all()
        assert (outputs <= upper).all()


def test_a_box_of_nan_is_a_box_of_everything() -> None:
    rng = np.random.default_rng(1)
    found = random_trees(rng, [np.array([0.0, 1.0])], 1, "identity", n_trees=4, depth=2)
    verifier = TreeVerifier(found)
    low, high = verifier.interval(np.array([[np.nan]]), np.array([[np.nan]]))
    every = verifier.interval(np.array([[-np.inf]]), np.array([[np.inf]]))
    assert (low, high) == every


def test_boxes_are_bounded_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_of_trees, "_SLAB_BYTES", 1)
    rng = np.random.default_rng(2)
    trees = random_trees(rng, [rng.normal(size=9)] * 2, 1, "identity", n_trees=9, depth=3)
    lower = rng.normal(size=(100, 2))
    parts, upper = TreeVerifier(trees), lower + rng.random((100, 2))
    found = parts.interval(lower, upper)
    singly = [parts.interval(lower[i : i + 1], upper[i : i + 1]) for i in range(100)]
    np.testing.assert_array_equal(found[0], np.concatenate([low for low, _ in singly]))
    np.testing.assert_array_equal(found[1], np.concatenate([high for _, high in singly]))


@pytest.mark.parametrize("seed", range(6))
def test_rows_together_are_as_far_apart_as_the_farthest_of_them(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_of_trees, "_ROWS_AT_A_TIME", 3)
    rng = np.random.default_rng(seed)
    trees = random_trees(rng, [np.arange(-2.0, 3.0)] * 2, 2, "identity", n_trees=4, depth=3)
    verifier, rows = TreeVerifier(trees), rng.uniform(-3, 3, (7, 2))
    for slack in (np.zeros(2), np.full(2, 0.4)):
        single = [verifier.apart(rows[i : i + 1], slack) for i in range(len(rows))]
        np.testing.assert_array_equal(verifier.apart(rows, slack), np.max(single, axis=0))


def test_a_point_is_indivisible_unless_it_may_be_missing() -> None:
    rng = np.random.default_rng(3)
    trees = random_trees(rng, [np.arange(-2.0, 3.0)] * 2, 1, "identity", n_trees=6, depth=3)
    trees = replace(trees, takes_nan=True)
    point, wide = np.full((1, 2), 0.3), np.full((1, 2), 9.0)
    no, one, both = np.zeros((1, 2)), np.array([[1.0, 0.0]]), np.ones((1, 2))
    verifier = TreeVerifier(trees)
    for lower, upper, expected in (
        (np.hstack([point, no]), np.hstack([point, no]), True),
        (np.hstack([point, no]), np.hstack([wide, no]), False),
        (np.hstack([point, no]), np.hstack([point, one]), False),
        (np.hstack([point, both]), np.hstack([wide, both]), True),
        (np.hstack([point, one]), np.hstack([point, one]), True),
    ):
        assert verifier.indivisible(lower, upper).tolist() == [expected]
