"""One function per ONNX operator that reads several computed values, or a part of one, or writes several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skipml.errors import ModelError, UnsupportedOperatorError
from skipml.graph import Add, Multiply, Subtract
from skipml.models.chain import Chain, Value
from skipml.models.onnx_operators import Node

Read = Sequence[Value | None]


@dataclass(frozen=True, slots=True)
class Join:
    """What a node may look like; `append` takes the values that it reads, None for constants, and gives those that it
    writes.
    """

    append: Callable[[Chain, Read, Node], Sequence[Value]]
    n_inputs: tuple[int, int] = (2, 2)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _computed(read: Read, node: Node) -> list[Value]:
    found = [value for value in read if value is not None]
    if len(found) != len(read):
        raise UnsupportedOperatorError(f"{node.where}: joins computed values with constants, which is not supported")
    return found


def _pair(op: Add | Subtract | Multiply) -> Callable[[Chain, Read, Node], Sequence[Value]]:
    def append(chain: Chain, read: Read, node: Node) -> Sequence[Value]:
        one, other = _computed(read, node)
        chain.go(one)
        chain.join(op, other, node.where)
        return [chain.value]

    return append


def _divide(chain: Chain, read: Read, node: Node) -> Sequence[Value]:
    one, other = _computed(read, node)
    chain.go(one)
    chain.divide_by(other, node.where)
    return [chain.value]


def _concat(chain: Chain, read: Read, node: Node) -> Sequence[Value]:
    if node.attributes["axis"] not in (1, -1):
        raise ModelError(f"{node.where}: would put rows behind each other; only axis 1 is supported")
    chain.concat(_computed(read, node), node.where)
    return [chain.value]


def _split(chain: Chain, read: Read, node: Node) -> Sequence[Value]:
    whole, sizes = read[0], node.constant(1)
    if whole is None or node.attributes["axis"] not in (1, -1):
        raise ModelError(f"{node.where}: would split rows; only axis 1 is supported")
    chain.go(whole)
    parts = [int(size) for size in np.ravel(sizes)] if sizes is not None else list(node.attributes["split"])
    if not parts:
        size = -(-whole.width // node.n_outputs)
        parts = [min(size, whole.width - start) for start in range(0, whole.width, size)]
    if sum(parts) != whole.width or len(parts) != node.n_outputs or min(parts) < 1:
        raise ModelError(f"{node.where}: parts of {parts} do not fit {whole.width} values; is the file damaged?")
    found, start = [], 0
    for size in parts:
        chain.go(whole)
        chain.take(range(start, start + size), node.where)
        found.append(chain.value)
        start += size
    return found


def _slice(chain: Chain, read: Read, node: Node) -> Sequence[Value]:
    if read[0] is None:
        raise UnsupportedOperatorError(f"{node.where}: slices a constant")
    chain.go(read[0])
    given = [node.constant(i) for i in range(1, 5)]
    starts, ends, axes, steps = ([] if part is None else [int(x) for x in np.ravel(part)] for part in given)
    if len(starts) != 1 or len(ends) != 1 or axes not in ([1], [-1]) or steps not in ([], [1]):
        raise UnsupportedOperatorError(f"{node.where}: only a run of columns can be taken")
    chain.take(range(chain.width)[starts[0] : ends[0]], node.where)
    return [chain.value]


def _gather(chain: Chain, read: Read, node: Node) -> Sequence[Value]:
    positions = node.constant(1)
    if read[0] is None or positions is None or node.attributes["axis"] not in (1, -1) or positions.ndim > 1:
        raise UnsupportedOperatorError(f"{node.where}: only columns at constant positions can be taken")
    chain.go(read[0])
    chosen = [int(i) for i in np.ravel(positions)]
    if any(not -chain.width <= i < chain.width for i in chosen):
        raise ModelError(f"{node.where}: takes positions {chosen} of {chain.width} values; is the file damaged?")
    chain.take([i % chain.width for i in chosen], node.where)
    if positions.ndim == 0:
        chain.reshape((), node.where)
    return [chain.value]


JOINS = {
    "Add": Join(_pair(Add())),
    "Concat": Join(_concat, (1, 1000), {"axis": 1}),
    "Div": Join(_divide),
    "Gather": Join(_gather, (2, 2), {"axis": 0}),
    "Mul": Join(_pair(Multiply())),
    "Slice": Join(_slice, (3, 5)),
    "Split": Join(_split, (1, 2), {"axis": 0, "num_outputs": 0, "split": []}),
    "Sub": Join(_pair(Subtract())),
}
