"""Constant folding and the elimination of dead neurons: a graph without what is the same for every row of a domain.

Ranges hold all values as computed, in any order of summation. So a number that is constant over the domain is its
middle, up to half of its range, and goes into the biases of the sums that read it; one that is exactly 0 leaves them as
they are. Where a ReLU's inputs are nowhere below 0 it gives what it gets. Serra et al., Lossless Compression of Deep
Neural Networks, arXiv:2001.00218, do so exactly; here `Folded` keeps the rounding of the sums that were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.graph_steps import Range
from skipml.bounds.rounding import Folded
from skipml.graph import Add, Concat, Elementwise, Graph, Node, Operator, PRelu, Subtract, Take
from skipml.network import Affine, Divide, LeakyRelu, Scale, Shift

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_POINTWISE = (Scale, Divide, Shift, LeakyRelu, PRelu, Elementwise)
_ROUNDED_UP = 1 + 2.0**-20


@dataclass(frozen=True, slots=True, eq=False)
class Simplified:
    """A graph that computes over a domain what another does, and what went into the biases of its layers, by node."""

    graph: Graph
    folded: dict[int, Folded]


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """What is known of the n numbers of a value: their range [n], which are constant and which exactly 0 [n]."""

    lower: Floats
    upper: Floats
    constant: Bools
    zero: Bools


def simplified(graph: Graph, ranges: Sequence[Range], *, linear: bool = True) -> Simplified:
    """The graph without dead and constant neurons, and unless told otherwise without the ReLUs that are linear, where
    its values lie within `ranges` [1, n].

    Sound because what is left out is constant up to what `Folded` keeps, or is given on as it is.
    """
    known = _known(graph, ranges)
    nodes, folded = list(graph.nodes), dict[int, Folded]()
    kept = [np.ones(width, np.bool_) for width in graph.widths]
    for k in reversed(range(len(nodes))):  # from the end, so that what was read by nothing else goes too
        if isinstance(nodes[k].op, Affine):
            _leave_out(k, nodes, known, kept, folded)
    identities = {k for k, node in enumerate(nodes[:-1]) if linear and _gives_on(node, known, kept)}
    return _renumbered(graph, nodes, folded, identities)


def _known(graph: Graph, ranges: Sequence[Range]) -> list[_Value]:
    """Sound because a function of constants is constant, and ranges hold."""
    sides = [(found.lower[0], found.upper[0]) for found in ranges]
    low, high = sides[0]
    known = [_Value(low, high, low == high, np.zeros(len(low), np.bool_))]
    for node, side in zip(graph.nodes, sides[1:], strict=True):
        constant, zero = _flat(node.op, [known[i] for i in node.inputs])
        known.append(_Value(*side, constant, zero))
    return known


def _flat(op: Operator, read: Sequence[_Value]) -> tuple[Bools, Bools]:
    """Which numbers of an op's output are constant, and exactly 0.

    Sound because products with 0 are exactly 0 where nothing overflows, and a ReLU of what is not above 0 is.
    """
    x = read[0]
    nothing = np.zeros_like(x.zero)
    match op:
        case Affine(weight, bias):
            is_read = weight != 0
            return ~is_read[:, ~x.constant].any(axis=1), ~is_read.any(axis=1) & (bias == 0)
        case Scale() | Divide():
            return x.constant, x.zero
        case Shift(offset):
            return x.constant, x.zero & (offset == 0)
        case LeakyRelu(slope) | PRelu(slope):
            dead = (x.upper <= 0) & (np.asarray(slope) == 0)
            return x.constant | dead, x.zero | dead
        case Elementwise("clip", (low, high)):
            return x.constant | (x.upper <= low) | (x.lower >= high), nothing
        case Elementwise():
            return x.constant, nothing
        case Add() | Subtract():
            return x.constant & read[1].constant, x.zero & read[1].zero
        case Concat():
            return np.concatenate([v.constant for v in read]), np.concatenate([v.zero for v in read])
        case Take(positions):
            return x.constant[list(positions)], x.zero[list(positions)]
    together = np.logical_and.reduce([np.full_like(x.constant, v.constant.all()) for v in read])
    return np.asarray(together, np.bool_), nothing  # products and normalisation


def _leave_out(k: int, nodes: list[Node], known: list[_Value], kept: list[Bools], folded: dict[int, Folded]) -> None:
    """Take the neurons of a layer out that give nothing, or a constant, to every layer behind it; but for one.

    Sound because the ops between the layers keep numbers apart.
    """
    layer, (values, ends) = nodes[k].op, _behind(k, nodes)
    assert isinstance(layer, Affine)
    if not ends:
        return
    needed = np.zeros(len(layer.weight), np.bool_)
    for end, value in ends:
        onward = nodes[end].op
        assert isinstance(onward, Affine)
        needed |= onward.weight.any(axis=0) & ~known[value].constant
    needed[0] |= not needed.any()
    if needed.all():
        return
    for value in values:
        node = nodes[value - 1]
        nodes[value - 1] = Node(_narrower(node.op, needed), node.inputs)
        kept[value] = needed
    for end, value in ends:
        onward = nodes[end].op
        assert isinstance(onward, Affine)
        narrower, terms = _folded(onward, known[value], needed)
        nodes[end] = Node(narrower, nodes[end].inputs)
        if terms is not None:
            folded[end] = terms


def _behind(k: int, nodes: Sequence[Node]) -> tuple[list[int], list[tuple[int, int]]]:
    """The values that hold a layer's numbers one by one, and the layers that read them, with the value each reads;
    nothing where something else reads them.
    """
    values, ends = [k + 1], []
    for value in values:
        readers = [i for i, node in enumerate(nodes) if value in node.inputs]
        for i in readers:
            if isinstance(nodes[i].op, Affine):
                ends.append((i, value))
            elif isinstance(nodes[i].op, _POINTWISE):
                values.append(i + 1)
            else:
                return [], []
        if not readers:
            return [], []
    return values, ends


def _narrower(op: Operator, needed: Bools) -> Operator:
    match op:
        case Affine(weight, bias):
            return Affine(np.ascontiguousarray(weight[needed]), bias[needed])
        case Scale(vector) | Divide(vector) | Shift(vector) | PRelu(vector):
            return type(op)(vector[needed])
    return op


def _folded(onward: Affine, read: _Value, needed: Bools) -> tuple[Affine, Folded | None]:
    """A layer that reads the `needed` numbers only, and what is in its bias for the others.

    Sound because a number left out is off the middle of its range by half of it at the most, and so is its product by
    as much times the weight; what the new bias rounds is added.
    """
    weight = np.ascontiguousarray(onward.weight[:, needed])
    gone = ~needed & ~read.zero & onward.weight.any(axis=0)
    if not gone.any():
        return Affine(weight, onward.bias), None
    by, low, high = onward.weight[:, gone].astype(np.float64), read.lower[gone], read.upper[gone]
    middle, half = (low + high) * 0.5, (high - low) * 0.5
    bias = onward.bias.astype(np.float64)
    mass = np.abs(bias) + np.abs(by) @ np.maximum(np.abs(low), np.abs(high))
    wide = bias + by @ middle
    narrow = wide.astype(onward.bias.dtype)
    rounding = (gone.sum() + 8) * 2.0**-53 * mass + 2.0**-1000
    loss = np.abs(by) @ half + np.abs(narrow - wide) + rounding
    return Affine(weight, narrow), Folded(int(gone.sum()), mass * _ROUNDED_UP, loss * _ROUNDED_UP)


def _gives_on(node: Node, known: Sequence[_Value], kept: Sequence[Bools]) -> bool:
    """Whether an op gives what it gets. Sound because a ReLU of a number that is not below 0 is the number."""
    if not isinstance(node.op, LeakyRelu | PRelu):
        return False
    (i,) = node.inputs
    return bool((known[i].lower[kept[i]] >= 0).all())


def _renumbered(graph: Graph, nodes: Sequence[Node], folded: dict[int, Folded], gone: set[int]) -> Simplified:
    """The graph of the nodes without those that give on what they get."""
    number, found, terms = [0], list[Node](), dict[int, Folded]()
    for k, node in enumerate(nodes):
        read = tuple(number[i] for i in node.inputs)
        if k in gone:
            number.append(read[0])
            continue
        if k in folded:
            terms[len(found)] = folded[k]
        found.append(Node(node.op, read))
        number.append(len(found))
    return Simplified(Graph(graph.n_inputs, graph.dtype, tuple(found)), terms)
