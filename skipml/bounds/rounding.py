"""How far a computed score may lie from the exact one: the margin inside every bound.

The graph is executed op by op in the network's dtype. With unit roundoff u and gamma(k) = k u / (1 - k u), a sum of n
products and a bias, in any order, with or without fused multiply-add, is off by at most gamma(n + 1) (|W| |h| + |b|),
plus what underflow takes (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 3.1 and 3.5). If
the input h is itself off by at most E, so is the output by |W| E more:

    E' = |W| E + gamma(n + 1) (|W| (H + E) + |b|) + tiny        H >= |h|

Activations are 1-Lipschitz and hand E on. Inputs are cast to the dtype before the graph and before the bounds alike, so
E starts at 0.

The verifier's own float64 arithmetic is covered by the same recursion: every number it computes is a sum of products of
weights, relaxation slopes (at most 1 in magnitude) and a bias, an intercept or an input, and each of these products
goes through at most K roundings, K being the sum over the ops of their summation lengths and a constant. The effect of
the roundings at one op is thus at most gamma64(K) (|W| H + |b|), carried to the output by the weights behind it. Adding
gamma64(K) to gamma(n + 1) therefore makes E bound both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.network import Affine, Network

Floats = NDArray[np.float64]

_ROUNDINGS_PER_OP = 16  # besides summation: relaxation, centre and radius, concretisation, the margin itself
_RECURSION = 1 + 2.0**-20  # the recursion is computed in float64 too, all terms positive
_LARGEST_COEFFICIENT = 1e150  # products of weights up to here, times a magnitude up to `limit`, stay finite in float64


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The constants of one network's arithmetic: unit roundoffs, what underflow can take, the largest magnitude that is
    certain not to overflow.
    """

    unit: float
    verifier: float
    tiny: float
    limit: float

    def relative(self, n_terms: int) -> float:
        """The error of a sum of `n_terms` products in any order, executed and verified, relative to the sum of their
        magnitudes.

        Sound because gamma(n) bounds every order of summation, and errors of the two computations add up.
        """
        return (_gamma(n_terms, self.unit) + self.verifier) * _RECURSION

    def underflow(self, n_terms: int) -> float:
        """What underflow can take from a sum of `n_terms` products.

        Sound because each of at most 2 n operations loses less than the smallest normal number, even where subnormals
        are flushed to zero.
        """
        return 2 * n_terms * self.tiny * _RECURSION


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """What n sums had besides the products that are left, and what is in their bias for it now (folding.py): `n_terms`
    products more, the magnitudes of which add up to `mass` [n] with the former bias, and how far these were off [n].
    """

    n_terms: int
    mass: Floats
    loss: Floats


def arithmetic(network: Network, n_functionals: int) -> Arithmetic:
    """The constants for a network and functionals of its outputs; sound as `arithmetic_of` is."""
    lengths = [op.weight.shape[1] if isinstance(op, Affine) else 1 for op in network.ops]
    return arithmetic_of(network.dtype, lengths, network.n_outputs)


def arithmetic_of(dtype: np.dtype[np.floating], lengths: Sequence[int], n_outputs: int) -> Arithmetic:
    """The constants for ops that sum so many products each, and functionals of the outputs.

    Sound because K counts, for each op, more roundings than a product passes through there, and because in float64
    networks magnitudes beyond 1e150 count as overflow, so that an underflow in a coefficient (5e-324) times a magnitude
    stays below `tiny`.
    """
    roundings = sum(lengths) + n_outputs + _ROUNDINGS_PER_OP * (len(lengths) + 1)
    verifier = _gamma(roundings, 2.0**-53)
    if dtype == np.float32:
        return Arithmetic(2.0**-24, verifier, 2.0**-126, float(np.finfo(np.float32).max) * (1 - 2.0**-20))
    return Arithmetic(2.0**-53, verifier, 1e-150, 1e150)


def coefficients_fit(weights: list[Floats]) -> bool:
    """Whether every product of consecutive weight matrices stays far from overflow in float64.

    Sound because relaxation slopes are at most 1, so coefficients of linear bounds are at most these products of
    absolute weights.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(len(weights)):
            product = np.ones(weights[first].shape[1])
            for weight in weights[first:]:
                product = np.abs(weight) @ product
                if not (product <= _LARGEST_COEFFICIENT).all():
                    return False
    return True


def _gamma(n_terms: int, unit: float) -> float:
    """k u / (1 - k u), infinite where k u reaches 1. Sound because it bounds the product of k factors (1 + d), |d| <=
    u, minus 1.
    """
    return n_terms * unit / (1 - n_terms * unit) if n_terms * unit < 1 else float("inf")
