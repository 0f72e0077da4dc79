"""Linear bounds over polygons hold for every row in them, and are those of a linear program."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from skipml.bounds.branch import KEEP, SKIP, Budget, branch_and_bound
from skipml.bounds.budget import Meter
from skipml.bounds.crown import LinearBounds
from skipml.bounds.linear_over_polygons import _matched, at_centre, tighten
from skipml.bounds.polygons import Cuts, Polygons
from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network
from tests.bounds.test_branch import Above, AnyTest, Below, Inside, Parts
from tests.bounds.test_polygons import Cloud, cast, clouds, hull, leaves, ridge, within

Floats = NDArray[np.float64]
_DTYPES = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])


def linear_bounds(slope_lower: Floats, slope_upper: Floats, lower: Floats, upper: Floats) -> LinearBounds:
    """What a network would have whose linear bounds are `slope` [L, m, d] times x, rounded outward, with its margin for
    underflow.
    """
    with np.errstate(all="ignore"):
        least = np.minimum(slope_lower * lower[:, None], slope_lower * upper[:, None])
        most = np.maximum(slope_upper * lower[:, None], slope_upper * upper[:, None])
        low = least.sum(axis=2) - 1e-14 * np.abs(least).sum(axis=2) - 1e-150
        high = most.sum(axis=2) + 1e-14 * np.abs(most).sum(axis=2) + 1e-150
    low, high = np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)
    return LinearBounds(low, high, slope_lower, slope_upper, low, high)


def slopes(rng: np.random.Generator, cloud: Cloud, shape: tuple[int, int]) -> Floats:
    """Slopes [*shape, d] that weigh inputs by their width, or by anything, some of them 0."""
    width = (cloud.upper - cloud.lower).max(axis=0)
    with np.errstate(all="ignore"):
        even = np.where((width > 0) & (1 / width < np.inf), 1 / width, 1.0)
    d = len(width)
    chosen = rng.normal(size=(*shape, d)) * np.where(rng.random(shape)[..., None] < 0.7, even, 1.0)
    return np.asarray(chosen * rng.choice([0.0, 1.0, 1.0, 1e-3], chosen.shape) * rng.choice([1.0, 1e-200, 1e90]))


def exact(slope: Floats, row: Floats) -> Fraction:
    return sum((Fraction(w) * Fraction(x) for w, x in zip(slope, row, strict=True)), Fraction(0))


def assert_holds(bounds: LinearBounds, tight: tuple[Floats, Floats], rows: Floats) -> None:
    """Rows [L, R, d] that lie in the boxes and polygons; NaN are others."""
    low, high = tight
    assert (low >= bounds.lower).all()
    assert (high <= bounds.upper).all()
    for box, row in zip(*np.nonzero(np.isfinite(rows).all(axis=2)), strict=True):
        for m in range(low.shape[1]):
            if high[box, m] < np.inf:
                assert exact(bounds.slope_upper[box, m], rows[box, row]) <= Fraction(high[box, m])
            if low[box, m] > -np.inf:
                assert exact(bounds.slope_lower[box, m], rows[box, row]) >= Fraction(low[box, m])


def check(cloud: Cloud, dtype: np.dtype[np.floating], seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = Polygons.of(cloud.hulls, dtype)
    lower, upper, block = leaves(cloud, rng, dtype)
    if not polygons.pairs:
        return
    shape = (len(block), 2)
    bounds = linear_bounds(slopes(rng, cloud, shape), slopes(rng, cloud, shape), lower, upper)
    wanted = np.asarray(rng.random(shape) < 0.8, np.bool_)
    rows = cast(cloud.rows, dtype)[block]
    inside = within(rows, lower, upper)
    rows = np.where(inside[..., None], rows, np.nan)
    if rng.random() < 0.5:
        bounds = with_better_bounds(bounds, rows)
    assert_holds(bounds, tighten(bounds, lower, upper, Cuts(polygons, block), wanted), rows)


def with_better_bounds(bounds: LinearBounds, rows: Floats) -> LinearBounds:
    """As where interval bounds are tighter than linear ones: hardly wider than the values of the rows [L, R, d]."""
    with np.errstate(all="ignore"):
        low, high = (np.einsum("lmd,lrd->lmr", slope, rows) for slope in (bounds.slope_lower, bounds.slope_upper))
        room = 1e-12 * (np.abs(bounds.linear_upper) + np.abs(bounds.linear_lower)) + 1e-150
        least = np.fmax(bounds.lower, np.fmin.reduce(low, axis=2) - room)
        most = np.fmin(bounds.upper, np.fmax.reduce(high, axis=2) + room)
    return replace(bounds, lower=least, upper=most)


@given(clouds(), _DTYPES, st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_bounds_hold_for_every_row_of_the_polygons(cloud: Cloud, dtype: np.dtype[np.floating], seed: int) -> None:
    check(cloud, dtype, seed)


def adversarial() -> dict[str, Floats]:
    """Rows [N, R, 2] whose polygons are thin, degenerate, far from 0, or of extreme numbers."""
    rng = np.random.default_rng(5)
    x = np.sort(rng.random((2, 30)), axis=1)
    line = np.stack([x, x], axis=2)
    noise = rng.normal(size=line.shape)
    return {
        "line": line,
        "thin": line + 1e-9 * noise,
        "falling and steep": line * [1.0, -1e7] + 1e-4 * noise,
        "far from 0": 2.0**24 + line + 1e-3 * noise,
        "far and narrow": 2.0**24 + 1e-3 * line,
        "one side far": line * [1.0, 4.0] + [0.0, 2.0**26],
        "huge": 1e300 * (line + 1e-3 * noise),
        "overflows float32": 3.4e38 * (line + 1.0),
        "tiny": 1e-300 * (line + 1e-3 * noise),
        "denormal": 5e-324 * np.round(9 * line),
        "constant": line * [1.0, 0.0],
        "wide": (line - 0.5) * 3.5e308,
    }


@pytest.mark.parametrize("name", adversarial())
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)])
def test_bounds_hold_at_adversarial_polygons(name: str, dtype: np.dtype[np.floating]) -> None:
    rows = adversarial()[name]
    with np.errstate(all="ignore"):
        cloud = Cloud(rows, (hull(rows, (0, 1)),))
        for seed in range(4):
            check(cloud, dtype, seed)


def test_forms_that_are_not_finite_prove_nothing() -> None:
    rows = adversarial()["thin"]
    cuts = Cuts(Polygons.of([hull(rows, (0, 1))], np.dtype(np.float64)), np.zeros(1, np.int64))
    infinite, some = np.full((1, 1), np.inf), np.array([[True, True]])
    for weight in (np.inf, np.nan, 1e308):
        slope = np.array([[[weight, -weight]]])
        bounds = LinearBounds(-infinite, infinite, slope, slope, -infinite, infinite)
        low, high = tighten(bounds, rows.min(axis=1)[:1], rows.max(axis=1)[:1], cuts, some)
        assert low[0, 0] == -np.inf
        assert high[0, 0] == np.inf


@pytest.mark.parametrize("seed", range(6))
def test_a_pair_is_bounded_as_by_a_linear_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(8, 40, 1)) + rng.choice([0.05, 0.5, 2.0]) * rng.normal(size=(8, 40, 2))
    found = hull(rows, (0, 1), padding=2)
    lower, upper = rows.min(axis=1), rows.max(axis=1)
    slope = rng.normal(size=(8, 2, 2))
    bounds = linear_bounds(slope, slope, lower, upper)
    cuts = Cuts(Polygons.of([found], np.dtype(np.float64)), np.arange(8))
    low, high = tighten(bounds, lower, upper, cuts, np.ones((8, 2), np.bool_))
    for box in range(8):
        real = np.isfinite(found.offset[box])
        normal = found.normal[box][real] / (upper - lower)[box]
        offset = found.offset[box][real] + normal @ lower[box]
        limits = list(zip(lower[box], upper[box], strict=True))
        for m in range(2):
            for sign, bound in ((1, low), (-1, high)):
                best = sign * linprog(sign * slope[box, m], A_ub=normal, b_ub=offset, bounds=limits).fun
                assert abs(best - bound[box, m]) < 1e-7


@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_the_best_matching_is_taken(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [pair for pair in combinations(range(d), 2) if rng.random() < 0.6] or [(1, 0)]
    gain = rng.random((2, 3, len(pairs))) * (rng.random((2, 3, len(pairs))) < 0.8)
    found = _matched(gain, pairs)

    def best(left: list[int], of: Floats) -> float:
        if not left:
            return 0.0
        free = [p for p in left[1:] if not {*pairs[p]} & {*pairs[left[0]]}]
        return max(best(left[1:], of), float(of[left[0]]) + best(free, of))

    for i, j in np.ndindex(2, 3):
        most = best(list(range(len(pairs))), gain[i, j])
        assert found[i, j] <= most + 1e-12
        assert found[i, j] >= (most if len({i for pair in pairs for i in pair}) <= 6 else most / 2) - 1e-12


def test_nothing_gets_below_the_centre() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(5, 40, 1)) + 0.1 * rng.normal(size=(5, 40, 2))
    lower, upper = rows.min(axis=1), rows.max(axis=1)
    bounds = linear_bounds(rng.normal(size=(5, 1, 2)), rng.normal(size=(5, 1, 2)), lower, upper)
    cuts = Cuts(Polygons.of([hull(rows, (0, 1))], np.dtype(np.float64)), np.arange(5))
    low, high = tighten(bounds, lower, upper, cuts, np.ones((5, 2), np.bool_))
    best = at_centre(bounds, lower, upper)
    assert (low <= best[0] + 1e-9).all()
    assert (high >= best[1] - 1e-9).all()


def difference(weight: list[list[float]]) -> Verifier:
    f32 = np.dtype(np.float32)
    return Verifier(
        Network(len(weight[0]), len(weight), f32, (Affine(np.array(weight, f32), np.zeros(len(weight), f32)),))
    )


def following(n: int = 8) -> Parts:
    """Four inputs, the second follows the first and the fourth the third."""
    x, z = np.random.default_rng(2).random((2, n, 60))
    rows = np.stack([x, x + 0.02 * np.sin(40 * z), z, z + 0.02 * np.sin(40 * x)], axis=2)
    hulls = tuple(hull(rows, pair) for pair in ((0, 1), (2, 3), (1, 2)))
    return Parts(rows.min(axis=1), rows.max(axis=1), np.arange(n), np.full(n, 60), hulls)


@pytest.mark.parametrize(
    ("weight", "test", "decision"),
    [
        ([[1, -1, 0, 0]], Above(0.05), SKIP),
        ([[1, -1, 0, 0]], Below(0.05), KEEP),
        ([[-1, 1, 1, -1]], Above(0.1), SKIP),
        ([[-1, 1, 1, -1]], Below(-0.1), SKIP),
        ([[-1, 1, 1, -1]], Inside(0.2, 0.3), SKIP),
    ],
)
def test_linear_models_of_correlated_columns_need_no_split(
    weight: list[list[float]], test: AnyTest, decision: int
) -> None:
    blocks = following()
    outcome = branch_and_bound(difference(weight), blocks, test, Budget.unlimited(1, prove_keep=True))
    assert (outcome.decision == decision).all()
    whole = Parts(blocks.lower, blocks.upper, blocks.block, blocks.n_rows)
    assert not (
        branch_and_bound(difference(weight), whole, test, Budget.unlimited(1, prove_keep=True)).decision == decision
    ).any()


def test_relu_networks_are_bounded_too() -> None:
    f32 = np.dtype(np.float32)
    first = Affine(np.array([[1, -1, 0, 0], [0, 0, -1, 1]], f32), np.ones(2, f32))
    network = Network(4, 1, f32, (first, LeakyRelu(0.0), Affine(np.ones((1, 2), f32), np.zeros(1, f32))))
    blocks = following()
    outcome = branch_and_bound(Verifier(network), blocks, Above(2.6), Budget.unlimited(1))
    assert (outcome.decision == SKIP).all()
    assert (outcome.upper >= 2.0).all()


class LooseVerifier(Verifier):
    """Its slopes bound nothing, as those of auto_LiRPA."""

    def crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        bounds = super().crown(lower, upper)
        infinite = np.full_like(bounds.lower, np.inf)
        return LinearBounds(bounds.lower, bounds.upper, bounds.slope_lower, bounds.slope_upper, -infinite, infinite)


def test_slopes_that_bound_nothing_prove_nothing() -> None:
    network = difference([[1, -1, 0, 0]]).network
    outcome = branch_and_bound(LooseVerifier(network), following(), Above(0.05), Budget.unlimited(1))
    assert not (outcome.decision == SKIP).any()


def test_the_guard_counts_what_was_spent_beside_boxes() -> None:
    meter = Meter(Budget(cost_per_row=0.0, free_boxes=100), np.array([1]), seconds_per_box=2e-6)
    meter.spent(60e-6)
    # of 100 free boxes 30 are spent; of two free waves, worth 500 boxes each, one begins now; a wave takes half
    assert meter.next_wave(deep=False) == (70 + 500) // 2
    assert meter.next_wave(deep=True) == 69  # an account of 70, less a rounding
    assert meter.next_wave(deep=True) == 0
    meter.spent(1.0)
    assert meter.next_wave(deep=False) == 0


@pytest.mark.parametrize("size", [1e-30, 1e-5, 1.0, 1e5, 1e30])
def test_forms_of_every_size_gain_alike(size: float) -> None:
    """x - y on rows with x = y: the polygon leaves next to nothing of what the box allows."""
    _, cloud = ridge(1)
    network = Network(2, 1, np.dtype(np.float64), (Affine(size * np.array([[1.0, -1.0]]), np.zeros(1)),))
    box = cloud.lower, cloud.upper
    cuts = Cuts(Polygons.of(cloud.hulls, np.dtype(np.float64)), np.zeros(1, np.int64))
    bounds = Verifier(network).crown(*box)
    low, high = tighten(bounds, *box, cuts, np.ones((1, 2), np.bool_))
    assert bounds.upper[0, 0] >= 0.9 * size
    assert 0.009 * size <= high[0, 0] <= 0.03 * size
    assert -0.03 * size <= low[0, 0] <= -0.009 * size
