"""Bounds that are looser than need be lose no row, but skip less: what is given away is what the margin is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import pytest

from skipml.bounds.interval import IntervalPass, Span
from skipml.bounds.rounding import arithmetic, coefficients_fit
from skipml.bounds.verifier import Verifier
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def chain(dtype: np.dtype[np.floating]) -> Network:
    """Five inputs, three values between, two outputs."""
    weight = np.ones((3, 5), dtype), np.ones((2, 3), dtype)
    bias = np.zeros(3, dtype), np.zeros(2, dtype)
    return Network(5, 2, dtype, (Affine(weight[0], bias[0]), LeakyRelu(0.0), Affine(weight[1], bias[1])))


def gamma(k: int, unit: Fraction) -> Fraction:
    return k * unit / (1 - k * unit)


@pytest.mark.parametrize(
    ("dtype", "unit", "tiny", "limit"),
    [(F32, 24, 2.0**-126, (2.0 - 2.0**-23) * 2.0**127 * (1 - 2.0**-20)), (F64, 53, 1e-150, 1e150)],
    ids=str,
)
def test_the_margin_is_what_the_analysis_says(
    dtype: np.dtype[np.floating], unit: int, tiny: float, limit: float
) -> None:
    found = arithmetic(chain(dtype), 1)
    roundings = (5 + 1 + 3) + 2 + 16 * 4  # sums, outputs, and 16 of each op and of the end
    assert found.unit == 2.0**-unit
    assert found.verifier == pytest.approx(float(gamma(roundings, Fraction(1, 2**53))), rel=1e-12)
    assert (found.tiny, found.limit) == (tiny, limit)
    for n in (0, 1, 6):
        exact = gamma(n, Fraction(1, 2**unit)) + gamma(roundings, Fraction(1, 2**53))
        assert exact <= Fraction(found.relative(n)) <= exact * (1 + Fraction(1, 2**19))
        assert 2 * n * tiny <= found.underflow(n) <= 2 * n * tiny * (1 + 2.0**-19)


def test_a_sum_that_is_too_long_has_no_margin() -> None:
    found = arithmetic(chain(F32), 1)
    assert np.isfinite(found.relative(2**24 - 1))
    assert found.relative(2**24) == np.inf


def test_products_of_weights_up_to_a_limit_fit() -> None:
    fits, too_large = np.full((1, 1), 0.99e150), np.full((1, 1), 1.01e150)
    assert coefficients_fit([fits])
    assert not coefficients_fit([too_large])
    assert coefficients_fit([np.full((2, 2), 0.4e75), np.full((2, 2), 0.4e75)])
    assert not coefficients_fit([np.full((2, 2), 0.8e75), np.full((2, 2), 0.8e75)])
    assert not coefficients_fit([-np.full((2, 2), 0.8e75), np.full((2, 2), 0.8e75), np.full((2, 2), 1e-99)])
    assert not coefficients_fit([np.full((2, 2), 1e-99), np.full((2, 2), 0.8e75), np.full((2, 2), 0.8e75)])


def known(network: Network, x: float) -> bool:
    point = np.full((1, network.n_inputs), x)
    low, high = Verifier(network).interval(point, point)
    return bool(np.isfinite(low).all() and np.isfinite(high).all())


_MOST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("op", "x"),
    [
        (Affine(np.full((1, 1), 0.5, F32), np.full(1, 0.5, F32)), 1.99),
        (Affine(np.full((1, 1), 0.5, F32), np.full(1, -0.5, F32)), -1.99),
        (Scale(np.full(1, 2.0, F32)), 0.499),
        (Divide(np.full(1, 0.5, F32)), 0.499),
        (Shift(np.full(1, 0.5, F32)), 0.499),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_up_to_the_largest_float_are_known_and_those_beyond_are_not(op: object, x: float) -> None:
    """All numbers are in units of the largest float32; the first two lie below it, the last one beyond."""
    if isinstance(op, Affine):
        op = Affine(op.weight, (op.bias.astype(np.float64) * _MOST * 0.99).astype(F32))
        x = x / 1.99 * 0.98
    if isinstance(op, Shift):
        op = Shift((op.offset.astype(np.float64) * _MOST).astype(F32))
    network = Network(1, 1, F32, (op,))  # type: ignore[arg-type]
    assert known(network, x * _MOST)
    assert known(network, 0.0)
    assert not known(network, x * 1.05 * _MOST)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_a_point_of_small_numbers_is_known_to_a_few_roundings(dtype: np.dtype[np.floating], slope: float) -> None:
    """Whole numbers are computed without any rounding, so that the width of a bound is the margin alone."""
    ops = (
        Affine(np.array([[1, 2], [-3, 1]], dtype), np.array([1, -1], dtype)),
        LeakyRelu(slope),
        Scale(np.array([2, 2], dtype)),
        Shift(np.array([1, 1], dtype)),
        Affine(np.array([[1, 1]], dtype), np.array([2], dtype)),
    )
    network = Network(2, 1, dtype, ops)
    verifier = Verifier(network)
    x = np.array([[1.0, 2.0], [2.0, 1.0], [-1.0, -2.0]])
    values = network.forward(x).astype(np.float64)
    unit = 2.0 ** -(24 if dtype == F32 else 53)
    for low, high in (verifier.interval(x, x), (verifier.crown(x, x).lower, verifier.crown(x, x).upper)):
        assert (low <= values).all()
        assert (values <= high).all()
        # the sums of magnitudes are below 60, the sums have up to 3 terms, and there are five ops
        assert (high - low <= (2 * 60 * 4 * 5 * unit if dtype == F32 else 2 * 60 * 250 * 5 * unit)).all()


_PARTS: Mapping[str, Callable[[np.random.Generator, np.dtype[np.floating]], Op]] = {
    "affine": lambda rng, dtype: Affine(rng.normal(size=(3, 3)).astype(dtype), rng.normal(0, 100, 3).astype(dtype)),
    "scale": lambda rng, dtype: Scale(rng.normal(size=3).astype(dtype)),
    "divide": lambda rng, dtype: Divide(rng.normal(size=3).astype(dtype)),
    "shift": lambda rng, dtype: Shift(rng.normal(0, 100, 3).astype(dtype)),
    "leaky": lambda rng, dtype: LeakyRelu(0.3),
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("names", [[a] for a in _PARTS] + [[a, b] for a in _PARTS for b in _PARTS], ids="-".join)
def test_what_is_computed_of_a_point_is_within_its_bounds(names: list[str], dtype: np.dtype[np.floating]) -> None:
    """Nothing but the rounding of the ops is between them, so that each op has to be allowed its own."""
    rng = np.random.default_rng(len("".join(names)))
    for _ in range(4):
        network = Network(3, 3, dtype, tuple(_PARTS[name](rng, dtype) for name in names))
        verifier = Verifier(network)
        x = rng.normal(0, 1, (200, 3)).astype(dtype).astype(np.float64)
        values = network.forward(x).astype(np.float64)
        for low, high in (verifier.interval(x, x), (verifier.crown(x, x).lower, verifier.crown(x, x).upper)):
            assert (low <= values).all()
            assert (values <= high).all()


def test_a_leaky_activation_loses_a_share_of_what_may_be_below_zero() -> None:
    """An error that enters is below zero too, and rounded with it."""
    network = Network(1, 1, F32, (LeakyRelu(0.5),))
    a = arithmetic(network, 1)
    steps = IntervalPass(network, np.ones((1, 1)), a)
    span = Span(np.array([[-2.0]]), np.array([[0.5]]), np.array([[1.0]]))
    error = Fraction(float(steps._through_activation(0.5, span).error[0, 0]))
    share = Fraction(a.relative(1)) / 2
    assert (
        1 + share * Fraction(3.5)
        <= error
        <= (1 + share * Fraction(3.5) + Fraction(a.underflow(1))) * (1 + Fraction(1, 2**50))
    )
