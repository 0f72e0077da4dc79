"""The model file of the DuckDB extension, read back by a reader written from its description."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from skipml.errors import ModelError
from skipml.links import Link
from skipml.models.native import MAGIC, to_bytes
from skipml.network import Affine, Array, Divide, LeakyRelu, Network, Op, Scale, Shift
from skipml.tree import Tree
from skipml.trees import Trees
from tests.forests import edge_rows, ensembles
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


def read_trees(content: bytes) -> Trees:
    """Only those with one threshold per node."""
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    head = struct.unpack_from("<8s8I", content)
    magic, version, kind, n_inputs, n_outputs, n_ops, zero, op, width = head
    assert (magic, version, n_ops, zero, op, width) == (MAGIC, 2, 1, 0, 6, n_outputs)
    input_kind, link, takes_nan, n_trees, scale, divisor = struct.unpack_from("<4I2d", content, 40)
    types: dict[int, np.dtype[np.floating]] = {1: np.dtype("<f4"), 2: np.dtype("<f8")}
    at = 72

    def taken(dtype: Any, n: int) -> Any:
        nonlocal at
        at += n * np.dtype(dtype).itemsize
        return np.frombuffer(content, dtype, n, at - n * np.dtype(dtype).itemsize)

    base, trees = taken(types[kind], n_outputs), []
    for _ in range(n_trees):
        n, n_edges = taken("<u4", 2).tolist()
        assert n_edges == 0
        nodes = taken([("threshold", "<f8"), ("what", "<u4")], n)
        leaf = nodes["what"] >> 17 & 1 == 1
        value = np.zeros((n, n_outputs), types[kind])
        value[leaf] = taken(types[kind], int(leaf.sum()) * n_outputs).reshape(-1, n_outputs)
        left = np.where(leaf, 0, 2 * np.cumsum(~leaf) - 1)
        feature = np.where(leaf, -1, nodes["what"].astype(np.int64) & 0xFFFF)
        right, missing = np.where(leaf, 0, left + 1), nodes["what"] >> 18 & 1 == 1
        trees.append(Tree(feature, left, right, nodes["threshold"], missing, value))
    assert at == len(content) - 32
    links = Link(("identity", "logistic", "exp", "softmax")[link], scale)
    return Trees(
        n_inputs, n_outputs, types[input_kind], types[kind], tuple(trees), base, divisor, links, bool(takes_nan)
    )


@given(ensembles())
def test_all_of_trees_is_in_the_file(case: tuple[Trees, np.random.Generator]) -> None:
    trees, rng = case
    trees = replace(trees, trees=tuple(replace(tree, conditions={}) for tree in trees.trees))
    rows = edge_rows(trees, rng, 30)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    assert read_trees(to_bytes(trees)).forward(rows).tobytes() == trees.forward(rows).tobytes()


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
