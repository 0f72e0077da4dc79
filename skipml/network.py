"""The op graph of a feed-forward network, in the order it is executed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """y = x @ weight.T + bias, weight [n_out, n_in], bias [n_out]."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """y = x * factor, factor [n]."""

    factor: Array


@dataclass(frozen=True, slots=True, eq=False)
class Divide:
    """y = x / divisor, divisor [n], no zero."""

    divisor: Array


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """y = x + offset, offset [n]."""

    offset: Array


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    """y = x where x >= 0, else slope * x, with 0 <= slope <= 1 (0 is ReLU); NaN stays NaN."""

    slope: float


Op = Affine | Scale | Divide | Shift | LeakyRelu


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A chain of ops executed one after the other in `dtype` (float32 or float64); weights are stored in that dtype and are finite."""

    n_inputs: int
    n_outputs: int
    dtype: np.dtype[np.floating]
    ops: tuple[Op, ...]
