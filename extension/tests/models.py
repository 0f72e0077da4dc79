"""Writes the model files that the SQL tests load and the fuzzer mutates: `models.py FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from skipml.links import Link
from skipml.models.native import to_bytes
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from skipml.tree import Condition, Tree
from skipml.trees import Trees


def _network(dtype: str, *ops: Op, n_inputs: int, n_outputs: int) -> Network:
    return Network(n_inputs, n_outputs, np.dtype(dtype), ops)


def _linear(dtype: str, weight: list[list[float]], bias: list[float]) -> Affine:
    return Affine(np.array(weight, dtype), np.array(bias, dtype))


def _vector(dtype: str, *values: float) -> np.ndarray:
    return np.array(values, dtype)


def networks() -> dict[str, Network]:
    """Networks by name, most of them small enough to know their scores by heart."""
    made = {}
    for dtype, suffix in (("float32", ""), ("float64", "_double")):
        made |= {
            f"sum{suffix}": _network(dtype, _linear(dtype, [[1, 1]], [0]), n_inputs=2, n_outputs=1),
            f"relu{suffix}": _network(dtype, LeakyRelu(0), n_inputs=1, n_outputs=1),
            f"leaky{suffix}": _network(dtype, LeakyRelu(0.25), n_inputs=1, n_outputs=1),
            f"same{suffix}": _network(dtype, n_inputs=1, n_outputs=1),
            f"three{suffix}": _network(dtype, n_inputs=3, n_outputs=3),
            f"scaled{suffix}": _network(
                dtype,
                Shift(_vector(dtype, -1, -2)),
                Divide(_vector(dtype, 2, 4)),
                Scale(_vector(dtype, 10, 100)),
                _linear(dtype, [[1, 1]], [0.5]),
                n_inputs=2,
                n_outputs=1,
            ),
        }
        rng = np.random.default_rng(0)
        widths, ops = [5, 16, 9, 3], []
        for n_in, n_out in pairwise(widths):
            ops += [_linear(dtype, rng.standard_normal((n_out, n_in)).tolist(), [0.1] * n_out), LeakyRelu(0.01)]
        made[f"deep{suffix}"] = _network(dtype, *ops, n_inputs=5, n_outputs=3)
    return made


def _tree(dtype: str, conditions: dict[int, Condition]) -> Tree:
    """Numbers of the first input up to 0.5 go left to 1; of the others those of the second up to 2 to 2, or to 4."""
    feature, left, right = np.array([0, -1, 1, -1, -1]), np.array([1, 0, 3, 0, 0]), np.array([2, 0, 4, 0, 0])
    value = np.array([[0], [1], [0], [2], [4]], dtype)
    threshold = np.array([0.5, 0, 2, 0, 0])
    return Tree(feature, left, right, threshold, np.array([True, *[False] * 4]), value, conditions)


def forests() -> dict[str, Trees]:
    """Tree ensembles by name."""
    made = {}
    for dtype, suffix in (("float32", ""), ("float64", "_double")):
        kind = np.dtype(dtype)
        trees = (_tree(dtype, {}), _tree(dtype, {2: ((0.0, 2.0, 3.0), False)}))
        base = np.zeros(1, kind)
        made[f"tree{suffix}"] = Trees(2, 1, kind, kind, trees[:1], base)
        made[f"halved{suffix}"] = Trees(2, 1, kind, kind, trees, base, divisor=2.0, takes_nan=False)
        made[f"logistic{suffix}"] = Trees(2, 1, kind, kind, (), base, link=Link("logistic"))
        several = tuple(replace(tree, value=tree.value * np.ones(3, kind)) for tree in trees)
        made[f"classes{suffix}"] = Trees(2, 3, kind, kind, several, np.array([0, 1, 0], kind), link=Link("softmax"))
    return made


def main(folder: Path) -> None:
    """One `NAME.model` per network and tree ensemble."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in (networks() | forests()).items():
        (folder / f"{name}.model").write_bytes(to_bytes(network))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
