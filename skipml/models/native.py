"""The model file of skipml's DuckDB extension, which `extension/README.md` describes byte by byte.

    header   8s magic, u32 version, u32 dtype (1 float32, 2 float64), u32 inputs, u32 outputs, u32 ops, u32 zero
    op       u32 kind, u32 width behind it, then the constants in the network's dtype, row by row; a slope is a float64
    trees    the only op of its file, see native_trees.py
    trailer  sha256 of everything before it

All little-endian.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np
from numpy.typing import NDArray

from skipml.errors import ModelError
from skipml.function import Function
from skipml.models.native_trees import DTYPES, trees_to_bytes
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from skipml.trees import Trees

MAGIC = b"SKIPMLNN"
VERSION, TREES_VERSION = 1, 2
"""Files of networks are as before there were trees."""
_MAX_WIDTH = 65_536
_MAX_OPS = 4_096
_MAX_BYTES = 1 << 30


def to_bytes(function: Function) -> bytes:
    """The model file of a network or of trees.

    Raises ModelError for another kind, and where the model is larger than the extension takes: 65,536 values between
    two ops, 4,096 ops, 1 GiB.
    """
    if isinstance(function, Trees):
        ops = [struct.pack("<2I", 6, function.n_outputs) + trees_to_bytes(function)]
        widest, version = max(function.n_inputs, function.n_outputs), TREES_VERSION
    elif isinstance(function, Network):
        ops, widest = _ops(function)
        version = VERSION
    else:
        raise ModelError(
            "the DuckDB extension evaluates networks of linear layers and ReLUs, and trees, "
            f"not a {type(function).__name__}, which Python scores"
        )
    counts = (function.n_inputs, function.n_outputs, len(ops))
    content = struct.pack("<8s6I", MAGIC, version, DTYPES[function.dtype], *counts, 0) + b"".join(ops)
    content += hashlib.sha256(content).digest()
    if widest > _MAX_WIDTH or len(ops) > _MAX_OPS or len(content) > _MAX_BYTES:
        raise ModelError(
            f"the model is too large for the DuckDB extension: {widest} values, {len(ops)} ops, "
            f"{len(content)} bytes (at most {_MAX_WIDTH}, {_MAX_OPS}, {_MAX_BYTES}); score it without the extension"
        )
    return content


def _ops(network: Network) -> tuple[list[bytes], int]:
    """The ops, and the most values between two of them."""
    ops, width = [], network.n_inputs
    widest = width
    for op in network.ops:
        width = len(op.bias) if isinstance(op, Affine) else width
        widest = max(widest, width)
        ops.append(_op(op, width))
    return ops, widest


def _op(op: Op, width: int) -> bytes:
    """One op, `width` values wide behind it."""
    match op:
        case Affine(weight, bias):
            return struct.pack("<2I", 1, width) + _values(weight) + _values(bias)
        case Scale(constant):
            return struct.pack("<2I", 2, width) + _values(constant)
        case Divide(constant):
            return struct.pack("<2I", 3, width) + _values(constant)
        case Shift(constant):
            return struct.pack("<2I", 4, width) + _values(constant)
        case LeakyRelu(slope):
            return struct.pack("<2Id", 5, width, slope)


def _values(constants: NDArray[np.floating]) -> bytes:
    return constants.astype(constants.dtype.newbyteorder("<")).tobytes()
