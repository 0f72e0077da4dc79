"""The op graph of a network whose values branch and join, in the order it is executed, and its forward pass.

What a `Network` can express is one; this is for everything else: other activations, residual connections,
normalisation. Value 0 is the input, value k what the k-th node gives; the last one is the output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.activations import Kind, curve
from skipml.errors import ModelError
from skipml.function import columns_of
from skipml.network import (
    LANES,
    Affine,
    Array,
    Divide,
    LeakyRelu,
    Network,
    Op,
    Scale,
    Shift,
    constants_of,
    usable_lanes,
)

_SLAB_BYTES = 1 << 20
_MIN_OUTPUTS = 2
_MACS_OF_ELEMENTWISE = 60
"""What an elementwise function of float64 numbers takes in numpy, in multiply-accumulates."""


@dataclass(frozen=True, slots=True)
class Elementwise:
    """y = f(x) of every number; see `activations`."""

    kind: Kind
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PRelu:
    """y = x where x >= 0, else slope * x, slope [n]; NaN stays NaN."""

    slope: Array


@dataclass(frozen=True, slots=True)
class Add:
    """y = a + b."""


@dataclass(frozen=True, slots=True)
class Subtract:
    """y = a - b."""


@dataclass(frozen=True, slots=True)
class Multiply:
    """y = a * b."""


@dataclass(frozen=True, slots=True)
class Concat:
    """One value behind the other."""


@dataclass(frozen=True, slots=True)
class Take:
    """Some of the numbers, by their positions."""

    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Normalize:
    """y = c / sqrt(mean(c^2) + epsilon) over the n numbers of a row, c = x - mean(x) if `centred`, else x: what
    LayerNorm and RMSNorm do before their weights.
    """

    epsilon: float
    centred: bool


Operator = (
    Affine
    | Scale
    | Divide
    | Shift
    | LeakyRelu
    | Elementwise
    | PRelu
    | Add
    | Subtract
    | Multiply
    | Concat
    | Take
    | Normalize
)
PAIRS = (Add, Subtract, Multiply)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An op and the values that it reads."""

    op: Operator
    inputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes executed one after the other in `dtype` (float32 or float64), the finite weights stored in it too.

    Elementwise functions are computed in float64 and rounded. Raises ModelError, with the index of the node, where
    shapes do not fit or a constant is not usable.
    """

    n_inputs: int
    dtype: np.dtype[np.floating]
    nodes: tuple[Node, ...]
    widths: tuple[int, ...] = field(init=False, repr=False)
    """Of each value, that of the input first."""

    def __post_init__(self) -> None:
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ModelError(f"a network computes in float32 or float64, not {self.dtype}; convert its weights")
        if self.n_inputs < 1:
            raise ModelError(f"a network needs at least one input, not {self.n_inputs}")
        widths = [self.n_inputs]
        for index, node in enumerate(self.nodes):
            if not node.inputs or any(not 0 <= i <= index for i in node.inputs):
                raise ModelError(f"node {index} reads values {node.inputs}, but there are {index + 1} before it")
            where = f"node {index} ({type(node.op).__name__})"
            widths.append(_checked_width(where, node.op, [widths[i] for i in node.inputs], self.dtype))
        object.__setattr__(self, "widths", tuple(widths))

    @property
    def n_outputs(self) -> int:
        """The width of the last value."""
        return self.widths[-1]

    @property
    def input_dtype(self) -> np.dtype[np.floating]:
        """Inputs are cast to the type that everything is computed in."""
        return self.dtype

    @property
    def takes_nan(self) -> bool:
        """NaN propagates."""
        return False

    @property
    def macs(self) -> int:
        """Multiply-accumulates per row, or as many as take the time of what is done instead."""
        found = 0
        for node, width in zip(self.nodes, self.widths[1:], strict=True):
            op = node.op
            is_function = isinstance(op, Elementwise | Normalize)
            found += op.weight.size if isinstance(op, Affine) else width * (_MACS_OF_ELEMENTWISE if is_function else 4)
        return found

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of everything the outputs depend on: dtype, nodes in order, shapes, constants."""
        digest = hashlib.sha256(f"graph {self.dtype.name} {self.n_inputs}".encode())
        for node in self.nodes:
            digest.update(f";{node.inputs}{type(node.op).__name__}".encode())
            if isinstance(node.op, Elementwise | Take | Normalize):
                digest.update(repr(node.op).encode())
            for constant in _constants(node.op):
                digest.update(f",{constant.shape}".encode())
                digest.update(constant.astype(constant.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    @cached_property
    def _weights(self) -> dict[int, Array]:
        """The matrices, of at least two rows."""
        found = {}
        for k, node in enumerate(self.nodes):
            if isinstance(node.op, Affine):
                weight = node.op.weight
                found[k] = np.pad(weight, ((0, max(0, _MIN_OUTPUTS - len(weight))), (0, 0)))
        return found

    @cached_property
    def _last_use(self) -> tuple[int, ...]:
        """The last node that reads each value, so that memory is let go of."""
        last = [len(self.nodes)] * (len(self.nodes) + 1)
        for k, node in reversed(list(enumerate(self.nodes))):
            for i in node.inputs:
                if last[i] == len(self.nodes) and i < len(self.nodes):
                    last[i] = k
        return tuple(last)

    def forward(self, x: ArrayLike) -> Array:
        """The outputs for each row: x [n, n_inputs] -> [n, n_outputs] in `dtype`.

        A row's outputs depend on nothing but the row, bit for bit: rows are the columns of matrix products of fixed
        shape, everything else is computed number by number. NaN and infinity propagate as in IEEE arithmetic.
        """
        return self.forward_columns(columns_of(x, self.n_inputs))

    def forward_columns(self, columns: Sequence[Array]) -> Array:
        """The same for rows given as one array [n] per input."""
        used = usable_lanes(self.dtype, tuple(weight.shape for weight in self._weights.values()))
        slab = used * max(1, _SLAB_BYTES // (max(self.widths) * self.dtype.itemsize * LANES))
        n = len(columns[0])
        out = np.empty((n, self.n_outputs), self.dtype)
        with np.errstate(all="ignore"):
            for start in range(0, n, slab):
                part = [np.asarray(column[start : start + slab]) for column in columns]
                size = len(part[0])
                y = self._blocks(_to_blocks(part, used, self.dtype))
                rows = y[:, :, :used].transpose(0, 2, 1).reshape(-1, self.n_outputs)
                np.add(rows[:size], self.dtype.type(0), out=out[start : start + size])  # -0.0 becomes 0.0
        return out

    def _blocks(self, x: Array) -> Array:
        """Blocks [n, n_inputs, LANES] -> [n, n_outputs, LANES]."""
        values: list[Array | None] = [x]
        for k, node in enumerate(self.nodes):
            read = [value for i in node.inputs if (value := values[i]) is not None]
            values.append(_apply(node.op, read, self._weights.get(k)))
            for i in node.inputs:
                if self._last_use[i] == k:
                    values[i] = None
        last = values[-1]
        assert last is not None
        return last


def network_of_graph(graph: Graph) -> Network | Graph:
    """The Network of a graph that is a chain of the ops that one has, else the graph itself."""
    found: list[Op] = []
    for k, node in enumerate(graph.nodes):
        if node.inputs != (k,) or not isinstance(node.op, Affine | Scale | Divide | Shift | LeakyRelu):
            return graph
        found.append(node.op)
    return Network(graph.n_inputs, graph.n_outputs, graph.dtype, tuple(found))


def _constants(op: Operator) -> tuple[Array, ...]:
    if isinstance(op, PRelu):
        return (op.slope,)
    return constants_of(op) if isinstance(op, Affine | Scale | Divide | Shift | LeakyRelu) else ()


def _checked_width(  # noqa: PLR0912 one case per op
    where: str, op: Operator, widths: Sequence[int], dtype: np.dtype[np.floating]
) -> int:
    """The width behind `op`, given those of what it reads."""
    width = widths[0]
    if isinstance(op, PAIRS) and (len(widths) != 2 or widths[0] != widths[1]):
        raise ModelError(f"{where}: values of {list(widths)} numbers do not fit each other")
    if not isinstance(op, (*PAIRS, Concat)) and len(widths) != 1:
        raise ModelError(f"{where}: reads {len(widths)} values, not one")
    for constant in () if isinstance(op, LeakyRelu) else _constants(op):
        if constant.dtype != dtype:
            raise ModelError(f"{where}: constants are {constant.dtype}, the network computes in {dtype}")
        if not np.isfinite(constant).all():
            raise ModelError(f"{where}: a weight is NaN or infinite; train or export the model again")
    match op:
        case Affine(weight, bias):
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1] or not weight.size:
                raise ModelError(f"{where}: weight {weight.shape} and bias {bias.shape} do not fit {width} inputs")
            return int(weight.shape[0])
        case Scale(vector) | Divide(vector) | Shift(vector) | PRelu(vector):
            if vector.shape != (width,) or (isinstance(op, Divide) and not vector.all()):
                raise ModelError(f"{where}: a constant of shape {vector.shape} does not fit {width} values, or is zero")
        case LeakyRelu(slope):
            if not 0 <= slope <= 1:
                raise ModelError(f"{where}: the slope must be between 0 and 1, not {slope}")
        case Elementwise(kind, parameters):
            _check_parameters(where, kind, parameters)
        case Normalize(epsilon):
            if not 2.0**-60 <= epsilon < 1e30:
                raise ModelError(f"{where}: epsilon must be above 0, at least 2^-60, not {epsilon}")
        case Take(positions):
            if not positions or any(not 0 <= i < width for i in positions):
                raise ModelError(f"{where}: takes positions {positions} of {width} values")
            return len(positions)
        case Concat():
            return sum(widths)
    return width


def _check_parameters(where: str, kind: Kind, parameters: tuple[float, ...]) -> None:
    n_parameters = {"elu": 1, "clip": 2, "hardsigmoid": 2, "softplus": 2}.get(kind, 0)
    if len(parameters) != n_parameters or np.isnan(parameters).any():
        raise ModelError(f"{where}: {kind} takes {n_parameters} numbers, not {parameters}")
    if kind in ("elu", "hardsigmoid", "softplus") and not 1e-3 <= parameters[0] <= 1e3:
        raise ModelError(f"{where}: the parameter of {kind} must be between 0.001 and 1000, not {parameters[0]}")
    if kind == "hardsigmoid" and not abs(parameters[1]) <= 1e3:
        raise ModelError(f"{where}: the offset of {kind} must be between -1000 and 1000, not {parameters[1]}")
    if kind == "clip" and not parameters[0] <= parameters[1]:
        raise ModelError(f"{where}: clips to a range that ends before it begins")


def _to_blocks(columns: Sequence[Array], used: int, dtype: np.dtype[np.floating]) -> Array:
    """Columns [n] as blocks [ceil(n / used), d, LANES], `used` rows side by side, zeros in what is left."""
    n = len(columns[0])
    blocks = np.zeros((-(-n // used), len(columns), LANES), dtype)
    whole = n // used
    for i, column in enumerate(columns):
        blocks[:whole, i, :used] = column[: whole * used].reshape(whole, used)
        if whole < len(blocks):
            blocks[whole, i, : n - whole * used] = column[whole * used :]
    return blocks


def _apply(op: Operator, read: Sequence[Array], weight: Array | None) -> Array:  # noqa: PLR0912 one case per op
    """One op on blocks [n, width, LANES]; what it reads stays as it is."""
    h = read[0]
    match op:
        case Affine(own, bias):
            assert weight is not None
            return np.asarray(np.matmul(weight, h)[:, : len(own)] + bias[:, None])
        case Scale(vector):
            return h * vector[:, None]
        case Divide(vector):
            return h / vector[:, None]
        case Shift(vector):
            return h + vector[:, None]
        case LeakyRelu(slope):
            return np.asarray(np.maximum(h, h * h.dtype.type(slope) if slope else np.zeros_like(h)))
        case PRelu(vector):
            return np.where(h < 0, h * vector[:, None], h)
        case Elementwise(kind, parameters):
            found: Array = curve(kind, parameters).value(np.ascontiguousarray(h, np.float64)).astype(h.dtype)
            return found
        case Add():
            return np.asarray(h + read[1])
        case Subtract():
            return np.asarray(h - read[1])
        case Multiply():
            return np.asarray(h * read[1])
        case Concat():
            return np.concatenate(read, axis=1)
        case Take(positions):
            return np.ascontiguousarray(h[:, list(positions)])
        case Normalize(epsilon, centred):
            return _normalized(h.astype(np.float64), epsilon, centred).astype(h.dtype)


def _normalized(x: NDArray[np.float64], epsilon: float, centred: bool) -> NDArray[np.float64]:
    n = x.shape[1]
    centre = x - (_summed(x) / n)[:, None] if centred else x
    return np.asarray(centre / np.sqrt(_summed(centre * centre) / n + epsilon)[:, None])


def _summed(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums [n, LANES] over the second axis, in its order."""
    total = x[:, 0].copy()
    for k in range(1, x.shape[1]):
        total += x[:, k]
    return total
