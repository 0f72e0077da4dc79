"""One function per ONNX operator that a Network can express: it appends to the chain what the node does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.models.chain import Chain, Constant

FLOATS: dict[int, np.dtype[np.floating]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
}


@dataclass(frozen=True, slots=True)
class Node:
    """A node with its constants looked up: None in `inputs` is an input that is left out or that depends on the row."""

    where: str
    inputs: tuple[Constant | None, ...]
    attributes: Mapping[str, Any]
    one_row: bool
    """The graph takes one row at a time, so that a shape may say 1 for the rows."""

    def constant(self, index: int) -> Constant | None:
        """The constant at a position, if there is one."""
        return self.inputs[index] if index < len(self.inputs) else None

    def operand(self) -> tuple[Constant, bool]:
        """The constant of a node with two inputs, and whether it is the left one."""
        left, right = self.inputs
        constant = right if left is None else left
        if constant is None:
            raise ModelError(f"{self.where}: an input is missing; is the file damaged?")
        return constant, right is None


@dataclass(frozen=True, slots=True)
class Operator:
    """What a node of this operator may look like; `either_side`: the constant may be the first input."""

    append: Callable[[Chain, Node], None]
    n_inputs: tuple[int, int] = (1, 1)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    either_side: bool = False


def _gemm(chain: Chain, node: Node) -> None:
    weight, bias = node.constant(1), node.constant(2)
    if weight is None or weight.ndim != 2 or node.attributes["transA"]:
        raise UnsupportedOperatorError(
            f"{node.where}: only x @ B + C with constant B and C and transA = 0 is supported"
        )
    if not node.attributes["transB"]:
        weight = weight.T
    alpha, beta = (np.asarray(node.attributes[name], chain.dtype) for name in ("alpha", "beta"))
    if alpha == 1 and (beta == 1 or bias is None):
        chain.affine(weight, bias, node.where)
        return
    # Not folded into the weights: the product is scaled after it is summed, as a runtime does it.
    chain.affine(weight, None, node.where)
    chain.scale(alpha, node.where)
    if bias is not None:
        with np.errstate(over="ignore"):
            chain.shift(np.asarray(beta * bias), node.where)


def _matmul(chain: Chain, node: Node) -> None:
    weight, left = node.operand()
    if left or weight.ndim not in (1, 2):
        raise UnsupportedOperatorError(f"{node.where}: only x @ W with a constant matrix W on the right is supported")
    chain.affine(weight.T if weight.ndim == 2 else weight[None, :], None, node.where)
    chain.flat = weight.ndim == 1


def _add(chain: Chain, node: Node) -> None:
    chain.shift(node.operand()[0], node.where)


def _sub(chain: Chain, node: Node) -> None:
    constant, left = node.operand()
    if left:
        chain.negate()
        chain.shift(constant, node.where)
    else:
        chain.unshift(constant, node.where)


def _mul(chain: Chain, node: Node) -> None:
    chain.scale(node.operand()[0], node.where)


def _div(chain: Chain, node: Node) -> None:
    constant, left = node.operand()
    if left:
        raise UnsupportedOperatorError(f"{node.where}: a constant divided by a computed value is not supported")
    chain.divide(constant, node.where)


def _relu(chain: Chain, node: Node) -> None:
    chain.leaky_relu(0.0, node.where)


def _leaky_relu(chain: Chain, node: Node) -> None:
    chain.leaky_relu(node.attributes["alpha"], node.where)


def _identity(chain: Chain, node: Node) -> None:
    pass


def _dropout(chain: Chain, node: Node) -> None:
    training = node.constant(2)
    if len(node.inputs) == 3 and (training is None or training.any()):
        raise UnsupportedOperatorError(
            f"{node.where}: Dropout in training mode is random; export the model in inference mode, after module.eval()"
        )


def _flatten(chain: Chain, node: Node) -> None:
    if chain.flat or node.attributes["axis"] not in (1, -1):
        raise ModelError(f"{node.where}: would mix rows; flatten from axis 1")


def _reshape(chain: Chain, node: Node) -> None:
    shape = node.constant(1)
    if shape is None or shape.dtype != np.int64 or shape.ndim != 1 or shape.size == 0:
        raise ModelError(f"{node.where}: the new shape must be a constant vector of int64")
    rows, *rest = (int(size) for size in shape)
    keeps_rows = rows == -1 or (rows == 0 and not node.attributes["allowzero"]) or (rows == 1 and node.one_row)
    if not keeps_rows:
        raise ModelError(
            f"{node.where}: the new shape {shape.tolist()} fixes the number of rows; keep the first dimension free"
        )
    if rest == [-1] and rows != -1:
        rest = [chain.width]
    chain.reshape(tuple(rest), node.where)


def _squeeze(chain: Chain, node: Node) -> None:
    axes = node.attributes["axes"] if len(node.inputs) == 1 else node.constant(1)
    if chain.flat or axes is None or list(np.ravel(axes)) not in ([1], [-1]):
        raise ModelError(f"{node.where}: would mix rows; only axis 1 of a single output can be squeezed")
    chain.reshape((), node.where)


def _cast(chain: Chain, node: Node) -> None:
    chain.cast(FLOATS.get(node.attributes["to"]), node.where)


OPERATORS = {
    "Add": Operator(_add, (2, 2), either_side=True),
    "Cast": Operator(_cast, attributes={"to": 0, "saturate": 1, "round_mode": "up"}),
    "Div": Operator(_div, (2, 2), either_side=True),
    "Dropout": Operator(_dropout, (1, 3), {"ratio": 0.5, "seed": 0}),
    "Flatten": Operator(_flatten, attributes={"axis": 1}),
    "Gemm": Operator(_gemm, (2, 3), {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}),
    "Identity": Operator(_identity),
    "LeakyRelu": Operator(_leaky_relu, attributes={"alpha": 0.01}),
    "MatMul": Operator(_matmul, (2, 2), either_side=True),
    "Mul": Operator(_mul, (2, 2), either_side=True),
    "Relu": Operator(_relu),
    "Reshape": Operator(_reshape, (2, 2), {"allowzero": 0}),
    "Squeeze": Operator(_squeeze, (1, 2), {"axes": []}),
    "Sub": Operator(_sub, (2, 2), either_side=True),
}
