"""One function per torch operator that reads several computed values, or writes several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.graph import Add, Multiply, Subtract
from skipml.models.chain import Chain, Value
from skipml.models.torch_operators import where_is

if TYPE_CHECKING:
    from torch.fx import Node


class JoinCall:
    """A node and the values that it reads."""

    def __init__(self, node: Node, values: Mapping[Any, Value]) -> None:
        self.where = where_is(node)
        self.arguments: Sequence[Any] = node.args
        self.keywords = node.kwargs
        self._values = values

    def unsupported(self, reason: str) -> UnsupportedOperatorError:
        """The error for a form of the operator that no graph has."""
        return UnsupportedOperatorError(f"{self.where}: {reason}, which is not supported")

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by its place or name."""
        return self.arguments[index] if index < len(self.arguments) else self.keywords.get(name, default)

    def value(self, argument: Any) -> Value:
        """A computed argument."""
        if argument not in self._values:
            raise self.unsupported("joins computed values with constants")
        return self._values[argument]

    def pair(self) -> tuple[Value, Value]:
        """Both of two computed arguments, without an alpha or a rounding mode."""
        if len(self.arguments) != 2 or any(value not in (1, None) for value in self.keywords.values()):
            raise self.unsupported("has an alpha or a rounding mode")
        return self.value(self.arguments[0]), self.value(self.arguments[1])


def _pair(op: Add | Subtract | Multiply) -> Callable[[Chain, JoinCall], Sequence[Value]]:
    def append(chain: Chain, call: JoinCall) -> Sequence[Value]:
        one, other = call.pair()
        chain.go(one)
        chain.join(op, other, call.where)
        return [chain.value]

    return append


def _divide(chain: Chain, call: JoinCall) -> Sequence[Value]:
    one, other = call.pair()
    chain.go(one)
    chain.divide_by(other, call.where)
    return [chain.value]


def _concat(chain: Chain, call: JoinCall) -> Sequence[Value]:
    if call.argument(1, "dim", 0) not in (1, -1):
        raise ModelError(f"{call.where}: puts rows behind each other; concatenate along dim 1")
    chain.concat([call.value(argument) for argument in call.arguments[0]], call.where)
    return [chain.value]


def _chunk(chain: Chain, call: JoinCall) -> Sequence[Value]:
    whole = _whole(call)
    size = -(-whole.width // int(call.argument(1, "chunks")))
    return _parts(chain, call, whole, [size] * (whole.width // size) + [whole.width % size])


def _split(chain: Chain, call: JoinCall) -> Sequence[Value]:
    whole, sizes = _whole(call), call.argument(1, "split_size")
    if isinstance(sizes, int):
        sizes = [sizes] * (whole.width // sizes) + [whole.width % sizes]
    return _parts(chain, call, whole, list(sizes))


def _whole(call: JoinCall) -> Value:
    if call.argument(2, "dim", 0) not in (1, -1):
        raise ModelError(f"{call.where}: splits rows; split along dim 1")
    return call.value(call.arguments[0])


def _parts(chain: Chain, call: JoinCall, whole: Value, sizes: Sequence[int]) -> Sequence[Value]:
    found, start = [], 0
    for size in sizes:
        if size:
            chain.go(whole)
            chain.take(range(start, start + size), call.where)
            found.append(chain.value)
            start += size
    return found


JOINS: dict[str, Callable[[Chain, JoinCall], Sequence[Value]]] = {
    "add": _pair(Add()),
    "cat": _concat,
    "chunk": _chunk,
    "div": _divide,
    "mul": _pair(Multiply()),
    "split": _split,
    "split_with_sizes": _split,
    "sub": _pair(Subtract()),
}
