from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.bounds.verifier import Verifier
from skipml.errors import ModelError
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from tests.bounds.executions import ORDERS, execute, f32
from tests.strategies import Boxes, boxes, networks

F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)


def scores(network: Network, functionals: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The functionals [executions * per_box, M, m] at points [per_box, M, d], by every execution."""
    flat = points.reshape(-1, points.shape[2])
    outputs = [network.forward(flat)] + [execute(network, flat, order) for order in ORDERS]
    return np.concatenate([(o.astype(np.float64) @ functionals.T).reshape(*points.shape[:2], -1) for o in outputs])


@settings(deadline=None)
@given(networks(), st.data())
def test_bounds_hold_for_every_execution(network: Network, data: st.DataObject) -> None:
    box: Boxes = data.draw(boxes(network.n_inputs))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    functionals = np.eye(network.n_outputs)
    if network.n_outputs > 1 and data.draw(st.booleans()):
        functionals = functionals[:1] - functionals[1:]
    verifier = Verifier(network, functionals)
    found = scores(network, functionals, box.points(rng))
    low, high = verifier.interval(box.lower, box.upper)
    bounds = verifier.crown(box.lower, box.upper)
    assert (low <= found).all()
    assert (found <= high).all()
    assert (bounds.lower <= found).all()
    assert (found <= bounds.upper).all()
    assert (low <= bounds.lower).all()
    assert (bounds.upper <= high).all()


@settings(deadline=None)
@given(networks(), st.data())
def test_a_part_of_a_box_has_no_looser_interval(network: Network, data: st.DataObject) -> None:
    box: Boxes = data.draw(boxes(network.n_inputs))
    share = np.sort(np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).random((2, *box.lower.shape)), axis=0)
    side = box.upper - box.lower
    inner = np.clip(box.lower + share * side, box.lower, box.upper)
    verifier = Verifier(network)
    low, high = verifier.interval(box.lower, box.upper)
    inner_low, inner_high = verifier.interval(inner[0], inner[1])
    slack = 1e-12 * np.maximum(np.abs(low), np.abs(high))  # centre and radius round
    assert (inner_low >= low - slack).all()
    assert (inner_high <= high + slack).all()


@settings(deadline=None)
@given(networks(), st.data())
def test_a_point_is_known_up_to_the_margin(network: Network, data: st.DataObject) -> None:
    box: Boxes = data.draw(boxes(network.n_inputs))
    x = box.lower.astype(network.dtype).astype(np.float64)
    verifier = Verifier(network)
    exact = verifier.values(x)
    margin = verifier._intervals.trace(x, x).outputs.error
    low, high = verifier.interval(x, x)
    bounds = verifier.crown(x, x)
    for lower, upper in ((low, high), (bounds.lower, bounds.upper)):
        assert (np.abs(lower - exact) <= 2 * margin).all()
        assert (np.abs(upper - exact) <= 2 * margin).all()


@settings(deadline=None)
@given(networks(hidden=st.just([]), n_outputs=st.integers(1, 3)), st.data())
def test_linear_networks_are_bounded_exactly(network: Network, data: st.DataObject) -> None:
    if any(isinstance(op, LeakyRelu) for op in network.ops):
        return
    box: Boxes = data.draw(boxes(network.n_inputs))
    verifier = Verifier(network)
    bounds = verifier.crown(box.lower, box.upper)
    for slope, bound, sign in ((bounds.slope_upper, bounds.upper, 1), (bounds.slope_lower, bounds.lower, -1)):
        for i in range(network.n_outputs):
            corner = np.where(sign * slope[:, i] > 0, box.upper, box.lower)
            best = verifier.values(corner)[:, i]
            margin = verifier._intervals.trace(box.lower, box.upper).outputs.error[:, i]
            assert (np.abs(bound[:, i] - best) <= 2 * margin).all()


@settings(deadline=None)
@given(networks(hidden=st.lists(st.integers(1, 8), min_size=1, max_size=2)), st.data())
def test_slopes_belong_to_the_bounds(network: Network, data: st.DataObject) -> None:
    """The linear bound lies above the network everywhere: its value at the best corner, less the slope from there."""
    box: Boxes = data.draw(boxes(network.n_inputs))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    verifier = Verifier(network)
    bounds = verifier.crown(box.lower, box.upper)
    crown_only = bounds.upper < verifier.interval(box.lower, box.upper)[1]
    for x in box.points(rng):
        values = verifier.values(x)
        for i in range(network.n_outputs):
            corner = np.where(bounds.slope_upper[:, i] > 0, box.upper, box.lower)
            line = bounds.upper[:, i] - (bounds.slope_upper[:, i] * (corner - x)).sum(axis=1)
            tolerance = 1e-5 * (1 + np.abs(bounds.upper[:, i]) + np.abs(bounds.slope_upper[:, i]).max() * 1e-4)
            assert (values[:, i] <= line + tolerance)[crown_only[:, i]].all()


@settings(deadline=None)
@given(networks(), st.data())
def test_gradients_are_those_of_the_values(network: Network, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.normal(size=(20, network.n_inputs)).astype(network.dtype).astype(np.float64)
    verifier = Verifier(network)
    direction = rng.normal(size=(20, network.n_outputs))
    step = np.asarray(rng.normal(size=x.shape) * 2.0**-10)
    step = (x + step).astype(network.dtype) - x
    ahead, back = verifier.gradients(x + step, direction), verifier.gradients(x, direction)
    change = ((verifier.values(x + step) - verifier.values(x)) * direction).sum(axis=1)
    smooth = (np.abs(ahead - back) <= 1e-9 * np.abs(back)).all(axis=1)
    expected = (back * step).sum(axis=1)
    scale = np.abs(verifier.values(x)).max() + np.abs(back).max()
    np.testing.assert_allclose(change[smooth], expected[smooth], atol=1e-9 * scale)


def test_crown_is_as_tight_as_published() -> None:
    """A hand-computed case: y = relu(x1 + x2) + relu(x1 - x2) on [-1, 1]^2; CROWN's upper bound is 3, interval's 4."""
    weight = np.array([[1.0, 1.0], [1.0, -1.0]])
    ops = (Affine(weight, np.zeros(2)), LeakyRelu(0.0), Affine(np.ones((1, 2)), np.zeros(1)))
    verifier = Verifier(Network(2, 1, F64, ops))
    lower, upper = -np.ones((1, 2)), np.ones((1, 2))
    # each relu is below 0.5 z + 1 on [-2, 2]: together x1 + 2, at most 3
    assert verifier.crown(lower, upper).upper[0, 0] == pytest.approx(3.0, abs=1e-12)
    assert verifier.interval(lower, upper)[1][0, 0] == pytest.approx(4.0, abs=1e-12)
    np.testing.assert_allclose(verifier.crown(lower, upper).slope_upper[0, 0], [1.0, 0.0], atol=1e-12)
    # lower lines: the slope is 0 as -l = u, so the bound is 0
    assert verifier.crown(lower, upper).lower[0, 0] == pytest.approx(0.0, abs=1e-12)


def test_many_boxes_are_bounded_like_one() -> None:
    rng = np.random.default_rng(0)
    ops = (
        Affine(rng.normal(size=(9, 3)), rng.normal(size=9)),
        LeakyRelu(0.0),
        Affine(rng.normal(size=(7, 9)), rng.normal(size=7)),
        LeakyRelu(0.1),
        Affine(rng.normal(size=(6, 7)), rng.normal(size=6)),
        LeakyRelu(0.0),
        Affine(rng.normal(size=(2, 6)), rng.normal(size=2)),
    )
    verifier = Verifier(Network(3, 2, F64, ops))
    lower = rng.normal(size=(2500, 3))
    upper = lower + rng.random((2500, 3))
    together = verifier.crown(lower, upper)
    assert len(verifier._parts(2500)) > 1
    for i in (0, 1023, 1024, 2499):
        alone = verifier.crown(lower[i : i + 1], upper[i : i + 1])
        np.testing.assert_allclose(together.upper[i], alone.upper[0], rtol=1e-9)
        np.testing.assert_allclose(together.lower[i], alone.lower[0], rtol=1e-9)
        np.testing.assert_allclose(together.slope_upper[i], alone.slope_upper[0], rtol=1e-7, atol=1e-9)
    assert verifier.crown(lower[:0], upper[:0]).upper.shape == (0, 2)
    assert verifier.interval(lower[:0], upper[:0])[0].shape == (0, 2)


def unbounded(verifier: Verifier, lower: list[float], upper: list[float]) -> bool:
    box = np.array([lower]), np.array([upper])
    low, high = verifier.interval(*box)
    bounds = verifier.crown(*box)
    everything = (low == -np.inf) & (high == np.inf) & (bounds.lower == -np.inf) & (bounds.upper == np.inf)
    assert everything.all() or (np.isfinite([low, high, bounds.lower, bounds.upper])).all()
    assert np.isfinite(bounds.slope_lower).all()
    assert np.isfinite(bounds.slope_upper).all()
    return bool(everything.all())


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_unbounded_and_huge_boxes_have_no_bounds(dtype: np.dtype[Any], depth: int) -> None:
    rng = np.random.default_rng(0)
    hidden: list[Op] = [Affine(rng.normal(size=(2, 2)).astype(dtype), np.ones(2, dtype)), LeakyRelu(0.0)] * depth
    verifier = Verifier(Network(2, 1, dtype, (*hidden, Affine(np.ones((1, 2), dtype), np.zeros(1, dtype)))))
    assert unbounded(verifier, [-np.inf, 0], [np.inf, 1])
    assert unbounded(verifier, [0, 0], [np.inf, 1])
    assert unbounded(verifier, [-np.inf, 0], [-np.inf, 1])
    assert unbounded(verifier, [0, 0], [1e308, 1])
    assert unbounded(verifier, [np.nan, 0], [1, 1])
    assert unbounded(verifier, [0, 0], [float(np.finfo(dtype).max), 1])
    assert not unbounded(verifier, [0, 0], [1e30, 1])
    low, _ = verifier.interval(np.array([[-np.inf, 0], [0, 0.0]]), np.array([[0, 1], [1, 1.0]]))
    assert np.isinf(low[0]).all()
    assert np.isfinite(low[1]).all()


def test_a_sum_that_may_overflow_has_no_bounds() -> None:
    half = float(np.float32(0.6) * np.finfo(np.float32).max)
    one = np.ones(1, "f")
    cancelling = Network(2, 1, F32, (Affine(np.ones((1, 2), "f"), one), Scale(f32([1e-30]))))
    assert unbounded(Verifier(cancelling), [half, half], [half, half])
    assert not unbounded(Verifier(cancelling), [half / 2, half / 2], [half / 2, half / 2])
    assert unbounded(Verifier(Network(1, 1, F32, (Scale(f32([1e20])), Scale(f32([1e-20]))))), [0], [1e20])
    assert unbounded(Verifier(Network(1, 1, F32, (Divide(f32([1e-20])), Scale(f32([0]))))), [0], [1e20])
    assert unbounded(Verifier(Network(1, 1, F32, (Shift(f32([half])),))), [0], [half])
    # 60 layers of large weights: no float64 coefficient can hold their product
    deep: list[Op] = [Affine(np.full((1, 1), 1e30, "f"), np.zeros(1, "f")), LeakyRelu(0.5)] * 60
    assert unbounded(Verifier(Network(1, 1, F32, (*deep, Affine(one[None], one)))), [0], [0])
    # values are small in this box, the product of weights is not
    large = Affine(np.full((1, 1), 1e200), np.zeros(1))
    assert unbounded(Verifier(Network(1, 1, F64, (large, LeakyRelu(0.5), large))), [0], [0])
    divided = Network(1, 1, F64, (Divide(np.array([5e-324])), LeakyRelu(0.0), Scale(np.array([1e-300]))))
    assert unbounded(Verifier(divided), [0], [1])


def test_one_huge_box_does_not_spoil_the_others() -> None:
    ops = (Affine(np.ones((3, 2), "f"), np.ones(3, "f")), LeakyRelu(0.0), Affine(np.ones((1, 3), "f"), np.ones(1, "f")))
    verifier = Verifier(Network(2, 1, F32, (*ops,)))
    lower, upper = np.zeros((3, 2)), np.ones((3, 2))
    alone = verifier.crown(lower[:1], upper[:1])
    upper[1] = np.inf
    together = verifier.crown(lower, upper)
    for i in (0, 2):
        assert together.upper[i] == pytest.approx(alone.upper[0])
        assert together.lower[i] == pytest.approx(alone.lower[0])


def test_functionals_must_fit() -> None:
    network = Network(1, 1, F32, (Scale(np.ones(1, "f")),))
    with pytest.raises(ModelError, match="do not fit a model of 1 outputs"):
        Verifier(network, np.ones((1, 2)))
    with pytest.raises(ModelError, match="functionals"):
        Verifier(network, np.ones((0, 1)))
