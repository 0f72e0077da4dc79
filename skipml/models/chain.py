"""Builds a Network one op at a time, in executed order, and refuses what does not fit the chain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.network import Affine, Array, Divide, LeakyRelu, Network, Op, Scale, Shift

Constant = NDArray[np.generic]


@dataclass(slots=True)
class Chain:
    """The ops read so far; `where` in every method names the operator for messages.

    The value that flows has shape [rows, width], or [rows] while `flat` (width 1 only). Constants are not folded into
    each other: each fold is a rounding that the executed graph does not have.
    """

    n_inputs: int
    dtype: np.dtype[np.floating]
    ops: list[Op] = field(default_factory=list)
    width: int = 0
    flat: bool = False
    has_cast: bool = False

    def __post_init__(self) -> None:
        self.width = self.n_inputs

    def affine(self, weight: Constant, bias: Constant | None, where: str) -> None:
        """Append x @ weight.T + bias, weight [n_out, width], bias broadcastable to [n_out] or None for zeros."""
        if self.flat:
            raise ModelError(
                f"{where}: multiplies a one-dimensional value, which would mix rows; keep values of shape [rows, width]"
            )
        if weight.ndim != 2 or weight.shape[1] != self.width or weight.shape[0] == 0:
            raise ModelError(
                f"{where}: {self.width} values per row arrive, which does not fit a weight of {weight.shape}"
            )
        checked = self._finite(weight, where)
        self.width = weight.shape[0]
        self.ops.append(
            Affine(checked, np.zeros(self.width, self.dtype) if bias is None else self._vector(bias, where))
        )

    def scale(self, factor: Constant, where: str) -> None:
        """Append x * factor, factor broadcastable to [width]."""
        self.ops.append(Scale(self._vector(factor, where)))

    def negate(self) -> None:
        """Append x * -1, which is exact."""
        self.ops.append(Scale(np.full(self.width, -1, self.dtype)))

    def shift(self, offset: Constant, where: str) -> None:
        """Append x + offset, offset broadcastable to [width]."""
        self.ops.append(Shift(self._vector(offset, where)))

    def unshift(self, offset: Constant, where: str) -> None:
        """Append x - offset, offset broadcastable to [width]."""
        self.ops.append(Shift(-self._vector(offset, where)))

    def divide(self, divisor: Constant, where: str) -> None:
        """Append x / divisor, divisor broadcastable to [width] and nowhere zero."""
        checked = self._vector(divisor, where)
        if not checked.all():
            raise ModelError(f"{where}: divides by zero; export the model with a divisor that is not zero")
        self.ops.append(Divide(checked))

    def leaky_relu(self, slope: float, where: str) -> None:
        """Append a LeakyRelu, 0 <= slope <= 1 (0 is ReLU)."""
        if not 0 <= slope <= 1:
            raise UnsupportedOperatorError(f"{where}: a slope of {slope} is outside [0, 1]")
        self.ops.append(LeakyRelu(slope))

    def reshape(self, rest: tuple[int, ...], where: str) -> None:
        """Take note of a shape [rows, *rest] with the same values in the same order."""
        if rest != (self.width,) and not (rest == () and self.width == 1):
            raise ModelError(
                f"{where}: changes a row of {self.width} values to shape {list(rest)}; values must stay [rows, width]"
            )
        self.flat = rest == ()

    def cast(self, dtype: np.dtype[np.floating] | None, where: str) -> None:
        """Take note of a cast to dtype, None for one that no Network has: a no-op, or the one cast of the input."""
        if dtype == self.dtype:
            return
        if dtype is None or self.ops or self.has_cast:
            raise UnsupportedOperatorError(
                f"{where}: only a cast of the input to float32 or float64 is supported; keep one type throughout"
            )
        self.dtype, self.has_cast = dtype, True

    def network(self) -> Network:
        """The finished Network."""
        return Network(n_inputs=self.n_inputs, n_outputs=self.width, dtype=self.dtype, ops=tuple(self.ops))

    def _vector(self, constant: Constant, where: str) -> Array:
        """The constant as [width]; one that would add values or rows is refused."""
        widens = constant.size != 1 and constant.shape[-1] != self.width
        if widens or constant.ndim > (1 if self.flat else 2) or constant.size not in (1, self.width):
            raise ModelError(f"{where}: a constant of shape {constant.shape} does not fit a row of {self.width} values")
        return np.broadcast_to(self._finite(constant, where).reshape(-1), self.width).copy()

    def _finite(self, constant: Constant, where: str) -> Array:
        if constant.dtype != self.dtype:
            raise ModelError(
                f"{where}: a constant is {constant.dtype} in a network of {self.dtype}; export the model with one type"
            )
        copy: Array = np.array(constant, self.dtype, order="C")
        if not np.isfinite(copy).all():
            raise ModelError(f"{where}: a weight is NaN or infinite; train or export the model again")
        return copy
