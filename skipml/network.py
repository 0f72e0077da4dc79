"""The op graph of a feed-forward network, in the order it is executed, and its forward pass."""

from __future__ import annotations

import functools
import hashlib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.errors import ModelError
from skipml.function import columns_of

Array = NDArray[np.floating]

_SLAB_BYTES = 512 * 1024  # activations of one layer in one pass: they stay in the cache
LANES = 16  # columns of every matrix product: one kernel tile; wider products sum their columns in different orders
_MIN_OUTPUTS = 2  # narrower layers are padded: a vector product takes another, threaded, code path


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


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of ops executed one after the other in `dtype` (float32 or float64), the finite weights stored in it too.

    Raises ModelError, with the index of the op, where shapes do not chain or a constant is not usable.
    """

    n_inputs: int
    n_outputs: int
    dtype: np.dtype[np.floating]
    ops: tuple[Op, ...]
    _steps: tuple[tuple[Op, tuple[Array, ...], int], ...] = field(init=False, repr=False)
    _shapes: tuple[tuple[int, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ModelError(f"a network computes in float32 or float64, not {self.dtype}; convert its weights")
        if self.n_inputs < 1:
            raise ModelError(f"a network needs at least one input, not {self.n_inputs}")
        width, steps = self.n_inputs, []
        rows = width  # of the activations in memory
        last_product = max((i for i, op in enumerate(self.ops) if isinstance(op, Affine)), default=-1)
        for index, op in enumerate(self.ops):
            width = _checked_width(index, op, width, self.dtype)
            if isinstance(op, Affine):
                rows = max(width, _MIN_OUTPUTS) if index == last_product else width
            steps.append((op, _tiled(op, rows, self.dtype), rows))
        if width != self.n_outputs:
            raise ModelError(f"the last op gives {width} outputs, but the network declares {self.n_outputs}")
        object.__setattr__(self, "_steps", tuple(steps))
        object.__setattr__(self, "_shapes", tuple(c[0].shape for op, c, _ in steps if isinstance(op, Affine)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as what it is made of."""
        return type(self), (self.n_inputs, self.n_outputs, self.dtype, self.ops)

    def forward(self, x: ArrayLike) -> Array:
        """The outputs for each row: x [n, n_inputs] -> [n, n_outputs] in `dtype`.

        A row's outputs depend on nothing but the row, bit for bit, whatever the batch around it: rows are the columns
        of matrix products whose shape is fixed by the layer alone. NaN and infinity propagate as in IEEE arithmetic.
        """
        return self.forward_columns(columns_of(x, self.n_inputs))

    def forward_columns(self, columns: Sequence[Array]) -> Array:
        """The same for rows given as one array [n] per input, the form in which databases hand them over."""
        used = usable_lanes(self.dtype, self._shapes)
        widest = max(self.n_inputs, *(n_out for n_out, _ in self._shapes), _MIN_OUTPUTS) + 1
        slab = used * max(1, _SLAB_BYTES // (widest * self.dtype.itemsize * LANES))
        n = len(columns[0])
        out = np.empty((n, self.n_outputs), self.dtype)
        with np.errstate(all="ignore"):
            for start in range(0, n, slab):
                size = min(slab, n - start)
                h = _to_lanes([column[start : start + size] for column in columns], used, self.dtype)
                for depth, (op, constants, rows) in enumerate(self._steps, start=1):
                    h = _apply(op, constants, h, (depth, rows))
                y = h[:, : self.n_outputs, :used].transpose(0, 2, 1).reshape(-1, self.n_outputs)
                # -0.0 becomes 0.0: which of the two max() returns may depend on the position
                np.add(y[:size], self.dtype.type(0), out=out[start : start + size])
        return out

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
        """Multiply-accumulates per row."""
        return sum(op.weight.size if isinstance(op, Affine) else 0 for op in self.ops)

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of everything the outputs depend on: dtype, ops in order, shapes, constants."""
        digest = hashlib.sha256(f"network {self.dtype.name} {self.n_inputs} {self.n_outputs}".encode())
        for op in self.ops:
            for constant in constants_of(op):
                digest.update(f";{type(op).__name__}{constant.shape}".encode())
                digest.update(constant.astype(constant.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def constants_of(op: Op) -> tuple[Array, ...]:
    """The arrays of an op, a slope among them."""
    match op:
        case Affine(weight, bias):
            return weight, bias
        case Scale(constant) | Divide(constant) | Shift(constant):
            return (constant,)
        case LeakyRelu(slope):
            return (np.asarray(slope, np.float64),)


def _checked_width(index: int, op: Op, width: int, dtype: np.dtype[np.floating]) -> int:
    """The width after `op`, given the width before it."""
    where = f"op {index} ({type(op).__name__})"
    if isinstance(op, LeakyRelu):
        if not 0 <= op.slope <= 1:
            raise ModelError(f"{where}: the slope must be between 0 and 1, not {op.slope}")
        return width
    for constant in constants_of(op):
        if constant.dtype != dtype:
            raise ModelError(f"{where}: constants are {constant.dtype}, the network computes in {dtype}")
        if not np.isfinite(constant).all():
            raise ModelError(f"{where}: a weight is NaN or infinite; train or export the model again")
    if isinstance(op, Affine):
        fits = op.weight.ndim == 2 and op.weight.shape[1] == width and op.bias.shape == op.weight.shape[:1]
        if not fits or not op.weight.size:
            raise ModelError(f"{where}: weight {op.weight.shape} and bias {op.bias.shape} do not fit {width} inputs")
        return int(op.weight.shape[0])
    (constant,) = constants_of(op)
    if constant.shape != (width,):
        raise ModelError(f"{where}: a constant of shape {constant.shape} does not fit {width} values")
    if isinstance(op, Divide) and not constant.all():
        raise ModelError(f"{where}: a divisor is zero")
    return width


class _Scratch(threading.local):
    """Memory for activations, kept by each thread: mapping it anew costs as much as the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int, np.dtype[np.floating]], Array] = {}
        self._zeros: dict[np.dtype[np.floating], Array] = {}

    def blocks(self, depth: int, shape: tuple[int, int], dtype: np.dtype[np.floating]) -> Array:
        """Blocks [n, width + 1, LANES] for the result of op number `depth`; the row behind the values is all ones."""
        n, width = shape
        buffer = self._buffers.get((depth, width, dtype))
        if buffer is None or len(buffer) < n:
            buffer = np.ones((n, width + 1, LANES), dtype)
            self._buffers[depth, width, dtype] = buffer
        return buffer[:n]

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
        """Zeros to compare with, read-only by convention: numpy's maximum with a scalar or a row is slower."""
        size = math.prod(shape)
        buffer = self._zeros.get(dtype)
        if buffer is None or buffer.size < size:
            self._zeros[dtype] = buffer = np.zeros(size, dtype)
        return buffer[:size].reshape(shape)


_scratch = _Scratch()


def _to_lanes(columns: Sequence[Array], used: int, dtype: np.dtype[np.floating]) -> Array:
    """Columns [n] as blocks [ceil(n / used), d + 1, LANES], `used` rows side by side, zeros in what is left, and ones
    for the biases.
    """
    n = len(columns[0])
    blocks = _scratch.blocks(0, (-(-n // used), len(columns)), dtype)
    whole = n // used
    if used < LANES or whole < len(blocks):
        blocks[whole if used == LANES else 0 :, :-1] = 0
    for i, column in enumerate(columns):
        blocks[:whole, i, :used] = column[: whole * used].reshape(whole, used)
        if whole < len(blocks):
            blocks[whole, i, : n - whole * used] = column[whole * used :]
    return blocks


def _tiled(op: Op, rows: int, dtype: np.dtype[np.floating]) -> tuple[Array, ...]:
    """The constants of an op as `_apply` takes them: a weight of at least _MIN_OUTPUTS rows with the bias as a further
    column; vectors repeated over the lanes, with what leaves the rows behind the values alone.
    """
    if isinstance(op, LeakyRelu):
        return (np.full((rows + 1) * LANES, op.slope, dtype),)
    if isinstance(op, Affine):
        weight = np.column_stack([op.weight, op.bias])
        return (np.pad(weight, ((0, max(0, _MIN_OUTPUTS - len(weight))), (0, 0))),)
    (vector,) = constants_of(op)
    neutral = dtype.type(0 if isinstance(op, Shift) else 1)
    return (np.repeat(np.pad(vector, (0, rows + 1 - len(vector)), constant_values=neutral), LANES),)


def _apply(op: Op, constants: tuple[Array, ...], h: Array, place: tuple[int, int]) -> Array:
    """One op on blocks h [blocks, n_in + 1, LANES], which it may overwrite; `place` is the number of the op and of the
    rows it leaves.
    """
    flat: Array = h.reshape(len(h), -1)
    match op:
        case Affine():
            weight = constants[0]
            depth, rows = place
            y = _scratch.blocks(depth, (len(h), len(weight)), h.dtype)
            np.matmul(weight, h, out=y[:, :-1])
            return y if len(weight) == rows else np.concatenate([y[:, :rows], y[:, -1:]], axis=1)
        case Scale():
            flat *= constants[0]
        case Divide():
            flat /= constants[0]
        case Shift():
            flat += constants[0]
        case LeakyRelu(slope):
            np.maximum(flat, flat * constants[0] if slope else _scratch.zeros(flat.shape, flat.dtype), out=flat)
    return h


@functools.cache
def usable_lanes(dtype: np.dtype[np.floating], shapes: tuple[tuple[int, ...], ...]) -> int:
    """How many rows may share a product here: LANES, or 1 if this BLAS gives equal columns unequal results."""
    rng = np.random.default_rng(0)
    for n_out, n_in in set(shapes):
        weight = rng.standard_normal((max(n_out, _MIN_OUTPUTS), n_in)).astype(dtype)
        rows = rng.standard_normal((32, n_in, 1)).astype(dtype)
        alone: Array = np.matmul(weight, np.pad(rows, ((0, 0), (0, 0), (0, LANES - 1))))[:, :, :1]
        if (np.matmul(weight, np.repeat(rows, LANES, axis=2)) != alone).any():
            return 1
    return LANES
