"""The part of the extension's model file that holds a tree ensemble, which `extension/README.md` describes."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from skipml.cells import rounded_down
from skipml.tree import Tree
from skipml.trees import Trees

Indices = NDArray[np.int64]

DTYPES = {np.dtype(np.float32): 1, np.dtype(np.float64): 2}
_LINKS = {"identity": 0, "logistic": 1, "exp": 2, "softmax": 3}
_LEAF, _MISSING_LEFT, _SEVERAL, _LOW_LEFT = 1 << 17, 1 << 18, 1 << 19, 1 << 20
_NODE = np.dtype([("threshold", "<f8"), ("what", "<u4")])
_EDGES = np.dtype([("first", "<u4"), ("count", "<u4"), ("what", "<u4")])


def trees_to_bytes(trees: Trees) -> bytes:
    """The constants of the op that is a tree ensemble."""
    head = (DTYPES[trees.input_dtype], _LINKS[trees.link.kind], int(trees.takes_nan), len(trees.trees))
    content = struct.pack("<4I2d", *head, trees.link.scale, trees.divisor)
    return content + _little(trees.base) + b"".join(_tree(tree, trees.input_dtype) for tree in trees.trees)


def _tree(tree: Tree, input_dtype: np.dtype[np.floating]) -> bytes:
    order = _in_pairs(tree)
    nodes, edges = np.zeros(len(order), _NODE), list[float]()
    is_leaf = tree.feature[order] < 0
    missing = np.where(tree.missing_left[order], _MISSING_LEFT, 0)
    nodes["what"] = np.where(is_leaf, _LEAF, tree.feature[order] + missing)
    nodes["threshold"] = np.where(is_leaf, 0.0, rounded_down(tree.threshold[order], input_dtype))
    several = nodes.view(_EDGES)
    for place in np.flatnonzero(np.isin(order, list(tree.conditions)) & ~is_leaf).tolist():
        found, low_left = tree.conditions[int(order[place])]
        several[place]["first"], several[place]["count"] = len(edges), len(found)
        several[place]["what"] |= _SEVERAL | (_LOW_LEFT if low_left else 0)
        edges += rounded_down(found, input_dtype).tolist()
    counts = struct.pack("<2I", len(order), len(edges))
    return counts + struct.pack(f"<{len(edges)}d", *edges) + nodes.tobytes() + _little(tree.value[order[is_leaf]])


def _in_pairs(tree: Tree) -> Indices:
    """The nodes level by level, each two children side by side."""
    levels = [np.zeros(1, np.int64)]
    while len(levels[-1]):
        inner = levels[-1][tree.feature[levels[-1]] >= 0]
        levels.append(np.stack([tree.left[inner], tree.right[inner]], axis=1).ravel())
    return np.concatenate(levels)


def _little(values: NDArray[np.floating]) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
