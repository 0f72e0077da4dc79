"""What one run finds out saves the next one work, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml.bounds.branch import EVALUATE, SKIP, Budget, Method, Reason, branch_and_bound, resume
from skipml.bounds.falsify import reaches
from skipml.bounds.memory import Known, Memory, key_of
from skipml.bounds.polygons import Polygons
from skipml.bounds.verifier import Verifier
from tests.bounds.test_branch import Above, AllPositive, Inside, Parts, one_box_each
from tests.bounds.test_polygons import hull
from tests.test_network import mlp

Floats = NDArray[np.float64]


def some_blocks(n: int = 40, seed: int = 0) -> Parts:
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(n, 2))
    return one_box_each(centre - 0.8, centre + 0.8)


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(mlp((2, 12, 12, 12, 1)))


def nothing(parts: Parts) -> Known:
    return Known.nothing(parts.lower, parts.upper, 1)


def test_the_same_filter_again_costs_nothing(verifier: Verifier) -> None:
    parts = some_blocks()
    _, high = verifier.crown(parts.lower, parts.upper).lower, verifier.crown(parts.lower, parts.upper).upper
    test = Above(float(np.quantile(high, 0.6)))
    first, known = resume(verifier, parts, test, Budget.unlimited(), nothing(parts))
    again, _ = resume(verifier, parts, test, Budget.unlimited(), known)
    assert first.boxes.sum() >= len(parts.lower)
    assert again.boxes.sum() == 0
    assert again.decision.tolist() == first.decision.tolist()


def test_a_later_filter_begins_where_an_earlier_one_stopped(verifier: Verifier) -> None:
    parts = some_blocks()
    high = verifier.crown(parts.lower, parts.upper).upper
    limits = np.quantile(high, [0.3, 0.5, 0.7]).tolist()
    known, with_memory, without = nothing(parts), 0, 0
    for limit in limits:
        outcome, known = resume(verifier, parts, Above(limit), Budget.unlimited(), known)
        alone = branch_and_bound(verifier, parts, Above(limit), Budget.unlimited())
        assert outcome.decision.tolist() == alone.decision.tolist()
        with_memory, without = with_memory + int(outcome.boxes.sum()), without + int(alone.boxes.sum())
    assert with_memory < 0.8 * without


def test_a_budget_that_is_too_small_for_one_filter_is_enough_after_some(verifier: Verifier) -> None:
    parts = some_blocks()
    share = np.random.default_rng(1).random((300, *parts.lower.shape))
    points = (parts.lower + share * (parts.upper - parts.lower)).reshape(-1, 2)
    test = Above(float(np.median(verifier.values(points).reshape(300, -1).max(axis=0))))
    stingy, known, skipped = Budget.unlimited(boxes_per_block=16), nothing(parts), []
    for _ in range(6):
        outcome, known = resume(verifier, parts, test, stingy, known)
        skipped.append(int((outcome.decision == SKIP).sum()))
    assert skipped == sorted(skipped)
    whole = branch_and_bound(verifier, parts, test, Budget.unlimited())
    assert skipped[0] < skipped[-1] == (whole.decision == SKIP).sum()


def test_points_on_both_sides_of_a_narrow_range_end_the_work(verifier: Verifier) -> None:
    parts = some_blocks()
    middle = float(verifier.values((parts.lower + parts.upper)[:1] / 2)[0, 0])
    outcome = branch_and_bound(verifier, parts, Inside(middle + 1e-9, middle + 2e-9), Budget.unlimited())
    assert outcome.decision[0] == EVALUATE
    assert outcome.reason[0] == Reason.FALSIFIED
    assert outcome.boxes[0] <= 16


def test_two_values_do_not_have_all_values_between() -> None:
    low, high = np.array([[-1.0, -1.0]]), np.array([[1.0, 1.0]])
    assert not reaches(AllPositive(), low, high).any()
    assert reaches(Inside(0.0, 0.0), low[:, :1], high[:, :1]).all()
    assert not reaches(Inside(2.0, 3.0), low[:, :1], high[:, :1]).any()
    assert not reaches(Inside(0.0, 0.0), np.array([[np.inf]]), np.array([[-np.inf]])).any()


def per_box(known: Known) -> tuple[Floats, Floats]:
    n = len(known.lowest)
    return known.bounds(np.arange(n), n)


def test_blocks_that_are_not_chosen_stay_as_they_are(verifier: Verifier) -> None:
    parts = some_blocks(6)
    _, known = resume(verifier, parts, Above(0.1), Budget.unlimited(32), nothing(parts))
    chosen = np.array([False, True, False, True, True, False])
    outcome, after = resume(verifier, parts, Above(0.2), Budget.unlimited(64), known, chosen=chosen)
    whole, _ = resume(verifier, parts, Above(0.2), Budget.unlimited(64), known)
    assert outcome.decision.tolist() == np.where(chosen, whole.decision, EVALUATE).tolist()
    assert (outcome.reason[~chosen] == Reason.NOT_TRIED).all()
    assert (outcome.method[~chosen] == Method.NONE).all()
    for root in np.flatnonzero(~chosen):
        mine, theirs = np.flatnonzero(known.root == root), np.flatnonzero(after.root == root)
        assert np.array_equal(np.sort(known.lower[mine], axis=0), np.sort(after.lower[theirs], axis=0))


def test_nothing_is_copied_where_nothing_was_found_out(verifier: Verifier) -> None:
    parts = some_blocks()
    _, known = resume(verifier, parts, Above(0.1), Budget.unlimited(), nothing(parts))
    _, again = resume(verifier, parts, Above(0.1), Budget.unlimited(), known)
    assert again is known


def test_what_is_remembered_counts_as_the_method_that_found_it_out() -> None:
    verifier, parts = Verifier(mlp((2, 12, 12, 12, 1))), some_blocks()
    _, high = verifier.interval(parts.lower, parts.upper)
    easy = Above(float(high.max()) + 1.0)
    first, known = resume(verifier, parts, easy, Budget.unlimited(), nothing(parts))
    again, _ = resume(verifier, parts, easy, Budget.unlimited(), known)
    assert (first.decision == SKIP).all()
    assert (again.decision == SKIP).all()
    assert first.method.tolist() == again.method.tolist() == [Method.INTERVAL] * len(parts.lower)
    hard, known = resume(verifier, parts, Above(0.1), Budget.unlimited(), known)
    assert (hard.method != Method.NONE).all()
    assert (resume(verifier, parts, Above(0.1), Budget.unlimited(), known)[0].method != Method.NONE).all()


def test_blocks_that_polygons_leave_nothing_of_are_proved_by_intervals() -> None:
    """Also the second time: a report must not say that every row is NULL."""
    rows = np.random.default_rng(0).random((5, 9, 2))
    around = hull(rows, (0, 1))
    impossible = replace(around, offset=np.full(around.offset.shape, -1.0))
    parts = replace(one_box_each(np.zeros((5, 2)), np.ones((5, 2))), hulls=(impossible,))
    verifier = Verifier(mlp((2, 12, 12, 12, 1)))
    known = nothing(parts)
    for _ in range(2):
        outcome, known = resume(verifier, parts, Above(0.1), Budget.unlimited(), known)
        assert (outcome.decision == SKIP).all()
        assert (outcome.method == Method.INTERVAL).all()


def test_many_leaves_become_one(verifier: Verifier) -> None:
    parts = some_blocks(6)
    _, known = resume(verifier, parts, Above(0.1), Budget.unlimited(32), nothing(parts))
    (low, high), one = per_box(known), known.compacted(1)
    assert np.bincount(one.root).tolist() == [1] * 6
    assert np.array_equal(per_box(one)[0], low)
    assert np.array_equal(per_box(one)[1], high)
    assert known.compacted(10_000) is known


def test_only_boxes_of_many_leaves_are_put_together() -> None:
    """Box 1 has three leaves, out of order among those of others."""
    root = np.array([1, 0, 1, 2, 1, 0])
    ends = np.arange(6.0)[:, None]
    start = Known.nothing(np.zeros((3, 1)), np.ones((3, 1)), 1)
    known = replace(
        start,
        lower=ends,
        upper=ends + 1,
        root=root,
        low=-ends,
        high=10 * ends,
        bounded=np.array([True, True, False, True, True, False]),
        slope=ends.copy(),
    )
    one = known.compacted(2)
    assert one.root.tolist() == [0, 2, 0, 1]
    assert one.lower[:, 0].tolist() == [1, 3, 5, 0]
    assert one.upper[:, 0].tolist() == [2, 4, 6, 5]
    assert one.low[:, 0].tolist() == [-1, -3, -5, -4]
    assert one.high[:, 0].tolist() == [10, 30, 50, 40]
    assert one.bounded.tolist() == [True, True, False, False]
    assert one.slope[:, 0].tolist() == [1, 3, 5, 4]


def test_the_memory_is_bounded_and_forgets_the_longest_unused() -> None:
    entries = [Known.nothing(np.zeros((10, 2)), np.ones((10, 2)), 1) for _ in range(3)]
    memory = Memory(capacity=int(2.5 * entries[0].nbytes))
    memory.learn(b"a", entries[0])
    memory.learn(b"b", entries[1])
    assert memory.recall(b"a") is not None
    memory.learn(b"c", entries[2])
    assert memory.recall(b"b") is None
    assert memory.recall(b"a") is not None
    memory.forget()
    assert memory.recall(b"a") is None


def test_keys_differ_where_bounds_may(verifier: Verifier) -> None:
    parts = some_blocks()
    rows = np.random.default_rng(0).random((40, 9, 2))
    variants = [
        parts,
        replace(parts, lower=parts.lower - 1),
        replace(parts, upper=np.nextafter(parts.upper, np.inf)),
        replace(parts, block=parts.block[::-1].copy()),
        replace(parts, hulls=(hull(rows, (0, 1)),)),
        replace(parts, hulls=(hull(rows, (1, 0)),)),
    ]
    keys = [key_of(verifier, variant) for variant in variants]
    keys += [
        key_of(Verifier(mlp((2, 12, 12, 12, 1), seed=7)), parts),
        key_of(Verifier(verifier.network, [[-1.0]]), parts),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(verifier, some_blocks()) == keys[0]


def test_threads_share_a_memory(verifier: Verifier) -> None:
    parts, memory = some_blocks(), Memory()

    def ask(limit: float) -> None:
        for _ in range(5):
            _, known = resume(
                verifier, parts, Above(limit), Budget.unlimited(16), memory.recall(b"x") or nothing(parts)
            )
            memory.learn(b"x", known)

    threads = [Thread(target=ask, args=(limit,)) for limit in (0.0, 0.1, 0.2, 0.3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = memory.recall(b"x")
    assert known is not None
    rows = parts.lower + np.random.default_rng(0).random((50, *parts.lower.shape)) * (parts.upper - parts.lower)
    low, high = per_box(known)
    for points in rows:
        values = verifier.values(points)
        assert ((low <= values) & (values <= high)).all()


def test_points_are_pulled_into_polygons_and_stop_at_them() -> None:
    rng = np.random.default_rng(0)
    along = rng.random((30, 40, 1))
    rows = np.concatenate([along, 1 - along + 0.05 * rng.random((30, 40, 1))], axis=2)
    polygons, block = Polygons.of((hull(rows, (0, 1)),), np.dtype(np.float64)), np.arange(30)
    lower, upper = rows.min(axis=1), rows.max(axis=1)
    x = polygons.pull(lower + 0.1 * (upper - lower), block, (lower, upper))
    assert polygons.contains(x, block).mean() > 0.9
    inside = polygons.contains(x, block)
    share = polygons.reach(x, upper - x, block)
    assert (share < 1).all()
    assert polygons.contains(x + share[:, None] * (upper - x), block)[inside].all()
    further = x + np.minimum(1.0, share + 0.02)[:, None] * (upper - x)
    assert not polygons.contains(further, block)[inside & (share < 0.9)].any()
