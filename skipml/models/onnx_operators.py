"""One function per ONNX operator that reads one computed value: it appends to the chain what the node does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto

from skipml.activations import Kind
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
    n_outputs: int = 1

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


def _simple(kind: Kind, *names: str) -> Callable[[Chain, Node], None]:
    """An elementwise function whose parameters are attributes."""

    def append(chain: Chain, node: Node) -> None:
        chain.elementwise(kind, node.where, *(node.attributes[name] for name in names))

    return append


def _neg(chain: Chain, node: Node) -> None:
    chain.negate()


def _prelu(chain: Chain, node: Node) -> None:
    slope = node.constant(1)
    if slope is None:
        raise UnsupportedOperatorError(f"{node.where}: only constant slopes are supported")
    chain.prelu(slope, node.where)


def _selu(chain: Chain, node: Node) -> None:
    if abs(node.attributes["alpha"] - 1.67326) > 1e-4 or abs(node.attributes["gamma"] - 1.0507) > 1e-4:
        raise UnsupportedOperatorError(f"{node.where}: has other parameters than SELU's own")
    chain.elementwise("selu", node.where)


def _gelu(chain: Chain, node: Node) -> None:
    kinds: dict[str, Kind] = {"none": "gelu", "tanh": "gelu_tanh"}
    if node.attributes["approximate"] not in kinds:
        raise UnsupportedOperatorError(f"{node.where}: approximates by {node.attributes['approximate']!r}")
    chain.elementwise(kinds[node.attributes["approximate"]], node.where)


def _clip(chain: Chain, node: Node) -> None:
    limits = [node.attributes["min"], node.attributes["max"]]
    for i in (1, 2):
        given = node.constant(i)
        if given is not None:
            if given.size != 1 or given.dtype != chain.dtype:
                raise UnsupportedOperatorError(f"{node.where}: only limits of one number are supported")
            limits[i - 1] = float(given.reshape(-1)[0])
    if limits[0] == 0 and limits[1] == np.inf:
        chain.leaky_relu(0.0, node.where)
    else:
        chain.elementwise("clip", node.where, *limits)


def _power(chain: Chain, node: Node) -> None:
    exponent, left = node.operand()
    if left or exponent.size != 1 or float(exponent.reshape(-1)[0]) != 2:
        raise UnsupportedOperatorError(f"{node.where}: only the power of 2 is supported")
    chain.elementwise("square", node.where)


def _softmax(chain: Chain, node: Node) -> None:
    if node.attributes["axis"] not in (1, -1):
        raise ModelError(f"{node.where}: would mix rows; only axis 1 is supported")
    chain.softmax(node.where)


def _batch_norm(chain: Chain, node: Node) -> None:
    if node.attributes["training_mode"] or len(node.inputs) != 5:
        raise UnsupportedOperatorError(f"{node.where}: only inference mode is supported, after module.eval()")
    chain.batch_norm(node.inputs[1:], node.attributes["epsilon"], node.where)


def _layer_norm(chain: Chain, node: Node) -> None:
    if node.attributes["axis"] not in (1, -1) or node.n_outputs > 1:
        raise UnsupportedOperatorError(f"{node.where}: only axis 1 is supported")
    chain.normalize(node.attributes["epsilon"], node.where, centred=True)
    weight, bias = node.constant(1), node.constant(2)
    if weight is not None:
        chain.scale(weight, node.where)
    if bias is not None:
        chain.shift(bias, node.where)


def _rms_norm(chain: Chain, node: Node) -> None:
    if node.attributes["axis"] not in (1, -1):
        raise UnsupportedOperatorError(f"{node.where}: only axis 1 is supported")
    chain.normalize(node.attributes["epsilon"], node.where, centred=False)
    weight = node.constant(1)
    if weight is not None:
        chain.scale(weight, node.where)


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
    "Abs": Operator(_simple("abs")),
    "Add": Operator(_add, (2, 2), either_side=True),
    "BatchNormalization": Operator(
        _batch_norm, (5, 5), {"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0, "spatial": 1}
    ),
    "Cast": Operator(_cast, attributes={"to": 0, "saturate": 1, "round_mode": "up"}),
    "Clip": Operator(_clip, (1, 3), {"min": -np.inf, "max": np.inf}),
    "Div": Operator(_div, (2, 2), either_side=True),
    "Dropout": Operator(_dropout, (1, 3), {"ratio": 0.5, "seed": 0}),
    "Elu": Operator(_simple("elu", "alpha"), attributes={"alpha": 1.0}),
    "Erf": Operator(_simple("erf")),
    "Exp": Operator(_simple("exp")),
    "Flatten": Operator(_flatten, attributes={"axis": 1}),
    "Gelu": Operator(_gelu, attributes={"approximate": "none"}),
    "Gemm": Operator(_gemm, (2, 3), {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}),
    "HardSigmoid": Operator(_simple("hardsigmoid", "alpha", "beta"), attributes={"alpha": 0.2, "beta": 0.5}),
    "HardSwish": Operator(_simple("hardswish")),
    "Identity": Operator(_identity),
    "LayerNormalization": Operator(_layer_norm, (2, 3), {"axis": -1, "epsilon": 1e-5, "stash_type": 1}),
    "LeakyRelu": Operator(_leaky_relu, attributes={"alpha": 0.01}),
    "Log": Operator(_simple("log")),
    "MatMul": Operator(_matmul, (2, 2), either_side=True),
    "Mish": Operator(_simple("mish")),
    "Mul": Operator(_mul, (2, 2), either_side=True),
    "Neg": Operator(_neg),
    "PRelu": Operator(_prelu, (2, 2)),
    "Pow": Operator(_power, (2, 2)),
    "RMSNormalization": Operator(_rms_norm, (2, 2), {"axis": -1, "epsilon": 1e-5, "stash_type": 1}),
    "Relu": Operator(_relu),
    "Reshape": Operator(_reshape, (2, 2), {"allowzero": 0}),
    "Selu": Operator(_selu, attributes={"alpha": 1.67326, "gamma": 1.0507}),
    "Sigmoid": Operator(_simple("sigmoid")),
    "Softmax": Operator(_softmax, attributes={"axis": -1}),
    "Softplus": Operator(lambda chain, node: chain.elementwise("softplus", node.where, 1.0, np.inf)),
    "Softsign": Operator(_simple("softsign")),
    "Squeeze": Operator(_squeeze, (1, 2), {"axes": []}),
    "Sub": Operator(_sub, (2, 2), either_side=True),
    "Tanh": Operator(_simple("tanh")),
}
