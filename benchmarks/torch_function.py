"""The baseline: a network as a function of plain DuckDB that hands batches of rows to PyTorch through Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, Signature
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import torch
from torch import nn


def create_score(con: duckdb.DuckDBPyConnection, name: str, network: nn.Sequential, types: Sequence[str]) -> None:
    """Make the network's first output a function of inputs of these SQL types."""

    def score(*columns: Any) -> Any:
        return pa.array(_outputs(network, columns)[:, 0])

    _create(con, name, score, types, "FLOAT")


def create_classes(con: duckdb.DuckDBPyConnection, name: str, network: nn.Sequential, types: Sequence[str]) -> None:
    """Make functions of inputs of these SQL types: `name` is the list of all outputs, `name`_class the largest's."""

    def scores(*columns: Any) -> Any:
        found = _outputs(network, columns)
        starts = pa.array(np.arange(len(found) + 1, dtype=np.int32) * found.shape[1])
        return pa.ListArray.from_arrays(starts, pa.array(found.reshape(-1)))

    def label(*columns: Any) -> Any:
        return pa.array(_outputs(network, columns).argmax(axis=1).astype(np.int32))

    _create(con, name, scores, types, "FLOAT[]")
    _create(con, f"{name}_class", label, types, "INTEGER")


def _outputs(network: nn.Sequential, columns: Sequence[Any]) -> Any:
    rows = np.stack([column.to_numpy() for column in columns], axis=1).astype(np.float32, copy=False)
    with torch.inference_mode():
        return network(torch.from_numpy(rows)).numpy()


def _create(con: duckdb.DuckDBPyConnection, name: str, function: Any, types: Sequence[str], result: str) -> None:
    # DuckDB counts the parameters in the signature, where *columns would be one.
    function.__signature__ = Signature([Parameter(f"x{i}", Parameter.POSITIONAL_ONLY) for i in range(len(types))])
    con.create_function(name, function, list(types), result, type="arrow")  # type: ignore[call-overload]
