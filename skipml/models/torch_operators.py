"""One function per torch operator that reads one computed value: it appends to the chain what the node does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from skipml.activations import Kind
from skipml.errors import UnsupportedOperatorError
from skipml.models.chain import Chain, Constant

if TYPE_CHECKING:
    import torch
    from torch.fx import Node


def operator_name(node: Node) -> str:
    """`add` for torch.ops.aten.add_.Tensor: the variant in place does the same to a value that nothing else reads."""
    schema = getattr(node.target, "_schema", None)
    return (
        str(schema.name).removeprefix("aten::").removesuffix("_")
        if schema
        else getattr(node.target, "__name__", str(node.target))
    )


def where_is(node: Node) -> str:
    """The operator and the submodule it belongs to, for messages."""
    modules: list[tuple[str, str]] = list((node.meta.get("nn_module_stack") or {}).values())
    if not modules or not modules[-1][0]:
        return operator_name(node)
    path, kind = modules[-1]
    return f"{operator_name(node)} in module {path!r} ({kind.rpartition('.')[2]})"


class Call:
    """A node that reads the current value, at `position`; its other arguments are constants."""

    def __init__(self, node: Node, current: Node, constants: dict[Node, torch.Tensor]) -> None:
        target: Any = node.target
        self.where = where_is(node)
        self.position = node.args.index(current)
        self.arguments = node.args
        self.keywords = node.kwargs
        self.shape = tuple(node.meta["val"].shape)
        self._constants = constants
        if target._schema.is_mutable and self.position != 0:
            raise self.unsupported("changes a buffer")

    def unsupported(self, reason: str) -> UnsupportedOperatorError:
        """The error for a form of the operator that no Network has."""
        return UnsupportedOperatorError(f"{self.where}: {reason}, which is not supported")

    def argument(self, index: int, default: Any = None) -> Any:
        """An argument as it is, or its default."""
        return self.arguments[index] if index < len(self.arguments) else default

    def constant(self, index: int, chain: Chain) -> Constant | None:
        """A number or tensor in the type of the chain, to which torch converts it too; None where there is none."""
        value = self.argument(index)
        if value is None:
            return None
        if not isinstance(value, int | float):
            if value not in self._constants:
                raise self.unsupported("depends on the number of rows")
            value = self._constants[value].detach().cpu().numpy()
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(chain.dtype)

    def operand(self, chain: Chain) -> Constant:
        """The other operand of an operator with two."""
        constant = self.constant(1 - self.position, chain)
        if (
            constant is None
            or len(self.arguments) > 2
            or any(value not in (1, None) for value in self.keywords.values())
        ):
            raise self.unsupported("has an alpha or a rounding mode")
        return constant


def _linear(chain: Chain, call: Call) -> None:
    weight = call.constant(1, chain)
    if weight is None or call.position != 0:
        raise call.unsupported("multiplies constant inputs by a computed weight")
    chain.affine(weight, call.constant(2, chain), call.where)


def _matmul(chain: Chain, call: Call) -> None:
    weight = call.operand(chain)
    if call.position != 0 or weight.ndim not in (1, 2):
        raise call.unsupported("is no product x @ W with a constant matrix W on the right")
    chain.affine(weight.T if weight.ndim == 2 else weight[None, :], None, call.where)
    chain.flat = weight.ndim == 1


def _addmm(chain: Chain, call: Call) -> None:
    weight = call.constant(2, chain)
    if (
        weight is None
        or call.position != 1
        or len(call.arguments) > 3
        or any(value != 1 for value in call.keywords.values())
    ):
        raise call.unsupported("is no b + x @ W with constants b and W")
    chain.affine(weight.T, call.constant(0, chain), call.where)


def _add(chain: Chain, call: Call) -> None:
    chain.shift(call.operand(chain), call.where)


def _sub(chain: Chain, call: Call) -> None:
    constant = call.operand(chain)
    if call.position == 0:
        chain.unshift(constant, call.where)
    else:
        chain.negate()
        chain.shift(constant, call.where)


def _rsub(chain: Chain, call: Call) -> None:
    chain.negate()
    chain.shift(call.operand(chain), call.where)


def _mul(chain: Chain, call: Call) -> None:
    chain.scale(call.operand(chain), call.where)


def _div(chain: Chain, call: Call) -> None:
    if call.position != 0:
        raise call.unsupported("divides a constant by a computed value")
    chain.divide(call.operand(chain), call.where)


def _neg(chain: Chain, call: Call) -> None:
    chain.negate()


def _relu(chain: Chain, call: Call) -> None:
    chain.leaky_relu(0.0, call.where)


def _leaky_relu(chain: Chain, call: Call) -> None:
    chain.leaky_relu(float(call.argument(1, 0.01)), call.where)


def _simple(kind: Kind, *parameters: float) -> Callable[[Chain, Call], None]:
    """An elementwise function without arguments."""

    def append(chain: Chain, call: Call) -> None:
        if len(call.arguments) > 1 or call.keywords:
            raise call.unsupported("has arguments")
        chain.elementwise(kind, call.where, *parameters)

    return append


def _clamp(chain: Chain, call: Call) -> None:
    low, high = (call.argument(i, call.keywords.get(name)) for i, name in ((1, "min"), (2, "max")))
    if any(limit is not None and not isinstance(limit, int | float) for limit in (low, high)):
        raise call.unsupported("has computed limits")
    if low == 0 and high is None:
        chain.leaky_relu(0.0, call.where)
    else:
        chain.elementwise("clip", call.where, *_limits(chain, low, high))


def _clamp_max(chain: Chain, call: Call) -> None:
    chain.elementwise("clip", call.where, *_limits(chain, None, call.argument(1)))


def _limits(chain: Chain, low: Any, high: Any) -> tuple[float, float]:
    """Limits as torch rounds them."""
    pair = (-np.inf if low is None else low, np.inf if high is None else high)
    return float(chain.dtype.type(pair[0])), float(chain.dtype.type(pair[1]))


def _hardtanh(chain: Chain, call: Call) -> None:
    chain.elementwise("clip", call.where, *_limits(chain, call.argument(1, -1.0), call.argument(2, 1.0)))


def _gelu(chain: Chain, call: Call) -> None:
    kinds: dict[str, Kind] = {"none": "gelu", "tanh": "gelu_tanh"}
    chain.elementwise(kinds[str(call.keywords.get("approximate", "none"))], call.where)


def _elu(chain: Chain, call: Call) -> None:
    if any(call.argument(i, 1) != 1 for i in (2, 3)):
        raise call.unsupported("scales its input or output")
    chain.elementwise("elu", call.where, float(call.argument(1, 1.0)))


def _softplus(chain: Chain, call: Call) -> None:
    chain.elementwise("softplus", call.where, float(call.argument(1, 1)), float(call.argument(2, 20)))


def _log_sigmoid(chain: Chain, call: Call) -> None:
    chain.negate()
    chain.elementwise("softplus", call.where, 1.0, np.inf)
    chain.negate()


def _prelu(chain: Chain, call: Call) -> None:
    slope = call.constant(1, chain)
    if slope is None or call.position != 0:
        raise call.unsupported("has a computed slope")
    chain.prelu(slope, call.where)


def _pow(chain: Chain, call: Call) -> None:
    if call.argument(1) != 2:
        raise call.unsupported("takes another power than 2")
    chain.elementwise("square", call.where)


def _softmax(chain: Chain, call: Call) -> None:
    if call.argument(1) not in (1, -1):
        raise call.unsupported("mixes rows")
    chain.softmax(call.where)


def _batch_norm(chain: Chain, call: Call) -> None:
    if call.argument(5):
        raise call.unsupported("is in training mode")
    chain.batch_norm([call.constant(i, chain) for i in (1, 2, 3, 4)], float(call.argument(7, 1e-5)), call.where)


def _layer_norm(chain: Chain, call: Call) -> None:
    _whole_row(chain, call)
    chain.normalize(float(call.argument(4, 1e-5)), call.where, centred=True)
    _weighted(chain, call, 2, 3)


def _rms_norm(chain: Chain, call: Call) -> None:
    _whole_row(chain, call)
    epsilon = call.argument(3)
    chain.normalize(float(np.finfo(chain.dtype).eps) if epsilon is None else float(epsilon), call.where, centred=False)
    _weighted(chain, call, 2)


def _group_norm(chain: Chain, call: Call) -> None:
    if call.argument(1) != 1:
        raise call.unsupported("has several groups")
    chain.normalize(float(call.argument(4, 1e-5)), call.where, centred=True)
    _weighted(chain, call, 2, 3)


def _whole_row(chain: Chain, call: Call) -> None:
    if list(call.argument(1)) != [chain.width]:
        raise call.unsupported("normalises another shape than the row's")


def _weighted(chain: Chain, call: Call, weight: int, bias: int | None = None) -> None:
    factor, offset = call.constant(weight, chain), None if bias is None else call.constant(bias, chain)
    if factor is not None:
        chain.scale(factor, call.where)
    if offset is not None:
        chain.shift(offset, call.where)


def _dropout(chain: Chain, call: Call) -> None:
    if call.argument(2):
        raise call.unsupported("drops values at random even in eval mode")


def _reshape(chain: Chain, call: Call) -> None:
    chain.reshape(call.shape[1:], call.where)


def _slice(chain: Chain, call: Call) -> None:
    dim, start, end, step = (call.argument(i, default) for i, default in ((1, 0), (2, 0), (3, _FULL), (4, 1)))
    if not all(isinstance(x, int | None) for x in (dim, start, end, step)):
        raise call.unsupported("takes a part that depends on the number of rows")
    if dim in (1, -1) and not chain.flat:
        chosen = range(chain.width)[start:end:step]
        if len(chosen) < chain.width:
            chain.take(chosen, call.where)
    elif start or (end is not None and end < _FULL) or step != 1:
        raise call.unsupported("takes a part of the rows")


def _select(chain: Chain, call: Call) -> None:
    if chain.flat or call.argument(1) not in (1, -1):
        raise call.unsupported("takes one of the rows")
    if chain.width > 1:
        chain.take([range(chain.width)[call.argument(2)]], call.where)
    chain.reshape((), call.where)


def _same(chain: Chain, call: Call) -> None:
    chain.reshape(call.shape[1:], call.where)


_FULL = 2**63 - 1
OPERATORS: dict[str, Callable[[Chain, Call], None]] = {
    "abs": _simple("abs"),
    "add": _add,
    "addmm": _addmm,
    "alias": _same,
    "batch_norm": _batch_norm,
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp,
    "clone": _same,
    "contiguous": _same,
    "detach": _same,
    "div": _div,
    "dropout": _dropout,
    "elu": _elu,
    "erf": _simple("erf"),
    "exp": _simple("exp"),
    "flatten": _reshape,
    "gelu": _gelu,
    "group_norm": _group_norm,
    "hardsigmoid": _simple("hardsigmoid", 1 / 6, 0.5),
    "hardswish": _simple("hardswish"),
    "hardtanh": _hardtanh,
    "layer_norm": _layer_norm,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "log": _simple("log"),
    "log_sigmoid": _log_sigmoid,
    "matmul": _matmul,
    "mish": _simple("mish"),
    "mm": _matmul,
    "mul": _mul,
    "neg": _neg,
    "pow": _pow,
    "prelu": _prelu,
    "relu": _relu,
    "relu6": _simple("clip", 0.0, 6.0),
    "reshape": _reshape,
    "rms_norm": _rms_norm,
    "rsub": _rsub,
    "select": _select,
    "selu": _simple("selu"),
    "sigmoid": _simple("sigmoid"),
    "silu": _simple("silu"),
    "slice": _slice,
    "softmax": _softmax,
    "softplus": _softplus,
    "square": _simple("square"),
    "squeeze": _reshape,
    "sub": _sub,
    "tanh": _simple("tanh"),
    "to": _same,
    "unsqueeze": _reshape,
    "view": _reshape,
}
