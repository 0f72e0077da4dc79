"""Builds a function one op at a time, in executed order, and refuses what does not fit.

Values may branch and join: a reader keeps the `Value` of each name, and goes back to one before it appends to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skipml.activations import Kind
from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.graph import (
    Add,
    Concat,
    Elementwise,
    Graph,
    Multiply,
    Node,
    Normalize,
    Operator,
    PRelu,
    Subtract,
    Take,
    network_of_graph,
)
from skipml.linked import Linked
from skipml.links import Link
from skipml.network import Affine, Array, Divide, LeakyRelu, Network, Scale, Shift

Constant = NDArray[np.generic]
Built = Network | Graph | Linked


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the graph: its number, how many numbers it has per row, whether its shape is [rows]."""

    number: int
    width: int
    flat: bool


@dataclass(slots=True)
class Chain:
    """The nodes read so far and the value that flows; `where` in every method names the operator for messages.

    The value that flows has shape [rows, width], or [rows] while `flat` (width 1 only). Constants are not folded into
    each other: each fold is a rounding that the executed graph does not have.
    """

    n_inputs: int
    dtype: np.dtype[np.floating]
    nodes: list[Node] = field(default_factory=list)
    number: int = 0
    width: int = 0
    flat: bool = False
    has_cast: bool = False
    softmaxes: dict[int, tuple[int, str]] = field(default_factory=dict)
    """The values that are a softmax of another, and where; their nodes stand for it."""

    def __post_init__(self) -> None:
        self.width = self.n_inputs

    @property
    def value(self) -> Value:
        """The value that flows now."""
        return Value(self.number, self.width, self.flat)

    def go(self, value: Value) -> None:
        """Let another value flow."""
        self.number, self.width, self.flat = value.number, value.width, value.flat

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
        checked, width = self._finite(weight, where), self.width
        self.width = weight.shape[0]
        offset = np.zeros(self.width, self.dtype) if bias is None else self._vector(bias, where)
        self.width = width
        self._append(Affine(checked, offset), weight.shape[0], where)

    def scale(self, factor: Constant, where: str) -> None:
        """Append x * factor, factor broadcastable to [width]."""
        self._append(Scale(self._vector(factor, where)), self.width, where)

    def negate(self) -> None:
        """Append x * -1, which is exact."""
        self._append(Scale(np.full(self.width, -1, self.dtype)), self.width, "negation")

    def shift(self, offset: Constant, where: str) -> None:
        """Append x + offset, offset broadcastable to [width]."""
        self._append(Shift(self._vector(offset, where)), self.width, where)

    def unshift(self, offset: Constant, where: str) -> None:
        """Append x - offset, offset broadcastable to [width]."""
        self._append(Shift(-self._vector(offset, where)), self.width, where)

    def divide(self, divisor: Constant, where: str) -> None:
        """Append x / divisor, divisor broadcastable to [width] and nowhere zero."""
        checked = self._vector(divisor, where)
        if not checked.all():
            raise ModelError(f"{where}: divides by zero; export the model with a divisor that is not zero")
        self._append(Divide(checked), self.width, where)

    def leaky_relu(self, slope: float, where: str) -> None:
        """Append a LeakyRelu; with a slope outside of [0, 1] it is a PRelu."""
        if not np.isfinite(slope):
            raise UnsupportedOperatorError(f"{where}: a slope of {slope} is no number")
        if not 0 <= slope <= 1:
            self.prelu(np.full(self.width, slope, self.dtype), where)
        else:
            self._append(LeakyRelu(slope), self.width, where)

    def prelu(self, slope: Constant, where: str) -> None:
        """Append a PRelu, slope broadcastable to [width]."""
        self._append(PRelu(self._vector(slope, where)), self.width, where)

    def elementwise(self, kind: Kind, where: str, *parameters: float) -> None:
        """Append an elementwise function."""
        self._append(Elementwise(kind, tuple(map(float, parameters))), self.width, where)

    def normalize(self, epsilon: float, where: str, *, centred: bool) -> None:
        """Append the normalisation of each row."""
        if self.flat:
            raise ModelError(f"{where}: normalises a one-dimensional value, which would mix rows")
        self._append(Normalize(float(epsilon), centred), self.width, where)

    def batch_norm(self, parts: Sequence[Constant | None], epsilon: float, where: str) -> None:
        """Append (x - mean) * factor + offset; parts are weight, bias, mean and variance, any but the last two None."""
        weight, bias, mean, variance = parts
        if mean is None or variance is None:
            raise UnsupportedOperatorError(f"{where}: has no mean and variance of its own; train it with them")
        self.unshift(mean, where)
        with np.errstate(all="ignore"):
            factor = 1 / np.sqrt(self._vector(variance, where).astype(np.float64) + epsilon)
            if weight is not None:
                factor *= self._vector(weight, where)
            self.scale(factor.astype(self.dtype), where)
        if bias is not None:
            self.shift(bias, where)

    def take(self, positions: Sequence[int], where: str) -> None:
        """Append the choice of some of the numbers."""
        if self.flat or not positions:
            raise ModelError(f"{where}: takes nothing, or some of the rows; take columns of a value [rows, width]")
        self._append(Take(tuple(positions)), len(positions), where)

    def softmax(self, where: str) -> None:
        """Append a softmax over the numbers of a row, which must be the end."""
        if self.flat or self.width < 2:
            raise ModelError(f"{where}: a softmax of one number per row is always 1; use a sigmoid")
        before = self.number
        self._append(Take(tuple(range(self.width))), self.width, where)
        self.softmaxes[self.number] = before, where

    def join(self, op: Add | Subtract | Multiply, other: Value, where: str) -> None:
        """Append an op on the value that flows and another of the same width; one of one number is repeated."""
        mine = self.value
        if mine.flat != other.flat:
            raise ModelError(f"{where}: joins a value of shape [rows] with one of shape [rows, width]")
        if mine.width == 1 < other.width:
            self.take([0] * other.width, where)
            mine = self.value
        elif other.width == 1 < mine.width:
            self.go(other)
            self.take([0] * mine.width, where)
            other = self.value
        if mine.width != other.width:
            raise ModelError(f"{where}: values of {mine.width} and {other.width} numbers do not fit each other")
        self.go(mine)
        if isinstance(op, Multiply):
            self._multiply(mine, other, where)
        else:
            self._append(op, mine.width, where, mine.number, other.number)

    def divide_by(self, other: Value, where: str) -> None:
        """Append the quotient of two values: x / (1 + |x|) is Softsign, no other is bounded."""
        shifted = self._at(other.number)
        if shifted is not None and isinstance(shifted.op, Shift) and (shifted.op.offset == 1).all():
            inner = self._at(shifted.inputs[0])
            if inner is not None and inner.op == Elementwise("abs") and inner.inputs == (self.number,):
                self.elementwise("softsign", where)
                return
        raise UnsupportedOperatorError(
            f"{where}: a quotient of two computed values is not supported, but x / (1 + |x|)"
        )

    def concat(self, values: Sequence[Value], where: str) -> None:
        """Append values one behind the other."""
        if any(value.flat for value in values):
            raise ModelError(f"{where}: puts rows behind each other; concatenate values of shape [rows, width]")
        self._append(Concat(), sum(value.width for value in values), where, *(value.number for value in values))

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
        if dtype is None or self.nodes or self.has_cast:
            raise UnsupportedOperatorError(
                f"{where}: only a cast of the input to float32 or float64 is supported; keep one type throughout"
            )
        self.dtype, self.has_cast = dtype, True

    def built(self) -> Built:
        """What computes the value that flows: a Network where a chain of its ops does, with a sigmoid or softmax at the
        end behind it.
        """
        last, link = self._at(self.number), None
        if self.number in self.softmaxes:
            self.go(Value(self.softmaxes[self.number][0], self.width, self.flat))
            link = Link("softmax")
        elif last is not None and last.op == Elementwise("sigmoid"):
            self.go(Value(last.inputs[0], self.width, self.flat))
            link = Link("logistic")
        graph = Graph(self.n_inputs, self.dtype, self._needed())
        network = network_of_graph(graph)
        return network if link is None else Linked(network, link)

    def _needed(self) -> tuple[Node, ...]:
        """The nodes that the value that flows depends on, numbered anew."""
        needed, todo = {0}, [self.number]
        while todo:
            number = todo.pop()
            if number not in needed:
                needed.add(number)
                if number in self.softmaxes:
                    raise UnsupportedOperatorError(
                        f"{self.softmaxes[number][1]}: a softmax is supported at the end only; compare margins instead"
                    )
                todo += self.nodes[number - 1].inputs
        order = sorted(needed)
        renamed = {number: i for i, number in enumerate(order)}
        chosen = [self.nodes[number - 1] for number in order[1:]]
        return tuple(Node(node.op, tuple(renamed[i] for i in node.inputs)) for node in chosen)

    def _append(self, op: Operator, width: int, where: str, *inputs: int) -> None:
        read = inputs or (self.number,)
        self.nodes.append(Node(op, read))
        self.number, self.width = len(self.nodes), width
        self.flat = self.flat and width == 1

    def _at(self, number: int) -> Node | None:
        """The node that gives a value, None for the input."""
        return self.nodes[number - 1] if number else None

    def _multiply(self, one: Value, other: Value, where: str) -> None:
        """A product of two values; x sigmoid(x) and x (1 + erf(x / sqrt 2)) are bounded as what they are."""
        for value, gate in ((one, other), (other, one)):
            node = self._at(gate.number)
            if node is not None and node.op == Elementwise("sigmoid") and node.inputs == (value.number,):
                self.go(value)
                self.elementwise("silu", where)
                return
            if self._is_erf_gate(node, value.number):
                self.go(value)
                self.elementwise("gelu", where)
                self.scale(np.asarray(2, self.dtype), where)
                return
        self.go(one)
        if one.number == other.number:
            self.elementwise("square", where)
        else:
            self._append(Multiply(), one.width, where, one.number, other.number)

    def _is_erf_gate(self, node: Node | None, number: int) -> bool:
        """Whether a node is 1 + erf(x / sqrt 2) of a value."""
        if node is None or not isinstance(node.op, Shift) or not (node.op.offset == 1).all():
            return False
        inner = self._at(node.inputs[0])
        if inner is None or inner.op != Elementwise("erf"):
            return False
        scaled = self._at(inner.inputs[0])
        if scaled is None or scaled.inputs != (number,):
            return False
        root = self.dtype.type(np.sqrt(2.0))
        if isinstance(scaled.op, Divide):
            return bool((scaled.op.divisor == root).all())
        return isinstance(scaled.op, Scale) and bool((scaled.op.factor == self.dtype.type(np.sqrt(0.5))).all())

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
