"""Models as Arrow functions of DuckDB: slower than the extension, and there on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.engines.functions import Kind
from skipml.function import Function

Forward = Callable[[Sequence[NDArray[Any]]], NDArray[np.floating]]
"""One array [n] per input -> the outputs [n, n_outputs]."""


def arrow_function(function: Function, kind: Kind, forward: Forward) -> Any:
    """A function over the model's inputs, one Arrow array each; DuckDB never hands it a NULL."""
    return _with_arity(_scorer(function, forward) if kind == "score" else _classifier(forward), function.n_inputs)


def _outputs(forward: Forward, columns: tuple[Any, ...]) -> NDArray[np.floating]:
    return forward([column.to_numpy() for column in columns])


def _scorer(function: Function, forward: Forward) -> Any:
    def score(*columns: Any) -> Any:
        outputs = _outputs(forward, columns)
        if function.n_outputs == 1:
            return pa.array(outputs[:, 0])
        offsets = np.arange(len(outputs) + 1, dtype=np.int32) * function.n_outputs
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(outputs.reshape(-1)))

    return score


def _classifier(forward: Forward) -> Any:
    def label(*columns: Any) -> Any:
        return pa.array(np.argmax(_outputs(forward, columns), axis=1).astype(np.int32))

    return label


def _with_arity(function: Any, n_inputs: int) -> Any:
    """DuckDB reads the number of parameters from the signature."""
    function.__signature__ = Signature([Parameter(f"x{i}", Parameter.POSITIONAL_ONLY) for i in range(n_inputs)])
    return function
