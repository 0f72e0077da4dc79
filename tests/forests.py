"""Hypothesis strategies for tree ensembles, and what a row gets in them by the definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from skipml.links import Kind, Link
from skipml.tree import Condition, Tree
from skipml.trees import Trees

Floats = NDArray[np.float64]
Rng = np.random.Generator

LINKS: tuple[Kind, ...] = get_args(Kind)
_UP_TO_4, _ONE_OR_3 = st.integers(1, 4), st.sampled_from([1, 1, 3])


def random_tree(rng: Rng, pool: Sequence[Floats], n_outputs: int, dtype: np.dtype[np.floating], depth: int) -> Tree:
    """A tree whose thresholds are drawn from `pool`, numbers for each input; some conditions have several edges."""
    feature, left, right = list[int](), list[int](), list[int]()
    threshold, conditions = list[float](), dict[int, Condition]()
    depths = [0]
    while len(feature) < len(depths):
        node = len(feature)
        inner = depths[node] < depth and (node == 0 or rng.random() < 0.8)
        i = int(rng.integers(len(pool)))
        feature.append(i if inner else -1)
        threshold.append(float(rng.choice(pool[i])))
        left.append(len(depths) if inner else 0)
        right.append(len(depths) + 1 if inner else 0)
        if inner:
            depths += 2 * [depths[node] + 1]
        if inner and rng.random() < 0.15:
            edges = np.unique(rng.choice(pool[i], int(rng.integers(0, 5))))
            conditions[node] = tuple(edges.tolist()), bool(rng.integers(2))
    shape = (len(feature), n_outputs)
    value = (rng.normal(size=shape) * (rng.random(shape) < 0.9)).astype(dtype)
    value[np.array(feature) >= 0] = 0
    inputs, lefts, rights = (np.array(numbers, np.int64) for numbers in (feature, left, right))
    missing_left = rng.integers(2, size=len(feature)).astype(np.bool_)
    return Tree(inputs, lefts, rights, np.array(threshold), missing_left, value, conditions)


def random_trees(rng: Rng, pool: Sequence[Floats], n_outputs: int, link: Kind, *, n_trees: int, depth: int) -> Trees:
    """An ensemble whose thresholds are drawn from `pool`."""
    dtype: np.dtype[np.floating] = np.dtype(str(rng.choice(["float32", "float64"])))
    return Trees(
        n_inputs=len(pool),
        n_outputs=n_outputs,
        input_dtype=np.dtype(str(rng.choice(["float32", "float64"]))),
        dtype=dtype,
        trees=tuple(random_tree(rng, pool, n_outputs, dtype, depth) for _ in range(n_trees)),
        base=rng.normal(size=n_outputs).astype(dtype),
        divisor=float(rng.choice([1.0, 3.0])),
        link=Link(link, float(rng.choice([1.0, 0.7]))),
        takes_nan=bool(rng.random() < 0.8),
    )


@st.composite
def ensembles(
    draw: st.DrawFn, n_inputs: st.SearchStrategy[int] = _UP_TO_4, n_outputs: st.SearchStrategy[int] = _ONE_OR_3
) -> tuple[Trees, Rng]:
    """Ensembles with thresholds around the origin, among them zeros, infinities and denormal numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = [np.append(rng.normal(size=8).round(1), [0.0, np.inf, 1e-40, -3.0]) for _ in range(draw(n_inputs))]
    link = draw(st.sampled_from(LINKS))
    n_trees, depth = draw(st.integers(0, 12)), draw(st.integers(0, 5))
    return random_trees(rng, pool, draw(n_outputs), link, n_trees=n_trees, depth=depth), rng


def edge_rows(trees: Trees, rng: Rng, n: int) -> Floats:
    """Rows [n, d] of numbers at thresholds and next to them, in either type, and of what else is special."""
    rows = rng.normal(size=(n, trees.n_inputs)) * 2
    special = np.array([0.0, -0.0, np.inf, -np.inf, 5e-324, -1e-40, 1e300])
    for i in range(trees.n_inputs):
        found = [tree.threshold[tree.feature == i] for tree in trees.trees]
        edges = np.concatenate([*found, np.zeros(1)])
        at = rng.choice(edges, n)
        with np.errstate(over="ignore"):
            narrow = at.astype(np.float32)
        way = rng.choice([-np.inf, np.inf], n)
        kinds = [
            at,
            np.nextafter(at, way),
            narrow,
            np.nextafter(narrow, way.astype(np.float32)),
            rng.choice(special, n),
        ]
        which = rng.integers(0, 8, n)
        for k, values in enumerate(kinds):
            rows[:, i] = np.where(which == k, values, rows[:, i])
    return rows


def leaf_of(tree: Tree, row: Sequence[float], dtype: np.dtype[np.floating]) -> int:
    """The leaf that a row comes to, by the definition."""
    node = 0
    while tree.feature[node] >= 0:
        with np.errstate(over="ignore"):
            x = float(dtype.type(row[int(tree.feature[node])]))
        edges, low_left = tree.condition(node)
        beyond = sum(edge < x for edge in edges)
        left = bool(tree.missing_left[node]) if np.isnan(x) else (beyond % 2 == 0) == low_left
        node = int(tree.left[node] if left else tree.right[node])
    return node


def sums_by_definition(trees: Trees, rows: Floats) -> NDArray[np.floating]:
    """The sums before the link [n, K], a row and a tree at a time."""
    out = np.tile(trees.base, (len(rows), 1))
    for n, row in enumerate(rows):
        for tree in trees.trees:
            out[n] += tree.value[leaf_of(tree, row.tolist(), trees.input_dtype)]
    return np.asarray(out / trees.dtype.type(trees.divisor) + trees.dtype.type(0))
