"""Polygons never cut off a row, and cut about as much as a linear program would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from skipml.bounds.branch import KEEP, SKIP, Budget, branch_and_bound
from skipml.bounds.falsify import try_points
from skipml.bounds.polygons import Cuts, Polygons
from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network
from skipml.regions import PairHull
from tests.bounds.test_branch import Above, AnyTest, Below, Inside, Parts
from tests.strategies import networks

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
_DTYPES = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])


@dataclass(frozen=True)
class Cloud:
    """Blocks of rows [N, R, d] with the polygons around some pairs of inputs."""

    rows: Floats
    hulls: tuple[PairHull, ...]

    @property
    def lower(self) -> Floats:
        return np.asarray(self.rows.min(axis=1))

    @property
    def upper(self) -> Floats:
        return np.asarray(self.rows.max(axis=1))


def polygon(points: Floats) -> tuple[Floats, Floats]:
    """Half-planes around points [R, 2] of the unit square."""
    try:
        found = ConvexHull(points).equations
    except Exception:  # a line or a point: the square itself
        found = np.zeros((0, 3))
    normal, offset = found[:, :2], -found[:, 2]
    return normal, np.maximum(offset, (points @ normal.T).max(axis=0, initial=-np.inf)) + 1e-12


def hull(rows: Floats, inputs: tuple[int, int], padding: int = 3) -> PairHull:
    """The exact hulls of rows [N, R, d] in the coordinates of two inputs."""
    pair = rows[:, :, inputs]
    lower, upper = pair.min(axis=1), pair.max(axis=1)
    with np.errstate(all="ignore"):
        unit = (pair * 0.5 - lower[:, None] * 0.5) / (upper * 0.5 - lower * 0.5)[:, None]
    found = [polygon(points) for points in np.nan_to_num(unit)]
    k = max(len(offset) for _, offset in found) + padding
    normal, offset = np.zeros((len(rows), k, 2)), np.full((len(rows), k), np.inf)
    for i, (n, o) in enumerate(found):
        normal[i, : len(o)], offset[i, : len(o)] = n, o
    return PairHull(inputs, lower, upper, normal, offset)


@st.composite
def clouds(draw: st.DrawFn, d: int | None = None) -> Cloud:
    """Correlated inputs of all sizes: narrow far from 0, wide, constant, on a line."""
    d = draw(st.integers(2, 4)) if d is None else d
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, r = draw(st.integers(1, 4)), 30
    base = rng.normal(size=(n, r, 1))
    rows = base + draw(st.sampled_from([0.0, 0.01, 0.3, 3.0])) * rng.normal(size=(n, r, d))
    rows *= rng.choice([-1.0, 1.0], d)
    for i in range(d):
        scale, shift = draw(
            st.sampled_from([(1, 0), (1, 0), (1e-3, 5), (1, 1e7), (1e6, 0), (1e-30, 0), (0, 3), (1, 2.0**53)])
        )
        rows[:, :, i] = rows[:, :, i] * scale + shift * draw(st.sampled_from([1, -1]))
    pairs = [(i, j) for i in range(d) for j in range(d) if i < j and draw(st.booleans())] or [(1, 0)]
    return Cloud(rows, tuple(hull(rows, pair) for pair in pairs))


def leaves(
    cloud: Cloud, rng: np.random.Generator, dtype: np.dtype[np.floating]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes within the blocks, each around one row, with sides of all sizes."""
    block = rng.integers(0, len(cloud.rows), 20)
    centre = cloud.rows[block, rng.integers(0, cloud.rows.shape[1], len(block))]
    half = (cloud.upper - cloud.lower)[block] * rng.choice([0.0, 0.01, 0.2, 1.0], (len(block), cloud.rows.shape[2]))
    low, high = np.maximum(centre - half, cloud.lower[block]), np.minimum(centre + half, cloud.upper[block])
    return cast(low, dtype), cast(high, dtype), block


def within(rows: Floats, lower: Floats, upper: Floats) -> Bools:
    """Which rows [L, R, d] lie in the boxes [L, d]."""
    return np.asarray(((rows >= lower[:, None]) & (rows <= upper[:, None])).all(axis=2), np.bool_)


def cast(x: Floats, dtype: np.dtype[np.floating]) -> Floats:
    return x.astype(dtype).astype(np.float64)


@given(clouds(), _DTYPES, st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_what_is_left_of_a_box_holds_its_rows(cloud: Cloud, dtype: np.dtype[np.floating], seed: int) -> None:
    polygons = Polygons.of(cloud.hulls, dtype)
    lower, upper, block = leaves(cloud, np.random.default_rng(seed), dtype)
    low, high, empty = polygons.shrink(lower, upper, block)
    assert (low >= lower).all()
    assert (high <= upper).all()
    rows = cast(cloud.rows, dtype)[block]
    inside = within(rows, lower, upper)
    assert not (inside.any(axis=1) & empty).any()
    kept = within(rows, cast(low, dtype), cast(high, dtype))
    assert not (inside & ~kept).any()
    for i in range(rows.shape[1]):
        assert polygons.contains(cloud.rows[block, i], block).all()


@pytest.mark.parametrize("seed", range(8))
def test_boxes_shrink_to_the_limits_of_what_is_left(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(1, 200, 2)) @ np.array([[1.0, 0.9], [0.0, 0.2]])
    found = hull(rows, (0, 1), padding=0)
    polygons, block = Polygons.of([found], np.dtype(np.float64)), np.zeros(1, np.int64)
    lower, upper = rows.min(axis=1), rows.max(axis=1)
    for i in range(10):
        cut = np.sort(rng.random(2))
        low, high = lower.copy(), upper.copy()
        low[0, i % 2], high[0, i % 2] = lower[0, i % 2] + cut * (upper - lower)[0, i % 2]
        shrunk = polygons.shrink(low, high, block)
        place = [(side[0] - lower[0]) / (upper - lower)[0] for side in (low, high, *shrunk[:2])]
        for axis in (0, 1):
            for sign, side in ((1, place[2]), (-1, place[3])):
                c = np.zeros(2)
                c[axis] = sign
                limits = list(zip(place[0], place[1], strict=True))
                solved = linprog(c, A_ub=found.normal[0], b_ub=found.offset[0], bounds=limits)
                assert sign * side[axis] <= solved.fun + 1e-7
                assert sign * side[axis] >= solved.fun - 0.05


def test_a_box_outside_the_polygon_is_empty_and_one_inside_is_left_alone() -> None:
    triangle = PairHull((0, 1), np.zeros((1, 2)), np.full((1, 2), 10.0), np.array([[[1.0, 1.0]]]), np.array([[1.0]]))
    polygons = Polygons.of([triangle], np.dtype(np.float32))
    lower, upper = np.array([[6.0, 6.0], [1.0, 1.0], [0.0, 8.0]]), np.array([[9.0, 9.0], [2.0, 2.0], [9.0, 9.0]])
    low, high, empty = polygons.shrink(lower, upper, np.zeros(3, np.int64))
    assert empty.tolist() == [True, False, False]
    np.testing.assert_allclose(low[1:], lower[1:])
    np.testing.assert_allclose(high[1:], [[2, 2], [2, 9]], atol=1e-5)
    assert not polygons.contains(np.array([[6.0, 6.0]]), np.zeros(1, np.int64)).any()


def test_a_degenerate_or_unbounded_square_cuts_nothing() -> None:
    for lower, upper in ((3.0, 3.0), (-np.inf, 1.0), (np.nan, np.nan), (1e300, 1e300 * (1 + 2**-52))):
        found = PairHull(
            (0, 1), np.full((1, 2), lower), np.full((1, 2), upper), np.array([[[1.0, 0.5]]]), np.array([[0.1]])
        )
        polygons = Polygons.of([found], np.dtype(np.float32))
        box = np.array([[-5.0, -5.0]]), np.array([[5.0, 5.0]])
        low, high, empty = polygons.shrink(*box, np.zeros(1, np.int64))
        assert not empty.any()
        assert (low == box[0]).all()
        assert (high == box[1]).all()


@pytest.mark.parametrize("start", [-(2.0**53), 2.0**53])
def test_places_far_from_0_come_back_outward(start: float) -> None:
    """Half of a triangle is left, and its end is a row."""
    low, high = np.array([[start, 0.0]]), np.array([[start + 1024, 1.0]])
    triangle = PairHull((0, 1), low, high, np.array([[[1.0, 1.0]]]), np.array([[1.0]]))
    polygons = Polygons.of([triangle], np.dtype(np.float64))
    lower, upper, empty = polygons.shrink(np.array([[start, 0.5]]), high, np.zeros(1, np.int64))
    assert not empty.any()
    assert lower.tolist() == [[start, 0.5]]
    assert start + 512 <= upper[0, 0] <= start + 600


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("lower", "upper"), [(-np.inf, 1.0), (0.0, np.inf), (np.nan, 1.0), (-1e39, 1.0), (0.0, 1e39), (0.0, 1e-310)]
)
def test_one_side_that_is_no_number_when_cast_is_enough(side: int, lower: float, upper: float) -> None:
    low, high = np.zeros((1, 2)), np.ones((1, 2))
    low[0, side], high[0, side] = lower, upper
    found = PairHull((0, 1), low, high, np.array([[[1.0, 0.5]]]), np.array([[0.1]]))
    polygons = Polygons.of([found], np.dtype(np.float32))
    box = np.array([[-5.0, -5.0]]), np.array([[5.0, 5.0]])
    if upper == 1e-310:  # which float32 does not know from 0
        polygons = Polygons.of([found], np.dtype(np.float64))
    left = polygons.shrink(*box, np.zeros(1, np.int64))
    assert [array.tolist() for array in left] == [[[-5, -5]], [[5, 5]], [False]]


@given(
    networks(n_inputs=st.just(3), hidden=st.just([6, 6]), n_outputs=st.just(1)), clouds(d=3), st.integers(0, 2**32 - 1)
)
@settings(max_examples=120, deadline=None)
def test_branch_and_bound_with_polygons_is_right_about_every_row(network: Network, cloud: Cloud, seed: int) -> None:
    rows = cloud.rows.reshape(-1, 3)
    verifier = Verifier(network)
    scores = network.forward(rows).astype(np.float64).reshape(cloud.rows.shape[:2])
    if not np.isfinite(scores).all():
        return
    limit = float(np.quantile(scores, np.random.default_rng(seed).choice([0.0, 0.5, 0.9, 1.0])))
    blocks = Parts(cloud.lower, cloud.upper, np.arange(len(scores)), np.full(len(scores), 30), cloud.hulls)
    tests: list[AnyTest] = [Above(limit), Below(limit), Inside(limit, limit)]
    for test in tests:
        outcome = branch_and_bound(verifier, blocks, test, Budget.unlimited(200, prove_keep=True))
        passed = np.stack([test.holds(s[:, None]) for s in scores])
        assert not passed[outcome.decision == SKIP].any()
        assert passed[outcome.decision == KEEP].all()
        known = np.isfinite(outcome.lower[:, 0])
        assert (outcome.lower[known, 0] <= scores[known].min(axis=1)).all()
        assert (outcome.upper[known, 0] >= scores[known].max(axis=1)).all()


def ridge(n: int = 12) -> tuple[Verifier, Cloud]:
    """|x - y| on rows with x = y: the box says anything, the polygon says 0."""
    f32 = np.dtype(np.float32)
    first = Affine(np.array([[1, -1], [-1, 1]], f32), np.zeros(2, f32))
    network = Network(2, 1, f32, (first, LeakyRelu(0.0), Affine(np.ones((1, 2), f32), np.zeros(1, f32))))
    x = np.linspace(0, 1, 30)[None, :] + np.arange(n)[:, None]
    rows = np.stack([x, x + 0.01 * np.sin(20 * x)], axis=2)
    return Verifier(network), Cloud(rows, (hull(rows, (0, 1)),))


def test_polygons_prove_what_boxes_cannot() -> None:
    verifier, cloud = ridge()
    whole = Parts(cloud.lower, cloud.upper, np.arange(12), np.full(12, 30))
    cut = Parts(cloud.lower, cloud.upper, np.arange(12), np.full(12, 30), cloud.hulls)
    budget = Budget.unlimited(256)
    assert not (branch_and_bound(verifier, whole, Above(0.1), budget).decision == SKIP).any()
    assert (branch_and_bound(verifier, cut, Above(0.1), budget).decision == SKIP).all()
    assert not (branch_and_bound(verifier, cut, Above(0.005), budget).decision == SKIP).any()


def test_a_point_outside_the_polygon_shows_nothing() -> None:
    verifier, cloud = ridge(1)
    bounds = verifier.crown(cloud.lower, cloud.upper)
    cuts = Cuts(Polygons.of(cloud.hulls, np.dtype(np.float32)), np.zeros(1, np.int64))
    box = cloud.lower, cloud.upper
    assert try_points(verifier, Above(0.5), box, bounds, climb=True).passed.all()
    assert not try_points(verifier, Above(0.5), box, bounds, climb=True, cuts=cuts).passed.any()


def test_a_block_whose_boxes_are_all_empty_has_no_row() -> None:
    verifier, cloud = ridge(1)
    corner = np.array([[0.0, 0.9]]), np.array([[0.1, 1.0]])
    blocks = Parts(*corner, np.zeros(1, np.int64), np.full(1, 30), cloud.hulls)
    for test in (Above(-1.0), Below(1e9)):
        assert branch_and_bound(verifier, blocks, test, Budget.unlimited(8, prove_keep=True)).decision.tolist() == [
            SKIP
        ]


def test_hulls_without_a_half_plane_cut_nothing() -> None:
    none = PairHull((0, 1), np.zeros((1, 2)), np.ones((1, 2)), np.zeros((1, 0, 2)), np.zeros((1, 0)))
    assert Polygons.of([none], np.dtype(np.float32)).pairs == ()
    verifier, cloud = ridge(1)
    blocks = Parts(cloud.lower, cloud.upper, np.zeros(1, np.int64), np.full(1, 30), (none,))
    assert branch_and_bound(verifier, blocks, Above(9.0), Budget.unlimited(8)).decision.tolist() == [SKIP]
