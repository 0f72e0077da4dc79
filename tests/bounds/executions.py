"""Other executions of a network that its bounds must cover: orders of summation, fused multiply-add."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skipml.graph import Graph, _apply
from skipml.network import Affine, Array, Divide, LeakyRelu, Network, Scale, Shift

Order = Literal["blas", "forwards", "backwards", "bias first", "fused", "ascending", "descending"]
ORDERS: tuple[Order, ...] = ("blas", "forwards", "backwards", "bias first", "fused", "ascending", "descending")


def execute(network: Network, x: NDArray[np.float64], order: Order) -> Array:
    """The outputs [n, n_outputs] for x [n, n_inputs], each sum computed in one order."""
    h: Array = x.astype(network.dtype)
    for op in network.ops:
        match op:
            case Affine():
                h = _affine(op, h, order)
            case Scale(factor):
                h = h * factor
            case Divide(divisor):
                h = h / divisor
            case Shift(offset):
                h = h + offset
            case LeakyRelu(slope):
                h = np.where(h < 0, network.dtype.type(slope) * h, h)
    return h


def execute_graph(graph: Graph, x: NDArray[np.float64], order: Order) -> Array:
    """The outputs [n, n_outputs] of a graph for x [n, n_inputs], each matrix product summed in one order."""
    values: list[Array] = [x.astype(graph.dtype)]
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            read = [values[i] for i in node.inputs]
            if isinstance(node.op, Affine):
                values.append(_affine(node.op, read[0], order))
            else:
                values.append(_apply(node.op, [value[:, :, None] for value in read], None)[:, :, 0])
    return values[-1]


def exact(network: Network, x: NDArray[np.floating]) -> list[Fraction]:
    """The outputs for one row x [n_inputs], already in the network's dtype, without any rounding."""
    h = [Fraction(float(value)) for value in x]
    for op in network.ops:
        match op:
            case Affine(weight, bias):
                rows = [[Fraction(float(w)) for w in row] for row in weight]
                h = [
                    sum((w * v for w, v in zip(row, h, strict=True)), Fraction(float(b)))
                    for row, b in zip(rows, bias, strict=True)
                ]
            case Scale(factor):
                h = [v * Fraction(float(f)) for v, f in zip(h, factor, strict=True)]
            case Divide(divisor):
                h = [v / Fraction(float(f)) for v, f in zip(h, divisor, strict=True)]
            case Shift(offset):
                h = [v + Fraction(float(f)) for v, f in zip(h, offset, strict=True)]
            case LeakyRelu(slope):
                h = [v if v >= 0 else v * Fraction(float(network.dtype.type(slope))) for v in h]
    return h


def _affine(op: Affine, h: Array, order: Order) -> Array:
    if order == "blas":
        return h @ op.weight.T + op.bias
    dtype: np.dtype[Any] = h.dtype
    if order == "fused":  # one rounding per multiply-add
        wide: NDArray[np.longdouble] = np.zeros((len(h), len(op.bias)), np.longdouble)
        for k in range(h.shape[1]):
            product = h[:, k, None].astype(np.longdouble) * op.weight[:, k].astype(np.longdouble)
            wide = (wide + product).astype(dtype).astype(np.longdouble)
        return (wide + op.bias).astype(dtype)
    terms = h[:, None, :] * op.weight
    if order == "bias first":
        terms = np.concatenate([np.broadcast_to(op.bias[:, None], (*terms.shape[:2], 1)), terms], axis=2)
    else:
        terms = np.concatenate([terms, np.broadcast_to(op.bias[:, None], (*terms.shape[:2], 1))], axis=2)
    if order == "backwards":
        terms = terms[:, :, ::-1]
    if order in ("ascending", "descending"):
        terms = np.take_along_axis(terms, np.argsort(np.abs(terms), axis=2), axis=2)
        terms = terms if order == "ascending" else terms[:, :, ::-1]
    total = np.zeros(terms.shape[:2], dtype)
    for k in range(terms.shape[2]):
        total = total + terms[:, :, k]
    return total


def f32(values: Any) -> NDArray[np.float32]:
    """A float32 array."""
    return np.array(values, np.float32)
