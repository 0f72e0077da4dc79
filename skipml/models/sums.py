"""Weighted sums of networks as one graph, so that bounds see what the parts have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skipml.errors import ModelError
from skipml.function import Function
from skipml.graph import Concat, Elementwise, Graph, Node, Operator, Take
from skipml.linked import Linked
from skipml.network import Affine, Network

Part = tuple[float, Function, Sequence[int]]
"""A weight, a function of one output, and which of the inputs are its own."""


def weighted_sum(parts: Sequence[Part], n_inputs: int) -> Graph:
    """The sum of weights times functions, over all inputs.

    Raises ModelError for a function that is no network, or has several outputs or another type than the others.
    """
    if not parts:
        raise ModelError("a sum needs at least one model")
    dtypes = {function.dtype for _, function, _ in parts}
    if len(dtypes) > 1:
        raise ModelError(f"a sum is of models of one type, not of {sorted(map(str, dtypes))}: convert one of them")
    dtype, nodes, ends = dtypes.pop(), list[Node](), list[int]()
    for _, function, inputs in parts:
        nodes.append(Node(Take(tuple(inputs)), (0,)))
        ends.append(_append(function, nodes))
    with np.errstate(over="ignore"):
        weights = np.array([[weight for weight, _, _ in parts]]).astype(dtype)
    nodes.append(Node(Concat(), tuple(ends)))
    nodes.append(Node(Affine(weights, np.zeros(1, dtype)), (len(nodes),)))
    return Graph(n_inputs, dtype, tuple(nodes))


def _append(function: Function, nodes: list[Node]) -> int:
    """Append a function of the last value -> the number of its output."""
    if function.n_outputs != 1:
        raise ModelError(f"a sum is of models of one output, and one has {function.n_outputs}")
    if isinstance(function, Linked):
        _append(function.network, nodes)
        nodes.append(Node(Elementwise("sigmoid"), (len(nodes),)))
    elif isinstance(function, Graph):
        start = len(nodes)
        nodes += [Node(node.op, tuple(start + i for i in node.inputs)) for node in function.nodes]
    elif isinstance(function, Network):
        ops: Sequence[Operator] = function.ops
        nodes += [Node(op, (len(nodes) + k,)) for k, op in enumerate(ops)]
    else:
        kind = type(function).__name__
        raise ModelError(f"a sum is of networks, not of a {kind}: compare each model with a limit of its own")
    return len(nodes)
