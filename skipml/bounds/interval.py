"""Interval propagation: the range of every op's output over a box, together with its rounding error.

Gowal et al., On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models,
arXiv:1810.12715, in centre and radius form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.product import product
from skipml.bounds.rounding import Arithmetic, Folded
from skipml.network import Affine, Array, Divide, LeakyRelu, Network, Op, Scale, Shift

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """What M boxes do to one layer of n values, all [M, n]: exact values lie within `radius` of `centre`, computed ones
    `error` further out.
    """

    centre: Floats
    radius: Floats
    error: Floats

    @property
    def lower(self) -> Floats:
        """Sound because computed values are off by at most `error`."""
        return self.centre - self.radius - self.error

    @property
    def upper(self) -> Floats:
        """Sound because computed values are off by at most `error`."""
        return self.centre + self.radius + self.error


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """`before[k]` is what goes into the k-th activation, `outputs` what comes out of the functionals; where not
    `finite` [M], nothing holds.
    """

    before: tuple[Span, ...]
    outputs: Span
    finite: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class LinearStep:
    """One linear op in float64: a matrix [n_in, n_out] or a diagonal [n], and the error of executing it once.

    `relative` is the error relative to the magnitudes that are summed, `rounding` the one relative to the result.
    """

    weight: Floats
    absolute: Floats
    bias: Floats
    relative: float
    rounding: float
    constant: Floats
    growth: float
    offset: float


class IntervalPass:
    """Interval propagation through one network and functionals [m, n_outputs] of its outputs, for many boxes at
    once.
    """

    def __init__(
        self, network: Network, functionals: Floats, arithmetic: Arithmetic, folded: Mapping[int, Folded] | None = None
    ) -> None:
        self._arithmetic = arithmetic
        self.is_float32 = network.dtype == np.float32
        self.limit = arithmetic.limit
        steps: list[LinearStep | float] = [
            self._prepare(op, network, (folded or {}).get(k)) for k, op in enumerate(network.ops)
        ]
        # the functionals are compared without being computed: only the verifier rounds
        steps.append(_linear(functionals.T, np.zeros(len(functionals)), arithmetic.relative(0), 0.0))
        self.steps = steps

    def trace(self, lower: Floats, upper: Floats) -> Trace:
        """Bounds of every layer for boxes `lower`, `upper` [M, d], already cast to the network's dtype.

        Sound because each step bounds the image of the box before it, and errors follow the recursion of rounding.py.
        """
        finite: NDArray[np.bool_] = np.all(np.maximum(-lower, upper) <= self.limit, axis=1)
        if not finite.all():
            lower, upper = np.where(finite[:, None], lower, 0.0), np.where(finite[:, None], upper, 0.0)
        span = Span((lower + upper) * 0.5, (upper - lower) * 0.5, np.zeros_like(lower))
        before: list[Span] = []
        for step in self.steps:
            if isinstance(step, LinearStep):
                magnitude = np.abs(span.centre)
                magnitude += span.radius
                magnitude += span.error
                finite &= magnitude.max(axis=1) * step.growth + step.offset <= self.limit
                span = _through_linear(step, span, magnitude)
            else:
                before.append(span)
                span = self._through_activation(step, span)
        return Trace(tuple(before), span, finite)

    def activation_errors(self, slope: float) -> tuple[float, float]:
        """What the product with an activation's slope loses, relative to its value, and by underflow."""
        return self._arithmetic.relative(1) * slope, self._arithmetic.underflow(1)

    def _prepare(self, op: Op, network: Network, folded: Folded | None) -> LinearStep | float:
        a = self._arithmetic
        match op:
            case Affine(weight, bias):
                n = weight.shape[1] + 1
                if folded is None:
                    return _linear(weight.T, bias, a.relative(n), a.underflow(n))
                n += folded.n_terms
                step = _linear(weight.T, folded.mass, a.relative(n), a.underflow(n))
                return replace(step, bias=bias.astype(np.float64), constant=step.constant + folded.loss)
            case Scale(factor):
                return _linear(factor, np.zeros(len(factor)), a.relative(1), a.underflow(1))
            case Divide(divisor):
                return _linear(1 / divisor.astype(np.float64), np.zeros(len(divisor)), a.relative(1), a.underflow(1))
            case Shift(offset):
                step = _linear(np.ones(len(offset)), offset, a.relative(0), a.underflow(1))
                return replace(step, rounding=a.relative(1))  # of the difference: an offset mostly cancels
            case LeakyRelu(slope):
                return float(network.dtype.type(slope))

    def _through_activation(self, slope: float, span: Span) -> Span:
        """Sound because the activation is monotone and 1-Lipschitz; where the sign is certain and negative a ReLU is
        exactly 0.
        """
        upper = span.centre + span.radius
        error = span.error * (upper > -span.error) if slope == 0 else span.error
        lower = span.centre - span.radius
        if slope:
            rounding, underflow = self.activation_errors(slope)
            error = error + rounding * (np.maximum(-lower, 0) + error) + underflow
        np.maximum(lower, slope * lower if slope else 0.0, out=lower)
        np.maximum(upper, slope * upper if slope else 0.0, out=upper)
        return Span((lower + upper) * 0.5, (upper - lower) * 0.5, error)


def _linear(weight: Array, bias: Array, relative: float, underflow: float) -> LinearStep:
    wide, offsets = np.ascontiguousarray(weight, np.float64), bias.astype(np.float64)
    absolute = np.abs(wide)
    constant = relative * np.abs(offsets) + underflow
    growth = float((absolute.sum(axis=0) if wide.ndim == 2 else absolute).max()) * (1 + 2 * relative + 2.0**-20)
    offset = float(np.abs(offsets).max()) * (1 + 2 * relative + 2.0**-20)
    return LinearStep(wide, absolute, offsets, relative, 0.0, constant, growth, offset)


def _through_linear(step: LinearStep, span: Span, magnitude: Floats) -> Span:
    """`magnitude` [M, n_in] bounds the computed inputs.

    Sound because a linear map takes the centre to the centre and the radius through absolute weights; for the error see
    rounding.py.
    """
    entering = magnitude
    entering *= step.relative
    entering += span.error
    if step.weight.ndim == 2:
        centre, radius = product(span.centre, step.weight), product(span.radius, step.absolute)
        error = product(entering, step.absolute)
    else:
        centre, radius, error = span.centre * step.weight, span.radius * step.absolute, entering * step.absolute
    centre += step.bias
    error += step.constant
    if step.rounding:
        error += step.rounding * (np.abs(centre) + radius + error)
    return Span(centre, radius, error)
