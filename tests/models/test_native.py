"""The model file of the DuckDB extension, read back by a reader written from its description."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given

from skipml.errors import ModelError
from skipml.models.native import MAGIC, to_bytes
from skipml.network import Affine, Array, Divide, LeakyRelu, Network, Op, Scale, Shift
from tests.strategies import networks

_VECTORS: dict[int, type[Scale] | type[Divide] | type[Shift]] = {2: Scale, 3: Divide, 4: Shift}


def read(content: bytes) -> Network:
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    magic, version, kind, n_inputs, n_outputs, n_ops, zero = struct.unpack_from("<8s6I", content)
    assert (magic, version, zero) == (MAGIC, 1, 0)
    dtype: np.dtype[np.floating] = np.dtype({1: "<f4", 2: "<f8"}[kind])
    at, width = 32, n_inputs
    ops: list[Op] = []

    def values(n: int) -> Array:
        nonlocal at
        at += n * dtype.itemsize
        found: Array = np.frombuffer(content, dtype, n, at - n * dtype.itemsize)
        return found

    for _ in range(n_ops):
        op, n_out = struct.unpack_from("<2I", content, at)
        at += 8
        if op == 1:
            ops.append(Affine(values(width * n_out).reshape(n_out, width), values(n_out)))
        elif op == 5:
            ops.append(LeakyRelu(struct.unpack_from("<d", content, at)[0]))
            at += 8
        else:
            ops.append(_VECTORS[op](values(n_out)))
        width = n_out
    assert at == len(content) - 32
    return Network(n_inputs, n_outputs, dtype, tuple(ops))


@given(networks())
def test_everything_is_in_the_file(network: Network) -> None:
    assert read(to_bytes(network)).hash == network.hash


def test_equal_networks_have_equal_files() -> None:
    def network() -> Network:
        weight = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
        return Network(3, 2, np.dtype(np.float32), (Affine(weight, np.ones(2, np.float32)),))

    assert to_bytes(network()) == to_bytes(network())


@pytest.mark.parametrize(
    "network",
    [
        Network(65_537, 65_537, np.dtype(np.float32), ()),
        Network(1, 1, np.dtype(np.float32), (LeakyRelu(0.5),) * 4097),
        Network(1, 65_537, np.dtype(np.float32), (Affine(np.ones((65_537, 1), "f4"), np.ones(65_537, "f4")),)),
    ],
    ids=["inputs", "ops", "outputs"],
)
def test_what_the_extension_would_not_read_is_refused(network: Network) -> None:
    with pytest.raises(ModelError, match="too large for the DuckDB extension"):
        to_bytes(network)
