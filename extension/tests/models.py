"""Writes the model files that the SQL tests load and the fuzzer mutates: `models.py FOLDER`."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from skipml.models.native import to_bytes
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift


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


def main(folder: Path) -> None:
    """One `NAME.model` per network."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks().items():
        (folder / f"{name}.model").write_bytes(to_bytes(network))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
