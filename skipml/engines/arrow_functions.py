"""Models as Arrow functions of DuckDB, in Python: slower than the extension, and there on every machine."""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

import numpy as np
import pyarrow as pa

from skipml.engines.functions import Kind
from skipml.scores import Model


def arrow_function(model: Model, kind: Kind) -> Any:
    """A function over the model's inputs, one Arrow array each; DuckDB never hands it a NULL."""
    return _with_arity(_scorer(model) if kind == "score" else _classifier(model), model.network.n_inputs)


def _outputs(model: Model, columns: tuple[Any, ...]) -> np.ndarray[Any, np.dtype[np.floating]]:
    return model.network.forward_columns([column.to_numpy() for column in columns])


def _scorer(model: Model) -> Any:
    def score(*columns: Any) -> Any:
        outputs = _outputs(model, columns)
        if model.n_outputs == 1:
            return pa.array(outputs[:, 0])
        offsets = np.arange(len(outputs) + 1, dtype=np.int32) * model.n_outputs
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(outputs.reshape(-1)))

    return score


def _classifier(model: Model) -> Any:
    def label(*columns: Any) -> Any:
        return pa.array(np.argmax(_outputs(model, columns), axis=1).astype(np.int32))

    return label


def _with_arity(function: Any, n_inputs: int) -> Any:
    """DuckDB reads the number of parameters from the signature."""
    function.__signature__ = Signature([Parameter(f"x{i}", Parameter.POSITIONAL_ONLY) for i in range(n_inputs)])
    return function
