"""skipml's own scorer in DuckDB: its extension where it is built, else Python."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import skipml

ALLOWED: dict[str, Any] = {"allow_unsigned_extensions": "true"}
"""The configuration of databases in which the extension may score."""


def connect(*, extension: bool = True, root: Path | None = None) -> skipml.Connection:
    """A connection that scores with the extension where it is built and wanted, and finds metadata below `root`."""
    return skipml.connect(metadata_root=root, config={"allow_unsigned_extensions": str(extension).lower()})


def name_of_scorer() -> str:
    """`native`, or why it is Python."""
    with connect() as connection:
        description = connection.explain("").scorer
    return "native" if description.startswith("native") else description


def scorer_outputs(model: skipml.Model, rows: NDArray[np.float64]) -> NDArray[np.floating]:
    """The outputs [n, m] of rows [n, d] as the scorer computes them in DuckDB."""
    columns = [f"x{i}" for i in range(rows.shape[1])]
    with connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a relation copies less, but has no parameters
        connection.register_model("outputs", model)
        connection.execute("SET threads = 1; SET enable_progress_bar = false")  # rows stay in order
        connection.register("inputs", pa.table(dict(zip(columns, rows.T, strict=True))))
        found = connection.execute(f"SELECT outputs({', '.join(columns)}) AS y FROM inputs").to_arrow_table()["y"]
    flat = found.combine_chunks()
    values = flat.flatten() if pa.types.is_list(flat.type) else flat
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(rows), model.n_outputs)
