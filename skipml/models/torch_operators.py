"""One function per torch operator that a Network can express: it appends to the chain what the node does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

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


def _clamp(chain: Chain, call: Call) -> None:
    if call.argument(1) != 0 or call.argument(2) is not None or call.keywords:
        raise call.unsupported("has other limits than min=0")
    chain.leaky_relu(0.0, call.where)


def _dropout(chain: Chain, call: Call) -> None:
    if call.argument(2):
        raise call.unsupported("drops values at random even in eval mode")


def _reshape(chain: Chain, call: Call) -> None:
    chain.reshape(call.shape[1:], call.where)


def _slice(chain: Chain, call: Call) -> None:
    if call.argument(2, 0) or call.argument(3, _FULL) < _FULL or call.argument(4, 1) != 1:
        raise call.unsupported("takes a part of the values")


def _select(chain: Chain, call: Call) -> None:
    if chain.flat or chain.width != 1 or call.argument(1) not in (1, -1):
        raise call.unsupported("takes one of several values")
    chain.reshape((), call.where)


def _same(chain: Chain, call: Call) -> None:
    chain.reshape(call.shape[1:], call.where)


_FULL = 2**63 - 1
OPERATORS: dict[str, Callable[[Chain, Call], None]] = {
    "add": _add,
    "addmm": _addmm,
    "alias": _same,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clone": _same,
    "contiguous": _same,
    "detach": _same,
    "div": _div,
    "dropout": _dropout,
    "flatten": _reshape,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "mul": _mul,
    "neg": _neg,
    "relu": _relu,
    "reshape": _reshape,
    "rsub": _rsub,
    "select": _select,
    "slice": _slice,
    "squeeze": _reshape,
    "sub": _sub,
    "to": _same,
    "unsqueeze": _reshape,
    "view": _reshape,
}
