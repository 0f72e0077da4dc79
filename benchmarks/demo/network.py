"""The demo's model: a 3-32-32-1 ReLU network that learns what a line is charged from quantity, price and discount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from torch import nn

from benchmarks.tpc.networks import Floats, Training, load, save, torch_outputs, train

COLUMNS = ("l_quantity", "l_extendedprice", "l_discount")
_TARGET = "l_extendedprice * (1 - l_discount) * (1 + l_tax)"
_WIDTHS = (3, 32, 32, 1)
_SAMPLED = "(l_orderkey * 7 + l_linenumber) % 30 = 0"


def trained(table: Path, path: Path) -> nn.Sequential:
    """The network, trained on a thirtieth of the table, or read from the ONNX file at path if it is there."""
    if not path.exists():
        sample = _columns(table, [f"({text})::DOUBLE" for text in (*COLUMNS, _TARGET)], _SAMPLED)
        save(train(_WIDTHS, sample[:, :-1], sample[:, -1], Training()), path)
    return load(path)


def read_inputs(table: Path) -> Floats:
    """The model inputs of every row, [n, 3]."""
    return _columns(table, [f"{name}::DOUBLE" for name in COLUMNS], "true")


def torch_scores(network: nn.Sequential, inputs: Floats) -> Floats:
    """The scores [n] of rows [n, 3] as torch computes them."""
    return torch_outputs(network, inputs)[:, 0].astype(np.float64)


def threshold(scores: Floats, selectivity: float) -> float:
    """A limit that about this share of the scores [n] exceeds, in the widest gap near there: no rounding crosses it."""
    wanted = round(selectivity * len(scores))
    slack = max(1, wanted // 50)
    above = np.sort(scores)[::-1][max(0, wanted - slack) : wanted + slack]
    widest = int(np.argmax(-np.diff(above)))
    return round(float(above[widest] + above[widest + 1]) / 2, 2)


def _columns(table: Path, expressions: list[str], condition: str) -> Floats:
    named = ", ".join(f"{text} AS c{i}" for i, text in enumerate(expressions))
    with duckdb.connect() as con:
        found: dict[str, Any] = con.execute(f"SELECT {named} FROM '{table}' WHERE {condition}").fetchnumpy()
    return np.stack([np.asarray(column, np.float64) for column in found.values()], axis=1)
