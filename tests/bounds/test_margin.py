"""The margin covers two evaluations of the same row, whatever their order of summation, and stays useful."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.bounds.verifier import Verifier
from skipml.network import Affine, LeakyRelu, Network, Op, Scale
from tests.bounds.executions import ORDERS, execute, f32
from tests.strategies import Boxes, boxes, networks

Floats = NDArray[np.float64]
F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)


def evaluations(network: Network, functionals: Floats, x: Floats) -> Floats:
    """The functionals [executions, n, m] at x [n, d], as computed in every order."""
    outputs = [network.forward(x), *(execute(network, x, order) for order in ORDERS)]
    return np.stack([output.astype(np.float64) @ functionals.T for output in outputs])


@settings(deadline=None)
@given(networks(), st.sampled_from([0.0, 1e-15, 1e-8, 1e-3, 1.0]), st.data())
def test_two_evaluations_of_a_row_are_never_farther_apart(network: Network, size: float, data: st.DataObject) -> None:
    box: Boxes = data.draw(boxes(network.n_inputs))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    functionals = np.eye(network.n_outputs)
    if network.n_outputs > 1 and data.draw(st.booleans()):
        functionals = functionals[:1] - functionals[1:]
    slack = size * np.abs(box.upper) * (rng.random(box.lower.shape) < 0.7)
    here = box.points(rng, per_box=8)
    moved = here + slack * rng.choice([-1, -0.999, 0.999, 1], here.shape)
    there = np.clip(np.where(np.abs(moved - here) <= slack, moved, here), box.lower, box.upper)
    first = evaluations(network, functionals, here.reshape(-1, network.n_inputs))
    second = evaluations(network, functionals, there.reshape(-1, network.n_inputs))
    margin = Verifier(network, functionals).margin(box.lower, box.upper, slack)
    low, high = np.minimum(first.min(axis=0), second.min(axis=0)), np.maximum(first.max(axis=0), second.max(axis=0))
    assert (high - low <= np.tile(margin, (8, 1))).all()


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_slack_moves_the_score_as_far_as_the_weights_say(slope: float) -> None:
    ops = (
        Affine(f32([[3.0, -2.0], [1.0, 1.0]]), f32([100.0, 100.0])),
        LeakyRelu(slope),
        Affine(f32([[1.0, -4.0]]), f32([0.5])),
    )
    network = Network(2, 1, F32, ops)
    lower, upper = np.array([[-1.0, -1.0]]), np.array([[1.0, 1.0]])
    margin = Verifier(network).margin(lower, upper, np.array([[0.25, 0.5]]))
    # |3 - 4| 0.25 + |-2 - 4| 0.5 if signs were known; absolute weights give 7 * 0.25 + 6 * 0.5
    assert 4.75 <= margin[0, 0] < 4.76


def test_casting_moves_inputs_that_differ_and_no_others() -> None:
    """Two doubles that differ by 1e-12 around a float32 midpoint become floats that differ by 2^-23."""
    network = Network(1, 1, F32, (Affine(f32([[1.0]]), f32([0.0])),))
    middle = 1 + 2.0**-24
    x = np.array([[middle - 5e-13]]), np.array([[middle + 5e-13]])
    apart = float(network.forward(x[1])[0, 0]) - float(network.forward(x[0])[0, 0])
    assert apart == 2.0**-23
    verifier = Verifier(network)
    moved = verifier.margin(*x, np.full((1, 1), 1e-12)) - verifier.margin(*x, np.zeros((1, 1)))
    assert apart <= moved[0, 0] < 1.01 * apart


def test_without_slack_the_margin_is_twice_the_error() -> None:
    network = Network(2, 2, F64, (Affine(np.array([[1.0, 2.0], [3.0, -1.0]]), np.ones(2)),))
    verifier = Verifier(network)
    lower, upper = np.full((3, 2), -2.0), np.full((3, 2), 5.0)
    error = verifier._intervals.trace(lower, upper).outputs.error
    assert np.array_equal(verifier.margin(lower, upper, np.zeros((3, 2))), 2 * error)


@pytest.mark.parametrize(("dtype", "share"), [(F32, 5e-4), (F64, 1e-11)], ids=str)
def test_the_margin_is_small_beside_the_scores(dtype: np.dtype[Any], share: float) -> None:
    rng = np.random.default_rng(0)
    ops: list[Op] = []
    for n_in, n_out in itertools.pairwise([3, 32, 32, 1]):
        weight = rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)
        ops += [Affine(weight.astype(dtype), rng.normal(size=n_out).astype(dtype)), LeakyRelu(0.0)]
    network = Network(3, 1, dtype, tuple(ops[:-1]))
    lower, upper = np.full((1, 3), -1.0), np.ones((1, 3))
    scores = network.forward(lower + rng.random((1000, 3)) * (upper - lower)).astype(np.float64)
    margin = Verifier(network).margin(lower, upper, np.zeros((1, 3)))
    assert 0 < margin[0, 0] < share * np.ptp(scores)
    slack = np.full((1, 3), 1e-3)
    assert 1e-4 < Verifier(network).margin(lower, upper, slack)[0, 0] < 0.1


@pytest.mark.parametrize("slack", [0.0, 1e-6])
def test_the_margin_is_infinite_where_a_score_may_overflow(slack: float) -> None:
    network = Network(1, 1, F32, (Scale(f32([1e20])), Scale(f32([1e-20]))))
    lower, upper = np.array([[0.0], [0.0], [0.0], [np.nan], [-np.inf]]), np.array([[1.0], [1e20], [1e39], [1.0], [1.0]])
    margin = Verifier(network).margin(lower, upper, np.full((5, 1), slack))
    assert np.isfinite(margin[:, 0]).tolist() == [True, False, False, False, False]
    assert (margin[1:] == np.inf).all()


def test_the_margin_is_infinite_where_coefficients_do_not_fit() -> None:
    network = Network(1, 1, F64, (Scale(np.array([1e100])), Affine(np.array([[1e100]]), np.zeros(1))))
    assert Verifier(network).margin(np.zeros((1, 1)), np.full((1, 1), 1e-300), np.zeros((1, 1)))[0, 0] == np.inf


@pytest.mark.parametrize("slack", [np.nan, np.inf, 1e300])
def test_an_unknown_slack_gives_no_finite_margin(slack: float) -> None:
    network = Network(1, 1, F64, (Affine(np.array([[1e20]]), np.zeros(1)),))
    assert Verifier(network).margin(np.zeros((1, 1)), np.ones((1, 1)), np.full((1, 1), slack))[0, 0] == np.inf


def test_many_boxes_give_what_each_gives_alone() -> None:
    network = Network(2, 1, F32, (Affine(f32([[1.0, 2.0]]), f32([0.0])), LeakyRelu(0.0)))
    rng = np.random.default_rng(0)
    lower = rng.normal(size=(3000, 2))
    upper, slack = lower + rng.random((3000, 2)), rng.random((3000, 2)) * 1e-6
    verifier = Verifier(network)
    margin = verifier.margin(lower, upper, slack)
    assert margin.shape == (3000, 1)
    for i in (0, 1500, 2999):
        assert margin[i] == pytest.approx(verifier.margin(lower[i : i + 1], upper[i : i + 1], slack[i : i + 1])[0])
    assert verifier.margin(lower[:0], upper[:0], slack[:0]).shape == (0, 1)


def test_rows_at_both_ends_of_the_slack_are_as_far_apart_as_the_margin_says() -> None:
    """In float64 nothing else makes room for what the margin's own sums round."""
    verifier = Verifier(Network(1, 1, np.dtype(np.float64), (Affine(np.ones((1, 1)), np.zeros(1)),)))
    margin = verifier.margin(np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1)))[0, 0]
    assert 1.0 <= margin <= 1.0 + 1e-5
