"""The margin covers the distance between what a runtime computes and what is exact, and is needed for it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipml.bounds.rounding import arithmetic, coefficients_fit
from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network, Scale, Shift
from tests.bounds.executions import ORDERS, exact, execute, f32
from tests.strategies import Boxes, boxes, networks

F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)


@settings(deadline=None)
@given(networks(), st.data())
def test_the_margin_covers_the_distance_from_exact_arithmetic(network: Network, data: st.DataObject) -> None:
    box: Boxes = data.draw(boxes(network.n_inputs, n_boxes=st.just(2)))
    x = box.upper.astype(network.dtype).astype(np.float64)
    span = Verifier(network)._intervals.trace(x, x).outputs
    for row in range(len(x)):
        truth = exact(network, x[row])
        for order in ORDERS:
            computed = execute(network, x[row : row + 1], order)[0]
            for i in range(network.n_outputs):
                margin = Fraction(float(span.error[row, i]))
                assert abs(Fraction(float(computed[i])) - truth[i]) <= margin
                assert abs(Fraction(float(span.centre[row, i])) - truth[i]) <= margin


def cancellation(dtype: np.dtype[Any]) -> Network:
    """Two layers: sums of large terms that cancel, which every order of summation rounds differently."""
    big = dtype.type(2.0**22 if dtype == F32 else 2.0**51)
    weight = np.array([[big, 0.3, -big, 0.7, 0.1], [-big, 0.2, big, 0.9, 0.4]], dtype)
    ops = (
        Affine(weight, np.array([0.1, 0.2], dtype)),
        LeakyRelu(0.0),
        Affine(np.ones((1, 2), dtype), np.zeros(1, dtype)),
    )
    return Network(5, 1, dtype, ops)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_cancellation_is_covered_and_would_not_be_without_the_margin(dtype: np.dtype[Any]) -> None:
    network = cancellation(dtype)
    verifier = Verifier(network)
    x = np.random.default_rng(0).random((200, 5)).astype(dtype).astype(np.float64)
    x[:, 2] = x[:, 0]
    low, high = verifier.interval(x, x)
    bounds = verifier.crown(x, x)
    span = verifier._intervals.trace(x, x).outputs
    outside = 0
    for order in ORDERS:
        score = execute(network, x, order).astype(np.float64)
        assert (low <= score).all()
        assert (score <= high).all()
        assert (bounds.lower <= score).all()
        assert (score <= bounds.upper).all()
        outside += int((np.abs(score - span.centre) > span.radius).sum())
    assert outside > 500, "the case is too tame to need a margin"
    spread = max(float(np.abs(execute(network, x, order) - execute(network, x, "blas")).max()) for order in ORDERS)
    assert spread > 0.05


@pytest.mark.parametrize("n", [3, 50, 1000])
def test_an_adversarial_sum_is_covered(n: int) -> None:
    """Equal terms that all round the same way: float32 adds 1 + 2^-24 to its last place every time, or drops it."""
    weight = np.full((1, n), 2.0**-24 + 2.0**-40, "f")
    weight[0, 0] = 1.0
    network = Network(n, 1, F32, (Affine(weight, np.zeros(1, "f")),))
    x = np.ones((1, n))
    truth = exact(network, x[0])[0]
    low, high = Verifier(network).interval(x, x)
    found = [Fraction(float(execute(network, x, order)[0, 0])) for order in ORDERS]
    assert max(abs(value - truth) for value in found) >= (n - 1) * Fraction(2.0**-25)
    assert all(Fraction(float(low[0, 0])) <= value <= Fraction(float(high[0, 0])) for value in found)


def test_an_offset_that_cancels_costs_no_margin() -> None:
    """Inputs around 1.6e9 (seconds since 1970) minus their mean are exact in float32; the margin must see that."""
    mean = f32([1.6e9])
    network = Network(1, 1, F32, (Shift(-mean), Scale(f32([1e-4]))))
    x = np.array([[1.6e9 + 12800.0]])
    low, high = Verifier(network).interval(x, x)
    assert high[0, 0] - low[0, 0] < 1e-5
    folded = Network(1, 1, F32, (Affine(f32([[1e-4]]), f32([-1e-4]) * mean),))
    low, high = Verifier(folded).interval(x, x)
    assert high[0, 0] - low[0, 0] > 1e-2


def test_underflow_is_covered() -> None:
    tiny = np.float32(2.0**-120)
    ops = (
        Affine(np.full((1, 4), tiny, "f"), np.zeros(1, "f")),
        Scale(f32([2.0**120])),
        Scale(f32([2.0**20])),
    )
    network = Network(4, 1, F32, ops)
    x = np.full((1, 4), 2.0**-29 * 1.5)
    truth = exact(network, x[0])[0]
    low, high = Verifier(network).crown(x, x).lower, Verifier(network).crown(x, x).upper
    computed = execute(network, x, "forwards")
    assert Fraction(float(computed[0, 0])) != truth
    flushed = 0.0  # what a runtime that flushes subnormals computes
    for value in (float(computed[0, 0]), flushed):
        assert low[0, 0] <= value <= high[0, 0]


def test_a_dead_neuron_carries_no_error() -> None:
    ops = (
        Affine(np.array([[1.0], [1.0]], "f"), np.array([-1e6, 0.0], "f")),
        LeakyRelu(0.0),
        Affine(np.ones((1, 2), "f"), np.zeros(1, "f")),
    )
    network = Network(1, 1, F32, ops)
    low, high = Verifier(network).interval(np.ones((1, 1)), np.ones((1, 1)))
    assert high[0, 0] - low[0, 0] < 1e-5


def test_a_neuron_that_is_dead_only_in_exact_arithmetic_carries_its_error() -> None:
    """Exactly -0.5 before the ReLU; summed from the left 2^25 - 1 rounds to 2^25 and 0.5 is left."""
    ops = (
        Affine(f32([[2.0**25, -1.0, -(2.0**25)]]), f32([0.5])),
        LeakyRelu(0.0),
        Affine(f32([[1.0]]), f32([0.0])),
    )
    network = Network(3, 1, F32, ops)
    x = np.ones((1, 3))
    assert exact(network, x[0]) == [0]
    assert execute(network, x, "forwards")[0, 0] == 0.5
    assert Verifier(network).interval(x, x)[1][0, 0] >= 0.5
    assert Verifier(network).crown(x, x).upper[0, 0] >= 0.5


def test_the_unit_roundoff_is_that_of_the_dtype() -> None:
    one = Network(1, 1, F32, (Scale(np.ones(1, "f")),))
    assert arithmetic(one, 1).relative(1) == pytest.approx(2.0**-24, rel=1e-5)
    wide = Network(1, 1, F64, (Scale(np.ones(1)),))
    assert 2.0**-53 < arithmetic(wide, 1).relative(1) < 2.0**-46
    assert arithmetic(one, 1).relative(1 << 25) == np.inf


def test_coefficients_fit_looks_at_every_product() -> None:
    assert coefficients_fit([np.full((2, 2), 1e70), np.full((2, 2), 1e70)])
    assert not coefficients_fit([np.full((2, 2), 1e80), np.full((2, 2), 1e80), np.full((2, 2), 1e-100)])
    assert not coefficients_fit([np.full((2, 2), 1e-100), np.full((2, 2), 1e80), np.full((2, 2), 1e80)])
    assert not coefficients_fit([np.full((1, 1), np.inf)])
