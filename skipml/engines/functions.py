"""The SQL functions that evaluate models, and how a bound call of one looks in DuckDB's plan.

Where the extension scores, the function that a user calls is a macro over one of the extension's functions, and a plan
shows it expanded: `skipml_score('fraud@12ab...', a, b)`. The first argument names the content of the model, so a plan
says which model it calls whatever happens to the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from skipml.engines.dialect import Expr, quote_text
from skipml.heads import Head
from skipml.pipelines import Pipeline, text_inputs
from skipml.scores import Model

Kind = Literal["score", "class"]


@dataclass(frozen=True, slots=True)
class ModelFunction:
    """A SQL function of a connection that evaluates a model: its outputs, or its class.

    `key` is what the extension calls the model, None where Python scores; `why_python` says why, where the connection
    is native.
    """

    name: str
    model: Model
    kind: Kind
    key: str | None = None
    why_python: str = ""

    @property
    def result(self) -> str:
        """The SQL type it gives."""
        if self.kind == "class":
            return "INTEGER"
        element = "FLOAT" if self.model.function.dtype == np.float32 else "DOUBLE"
        return element if self.model.n_outputs == 1 else f"{element}[]"

    @property
    def input_types(self) -> list[str]:
        """The SQL types that it takes."""
        if isinstance(self.model.function, Head):
            return ["FLOAT[]" if self.model.function.dtype == np.float32 else "DOUBLE[]"]
        texts = text_inputs(self.model.function)
        return ["VARCHAR" if i in texts else "DOUBLE" for i in range(self.model.function.n_inputs)]

    @property
    def sees_null(self) -> bool:
        """Whether DuckDB asks it about NULL, or leaves rows with one alone."""
        return isinstance(self.model.function, Pipeline | Head)

    @property
    def macro(self) -> str | None:
        """The parameters and the body of the macro that calls the extension, None where Python scores."""
        if self.key is None:
            return None
        parameters = ", ".join(f"x{i}" for i in range(1, self.model.function.n_inputs + 1))
        return f"({parameters}) AS {self._extension_function}({quote_text(self.key)}, {parameters})"

    @property
    def in_plan(self) -> tuple[str, str]:
        """The name of the function in a plan, and the text of its first argument if that names the model."""
        return (self.name, "") if self.key is None else (self._extension_function, quote_text(self.key))

    @property
    def _extension_function(self) -> str:
        if self.kind == "class":
            return "skipml_class"
        of_double = "" if self.model.function.dtype == np.float32 else "_double"
        return ("skipml_score" if self.model.n_outputs == 1 else "skipml_scores") + of_double

    def takes(self, inputs: Iterable[Expr], result: str) -> bool:
        """Whether a bound call is of this function and not of another of its name."""
        return [arg.type for arg in inputs] == list(map(_in_plan, self.input_types)) and result == _in_plan(self.result)


def _in_plan(sql_type: str) -> str:
    """What a plan calls a type."""
    return "LIST" if sql_type.endswith("[]") else sql_type


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call of a model's function over the output columns of one operator."""

    function: ModelFunction
    inputs: tuple[Expr, ...]


class ModelCalls:
    """Tells calls of models from other calls in a plan."""

    def __init__(self, functions: Mapping[str, ModelFunction]) -> None:
        self._functions = {function.in_plan: function for function in functions.values()}

    def find(self, call: Expr) -> ModelCall | None:
        """The model that a bound call evaluates, None for a call of anything else."""
        if call.op != "call":
            return None
        key = call.args[0].name if call.args and call.args[0].op == "const" else ""
        inputs = call.args
        function = self._functions.get((call.name, ""))
        if function is None:
            function, inputs = self._functions.get((call.name, key)), call.args[1:]
        return ModelCall(function, inputs) if function is not None and function.takes(inputs, call.type) else None
