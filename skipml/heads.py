"""Heads: networks over the values of one column of vectors, such as stored embeddings.

A row has a score if its vector has as many values as the network has inputs, and none of them is NULL; else the score
is NULL. NaN and infinite values are computed with, as the network does.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.errors import ModelError
from skipml.function import Array, Function
from skipml.linked import Linked
from skipml.links import IDENTITY, Link
from skipml.margins import MarginModel
from skipml.network import Affine, Divide, Network, Op, Scale, Shift
from skipml.prepared import Prepared

_TILES = (64, 8)
"""Vectors of one matrix product, always so many: products of another shape sum in another order."""
_SLAB = 2048
"""Vectors at a time: what is made of them stays in the cache."""
_MIN_WIDTH = 2  # narrower layers are padded: a vector product takes another, threaded, code path


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """A network as `rest(weight (scaling of x) + bias)`: ops for each value, then weight [h, d] and bias [h]."""

    scaling: tuple[Op, ...]
    weight: Array
    bias: Array
    rest: Network

    @classmethod
    def of(cls, network: Network) -> FirstLayer:
        """The parts of a network; the weight is the identity where it begins with something else than sums."""
        ops = network.ops
        k = next((i for i, op in enumerate(ops) if not isinstance(op, Shift | Scale | Divide)), len(ops))
        sums = ops[k] if k < len(ops) else None
        if isinstance(sums, Affine):
            weight, bias, after = sums.weight, sums.bias, ops[k + 1 :]
        else:
            width = network.n_inputs
            weight, bias, after = np.eye(width, dtype=network.dtype), np.zeros(width, network.dtype), ops[k:]
        rest = Network(len(bias), network.n_outputs, network.dtype, after or (Scale(np.ones_like(bias)),))
        return cls(ops[:k], weight, bias, rest)

    def sums(self, vectors: NDArray[Any]) -> Array:
        """weight (scaling of x) + bias for vectors x [n, d] -> [n, h], in the network's type."""
        (h, d), dtype = self.weight.shape, self.weight.dtype
        tile = _usable_tile(dtype, (h, d))
        weight = np.zeros((d, max(h, _MIN_WIDTH)), dtype)
        weight[:, :h] = self.weight.T
        found = np.empty((len(vectors), h), dtype)
        with np.errstate(all="ignore"):
            for start in range(0, len(vectors), _SLAB):
                x = self._scaled(vectors[start : start + _SLAB].astype(dtype, copy=False))
                whole = len(x) // tile
                ends = [x[: whole * tile].reshape(whole, tile, d)]
                if len(x) % tile:
                    last = np.zeros((1, tile, d), dtype)
                    last[0, : len(x) % tile] = x[whole * tile :]
                    ends.append(last)
                sums = [np.matmul(part, weight).reshape(-1, weight.shape[1])[:, :h] for part in ends]
                found[start : start + len(x)] = np.concatenate(sums)[: len(x)] + self.bias
        return found

    def _scaled(self, x: Array) -> Array:
        for op in self.scaling:
            match op:
                case Shift(vector):
                    x = x + vector
                case Scale(vector):
                    x = x * vector
                case Divide(vector):
                    x = x / vector
        return x


@functools.cache
def _usable_tile(dtype: np.dtype[np.floating], shape: tuple[int, int]) -> int:
    """How many rows may share a product: as many as this BLAS gives equal results if they are equal, or else 1."""
    h, d = shape
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((d, max(h, _MIN_WIDTH))).astype(dtype)
    rows = rng.standard_normal((8, 1, d)).astype(dtype)
    for tile in _TILES:
        alone = np.pad(rows, ((0, 0), (0, tile - 1), (0, 0)))
        if (np.matmul(alone, weight)[:, :1] == np.matmul(np.repeat(rows, tile, axis=1), weight)).all():
            return tile
    return 1


@dataclass(frozen=True, eq=False)
class Head(MarginModel):
    """`link(network(vector))`: one input, which is a vector of `dimension` values; `forward` takes them as rows.

    Raises ModelError for a link that does not fit the outputs.
    """

    network: Network
    link: Link = IDENTITY

    @classmethod
    def of(cls, function: Function) -> Head:
        """A function of many numbers as one of a vector of them; raises ModelError where it is no network, or where its
        inputs are prepared by more than shifts and scales.
        """
        if isinstance(function, Network):
            return cls(function)
        if isinstance(function, Linked) and isinstance(function.network, Network):
            return cls(function.network, function.link)
        if isinstance(function, Prepared):
            ops, network = _scaling(function), function.network
            if ops is not None and isinstance(network, Network):
                whole = Network(function.n_inputs, network.n_outputs, network.dtype, (*ops, *network.ops))
                return cls(whole, function.link)
        raise ModelError(
            f"the model has {function.n_inputs} inputs but one column was given: name one column per input; a single "
            "column of vectors is read by linear models, perceptrons and networks, behind StandardScaler at most"
        )

    @property
    def dimension(self) -> int:
        """Values of a vector."""
        return self.network.n_inputs

    @property
    def n_inputs(self) -> int:
        """The vector."""
        return 1

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of everything the outputs depend on."""
        return hashlib.sha256(f"head {self.network.hash} {self.link}".encode()).hexdigest()

    @cached_property
    def first(self) -> FirstLayer:
        """What is done to the vectors up to the first sums, and what is left of the network behind them."""
        return FirstLayer.of(self.network)

    def forward(self, x: ArrayLike) -> Array:
        """The outputs for each vector: x [n, dimension] -> [n, n_outputs].

        Those of a vector depend on nothing but it, bit for bit.
        """
        vectors = np.asarray(x)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"expected vectors of {self.dimension} values, got an array of shape {vectors.shape}")
        return self.of_margins(self.first.rest.forward(self.first.sums(vectors)))

    def forward_columns(self, columns: Sequence[NDArray[Any]]) -> Array:
        """The same for the one array [n, dimension] of the vectors."""
        return self.forward(columns[0])


def _scaling(prepared: Prepared) -> list[Op] | None:
    """What is done to the inputs, as ops, where each is one feature and all are shifted and scaled alike, else None."""
    features = prepared.features
    kinds = [step.kind for step in features[0].steps]
    for i, feature in enumerate(features):
        numbers_only = feature.source == i and np.isnan(feature.missing) and not feature.is_stepped
        if not numbers_only or [step.kind for step in feature.steps] != kinds:
            return None
    ops: list[Op] = []
    for k, kind in enumerate(kinds):
        values = np.array([feature.steps[k].values[0] for feature in features])
        match kind:
            case "subtract":
                ops.append(Shift(-values))
            case "add":
                ops.append(Shift(values))
            case "divide":
                ops.append(Divide(values))
            case "multiply":
                ops.append(Scale(values))
            case _:
                return None
    return ops if len(features) == prepared.n_inputs else None
