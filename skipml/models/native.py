"""The model file of skipml's DuckDB extension, which `extension/README.md` describes byte by byte.

    header   8s magic, u32 version, u32 dtype (1 float32, 2 float64), u32 inputs, u32 outputs, u32 ops, u32 zero
    op       u32 kind, u32 width behind it, then the constants in the network's dtype, row by row; a slope is a float64
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
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift

MAGIC = b"SKIPMLNN"
VERSION = 1
_DTYPES = {np.dtype(np.float32): 1, np.dtype(np.float64): 2}
_MAX_WIDTH = 65_536
_MAX_OPS = 4_096
_MAX_BYTES = 1 << 30


def to_bytes(function: Function) -> bytes:
    """The model file of a network.

    Raises ModelError for trees, and where the network is larger than the extension takes: 65,536 values between two
    ops, 4,096 ops, 1 GiB.
    """
    if not isinstance(function, Network):
        raise ModelError("the DuckDB extension evaluates networks only: trees are scored without it")
    network = function
    ops, width = [], network.n_inputs
    widest = width
    for op in network.ops:
        width = len(op.bias) if isinstance(op, Affine) else width
        widest = max(widest, width)
        ops.append(_op(op, width))
    counts = (network.n_inputs, network.n_outputs, len(network.ops))
    content = struct.pack("<8s6I", MAGIC, VERSION, _DTYPES[network.dtype], *counts, 0) + b"".join(ops)
    content += hashlib.sha256(content).digest()
    if widest > _MAX_WIDTH or len(network.ops) > _MAX_OPS or len(content) > _MAX_BYTES:
        raise ModelError(
            f"the network is too large for the DuckDB extension: {widest} values, {len(network.ops)} ops, "
            f"{len(content)} bytes (at most {_MAX_WIDTH}, {_MAX_OPS}, {_MAX_BYTES}); score it without the extension"
        )
    return content


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
