"""Models as Arrow functions of DuckDB: slower than the extension, and there on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.engines.functions import Kind
from skipml.features import pipeline_inputs
from skipml.function import Function
from skipml.heads import Head
from skipml.pipelines import Pipeline
from skipml.vectors import vectors_of

Forward = Callable[[Sequence[NDArray[Any]]], NDArray[np.floating]]
"""One array [n] per input -> the outputs [n, n_outputs]."""
Answer = Callable[[NDArray[np.floating], NDArray[np.bool_] | None], Any]
"""Outputs [n, n_outputs], and where there are none [n] -> what DuckDB is told."""


def arrow_function(function: Function, kind: Kind, forward: Forward) -> Any:
    """A function over the model's inputs, one Arrow array each; DuckDB hands NULL to pipelines and heads only."""
    answer = _scorer(function) if kind == "score" else _classes
    if isinstance(function, Head):
        return _with_arity(_of_vectors(function, answer), function.n_inputs)
    if isinstance(function, Pipeline):
        return _with_arity(_of_pipeline(function, answer, forward), function.n_inputs)
    return _with_arity(_of_numbers(answer, forward), function.n_inputs)


def _of_numbers(answer: Answer, forward: Forward) -> Any:
    def call(*columns: Any) -> Any:
        return answer(forward([column.to_numpy() for column in columns]), None)

    return call


def _of_pipeline(pipeline: Pipeline, answer: Answer, forward: Forward) -> Any:
    names = [f"argument {i + 1}" for i in range(pipeline.n_inputs)]

    def call(*columns: Any) -> Any:
        values, lacking = pipeline_inputs(columns, names, pipeline)
        null = np.asarray(lacking.any(axis=1), np.bool_)
        return answer(forward(list(values.T)), null if null.any() else None)

    return call


def _of_vectors(head: Head, answer: Answer) -> Any:
    def call(column: Any) -> Any:
        vectors, usable = vectors_of(column, head.dimension, "argument 1")
        return answer(head.forward(vectors), None if usable.all() else ~usable)

    return call


def _scorer(function: Function) -> Answer:
    def scores(outputs: NDArray[np.floating], null: NDArray[np.bool_] | None) -> Any:
        if function.n_outputs == 1:
            return pa.array(outputs[:, 0], mask=null)
        offsets = np.arange(len(outputs) + 1, dtype=np.int32) * function.n_outputs
        mask = None if null is None else pa.array(null)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(outputs.reshape(-1)), mask=mask)

    return scores


def _classes(outputs: NDArray[np.floating], null: NDArray[np.bool_] | None) -> Any:
    return pa.array(np.argmax(outputs, axis=1).astype(np.int32), mask=null)


def _with_arity(function: Any, n_inputs: int) -> Any:
    """DuckDB reads the number of parameters from the signature."""
    function.__signature__ = Signature([Parameter(f"x{i}", Parameter.POSITIONAL_ONLY) for i in range(n_inputs)])
    return function
