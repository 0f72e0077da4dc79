"""Random graphs with every op, and boxes to bound them over."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from skipml.activations import Kind
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
)
from skipml.network import Affine, Divide, LeakyRelu, Scale, Shift

Floats = NDArray[np.float64]
KINDS: tuple[Kind, ...] = get_args(Kind)
_WITHOUT: tuple[Kind, ...] = ("exp", "log", "square")
"""Functions that are seldom finite behind others."""


def elementwise(kind: Kind, rng: np.random.Generator) -> Elementwise:
    """One of a kind, with random parameters where it takes some."""
    low = float(rng.normal())
    parameters: dict[str, tuple[float, ...]] = {
        "elu": (float(rng.choice([0.3, 1.0, 1.7])),),
        "clip": [(low, low + 2.0), (-np.inf, low), (low, np.inf), (low, low)][int(rng.integers(4))],
        "hardsigmoid": [(1 / 6, 0.5), (0.2, 0.4)][int(rng.integers(2))],
        "softplus": [(1.0, 20.0), (2.0, np.inf)][int(rng.integers(2))],
    }
    return Elementwise(kind, parameters.get(kind, ()))


class Builder:
    """Appends nodes to a graph."""

    def __init__(self, n_inputs: int, dtype: Any, rng: np.random.Generator) -> None:
        self.n_inputs, self.dtype, self.rng = n_inputs, np.dtype(dtype), rng
        self.nodes: list[Node] = []
        self.widths = [n_inputs]

    def add(self, op: Operator, *inputs: int) -> int:
        """Append a node; the number of its value."""
        self.nodes.append(Node(op, inputs))
        self.widths = list(Graph(self.n_inputs, self.dtype, tuple(self.nodes)).widths)
        return len(self.nodes)

    def affine(self, source: int, n_out: int) -> int:
        """A random layer."""
        n_in = self.widths[source]
        weight = self.rng.normal(size=(n_out, n_in)) / np.sqrt(n_in)
        return self.add(Affine(weight.astype(self.dtype), self.vector(n_out)), source)

    def vector(self, n: int) -> Any:
        """Random constants."""
        return self.rng.normal(size=n).astype(self.dtype)

    def built(self) -> Graph:
        """What has been appended."""
        return Graph(self.n_inputs, self.dtype, tuple(self.nodes))


def random_graph(seed: int, dtype: Any) -> Graph:
    """A graph whose values branch and join, of two to four inputs and one to three outputs."""
    rng = np.random.default_rng(seed)
    g = Builder(int(rng.integers(2, 5)), dtype, rng)
    last = 0
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.integers(1, 7))
        here = g.affine(last, width)
        last = _between(g, here)
        if rng.random() < 0.4:
            last = g.add(Concat(), last, here)
    g.affine(last, int(rng.integers(1, 4)))
    return g.built()


def _between(g: Builder, here: int) -> int:
    """Something that is not affine, and perhaps a branch around it."""
    rng, n = g.rng, g.widths[here]
    choice = int(rng.integers(9))
    bent = g.add(elementwise(KINDS[int(rng.integers(len(KINDS)))], rng), here)
    if isinstance(op := g.nodes[-1].op, Elementwise) and op.kind in _WITHOUT:
        g.nodes.pop()
        g.widths.pop()
        bent = g.add(Elementwise("tanh"), here)
        bent = g.add(Elementwise("exp" if op.kind == "log" else op.kind), bent)
        if op.kind == "log":
            bent = g.add(Elementwise("log"), bent)
    match choice:
        case 0 | 1:
            return g.add(Add(), here, bent)
        case 2:
            return g.add(Subtract(), bent, here)
        case 3:
            return g.add(Multiply(), bent, here)
        case 4:
            normal = g.add(Normalize(1e-5, bool(rng.integers(2))), bent)
            return g.add(Shift(g.vector(n)), g.add(Scale(g.vector(n)), normal))
        case 5:
            return g.add(Take(tuple(rng.integers(0, n, 3).tolist())), bent)
        case 6:
            return g.add(PRelu(g.vector(n)), g.add(Divide(1 + np.abs(g.vector(n))), bent))
        case 7:
            return g.add(LeakyRelu(float(rng.choice([0.0, 0.2]))), bent)
    return bent


def random_boxes(rng: np.random.Generator, n: int, d: int) -> tuple[Floats, Floats]:
    """Boxes of very different sizes, points among them."""
    centre = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-2, 1, (n, 1))
    radius = rng.random((n, d)) * 10.0 ** rng.uniform(-7, 1, (n, 1)) * (rng.random((n, 1)) < 0.9)
    return centre - radius, centre + radius


def points_of(rng: np.random.Generator, lower: Floats, upper: Floats, n: int) -> Floats:
    """Rows [n, M, d] of boxes [M, d], corners likely."""
    share = (rng.random((n, *lower.shape)) * 1.6 - 0.3).clip(0, 1)
    return np.clip(lower + share * (upper - lower), lower, upper)
