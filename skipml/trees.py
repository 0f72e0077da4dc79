"""Tree ensembles: sums of leaves, and how exactly they are evaluated.

Libraries differ in what they compare: XGBoost float32 by `<`, scikit-learn float32 with float64 by `<=`, LightGBM
float64 by `<=` or membership in sets of categories. Here inputs are rounded to `input_dtype` once, and every condition
is about the place of a number among ascending *edges*: those up to the first edge, itself included, go to one side,
those up to the second to the other, and so on. One edge is `x <= threshold`; `x < t` is the edge before t; a category
lies between two edges. NaN is missing and goes where the node says, or makes the outputs NaN.

Leaves are added in the order of the trees, in `dtype`, beginning with `base`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.cells import Cells
from skipml.errors import ModelError
from skipml.function import columns_of
from skipml.leaf_sets import LeafSets, Terms
from skipml.links import IDENTITY, Link
from skipml.node_walk import NodeWalk
from skipml.tree import Tree

Array = NDArray[np.floating]
Floats = NDArray[np.float64]

_SLAB_BYTES = 1 << 20
_MACS_PER_WORD = 60
"""What a leaf set of a tree takes, in multiply-accumulates of a network."""


@dataclass(frozen=True, eq=False)
class Trees:
    """`link((base + the sum of the leaves) / divisor)` over trees, computed in `dtype` from inputs in `input_dtype`.

    Raises ModelError, with the number of the tree, where nodes or numbers are not usable.
    """

    n_inputs: int
    n_outputs: int
    input_dtype: np.dtype[np.floating]
    dtype: np.dtype[np.floating]
    trees: tuple[Tree, ...]
    base: Array
    divisor: float = 1.0
    link: Link = IDENTITY
    takes_nan: bool = True

    def __post_init__(self) -> None:
        if self.n_inputs < 1 or self.n_outputs < 1:
            raise ModelError(f"trees need inputs and outputs, not {self.n_inputs} and {self.n_outputs}")
        if self.base.shape != (self.n_outputs,) or self.base.dtype != self.dtype or not np.isfinite(self.base).all():
            raise ModelError("the base score is not one finite number per output")
        most = np.abs(self.base).astype(np.float64)
        for number, tree in enumerate(self.trees):
            try:
                most += _checked(tree, self)
            except ModelError as error:
                raise ModelError(f"tree {number}: {error}") from error
        if not (most < float(np.finfo(self.dtype).max) / 4).all():
            raise ModelError(f"the leaves may add up to more than {self.dtype} holds")

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as what it is made of."""
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a network that take as long, per row."""
        return _MACS_PER_WORD * self.terms.words

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of everything the outputs depend on: nodes, leaves, types, link."""
        head = (self.input_dtype.name, self.dtype.name, self.n_inputs, self.n_outputs, self.divisor, self.takes_nan)
        digest = hashlib.sha256(f"trees {head} {self.link.kind} {self.link.scale!r}".encode())
        for array in (self.base, *(array for tree in self.trees for array in _arrays(tree))):
            digest.update(f";{array.dtype.name}{array.shape}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    @cached_property
    def terms(self) -> Terms:
        """The terms of all outputs."""
        return self.terms_of(range(self.n_outputs))

    def terms_of(self, outputs: Sequence[int]) -> Terms:
        """The leaves that are added to some outputs, made ready to be looked up: as sets of bits, or, where these would
        be too large, by walking down the trees.
        """
        sets = LeafSets.of(self.trees, self._cells, outputs, self.dtype)
        return NodeWalk.of(self.trees, self._cells, outputs, self.dtype) if sets is None else sets

    @cached_property
    def _cells(self) -> Cells:
        return Cells.of(self.trees, self.n_inputs, self.input_dtype)

    def forward(self, x: ArrayLike) -> Array:
        """The outputs for each row: x [n, n_inputs] -> [n, n_outputs] in `dtype`; a row's depend on nothing but it."""
        return self.forward_columns(columns_of(x, self.n_inputs))

    def forward_columns(self, columns: Sequence[NDArray[Any]]) -> Array:
        """The same for rows given as one array [n] per input."""
        n = len(columns[0])
        out = np.empty((n, self.n_outputs), self.dtype)
        slab = int(np.clip(_SLAB_BYTES // self.terms.bytes_per_row, 64, 4096))
        for start in range(0, n, slab):
            part = [np.asarray(column[start : start + slab]) for column in columns]
            out[start : start + slab] = self.link.apply(self.sums(self.terms.values(part))).T
            if not self.takes_nan:
                out[start : start + slab][np.any([np.isnan(column) for column in part], axis=0)] = np.nan
        return out

    def sums(self, leaves: Array, terms: Terms | None = None) -> Array:
        """What leaves [V, n], one for each term, add up to: [K, n].

        No leaf made smaller makes a sum larger: rounding is monotone.
        """
        terms = self.terms if terms is None else terms
        sums = np.repeat(self.base[:, None], leaves.shape[1], axis=1)
        for output, total in enumerate(sums):
            for leaf in leaves if self.n_outputs == 1 else leaves[terms.outputs == output]:
                np.add(total, leaf, out=total)
        if self.divisor != 1.0:
            sums /= self.dtype.type(self.divisor)
        sums += self.dtype.type(0)  # -0.0 becomes 0.0
        return sums


def _arrays(tree: Tree) -> Iterator[NDArray[np.generic]]:
    yield from (tree.feature, tree.left, tree.right, tree.threshold, tree.missing_left, tree.value)
    for node, (edges, low_left) in sorted(tree.conditions.items()):
        yield np.array([node, low_left], np.int64)
        yield np.array(edges, np.float64)


def _checked(tree: Tree, trees: Trees) -> Floats:
    """The largest magnitude of a leaf [K]; raises ModelError for what is no tree."""
    n = len(tree.feature)
    shapes = {array.shape for array in (tree.feature, tree.left, tree.right, tree.threshold, tree.missing_left)}
    if not n or shapes != {(n,)} or tree.value.shape != (n, trees.n_outputs) or tree.value.dtype != trees.dtype:
        raise ModelError("its arrays do not fit each other; is the file damaged?")
    inner = tree.feature >= 0
    children = np.concatenate([tree.left[inner], tree.right[inner]])
    if (children < 1).any() or (children >= n).any() or len(np.unique(children)) < len(children):
        raise ModelError("a node has no place or two parents; is the file damaged?")
    if (tree.feature >= trees.n_inputs).any():
        raise ModelError(f"a node asks for input {int(tree.feature.max())} of {trees.n_inputs}")
    seen = np.concatenate(list(tree.levels()))
    if np.isnan(tree.threshold[inner]).any():
        raise ModelError("a threshold is NaN")
    leaves = np.abs(tree.value[seen[tree.feature[seen] < 0]].astype(np.float64))
    if not np.isfinite(leaves).all():
        raise ModelError("a leaf is NaN or infinite; train the model again")
    return np.asarray(leaves.max(axis=0))
