"""Which scorer runs in a database, decided here and once: skipml's DuckDB extension, or Python.

A model has the same scorer on every connection of skipml to the database, with skipping and without, so that a row has
one score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from skipml.engines.arrow_functions import arrow_function
from skipml.engines.extension import NoExtensionError, load_extension
from skipml.engines.functions import ModelFunction
from skipml.errors import ModelError
from skipml.models.native import to_bytes
from skipml.scores import PYTHON_COST, Model, ScoringCost

NATIVE_COST = ScoringCost(per_row=5e-9, per_mac=0.025e-9)
"""What the extension spends on one core, measured on networks of 40 to 17,000 multiply-accumulates."""
_KEY_DIGITS = 16

Cursor = duckdb.DuckDBPyConnection


def choose_scorer(connection: duckdb.DuckDBPyConnection) -> Scorer:
    """The extension where it is there and may be loaded into the database of a connection, else Python."""
    try:
        path = load_extension(connection)
    except NoExtensionError as reason:
        return Scorer(is_native=False, description=f"Python ({reason})")
    return Scorer(is_native=True, description=f"native ({path})")


@dataclass(slots=True)
class Scorer:
    """Makes models known to one database."""

    is_native: bool
    description: str
    """Which scorer it is, and for Python why, in a line."""
    _callbacks: list[Any] = field(default_factory=list)
    """The Python functions that DuckDB calls: it lets go of them when the cursor that registered them is closed."""

    def functions(self, name: str, model: Model) -> tuple[ModelFunction, ...]:
        """The functions of a model: its outputs, and its class where it has several."""
        key = f"{name.lower()}@{model.hash[:_KEY_DIGITS]}" if self._takes(model) else None
        functions = [ModelFunction(name.lower(), model, "score", key)]
        if model.n_outputs > 1:
            functions.append(ModelFunction(f"{name.lower()}_class", model, "class", key))
        return tuple(functions)

    def _takes(self, model: Model) -> bool:
        """Whether the extension scores the model; it refuses very large ones."""
        if not self.is_native:
            return False
        try:
            to_bytes(model.network)
        except ModelError:
            return False
        return True

    def register(self, functions: Sequence[ModelFunction], plain: Cursor, private: Cursor) -> None:
        """Make the functions of one model known; raises duckdb.Error, and then leaves none of them behind.

        `plain` is the user's connection, `private` one to the same database whose results nobody reads.
        """
        if functions[0].key is not None:
            content = to_bytes(functions[0].model.network)
            private.execute("CALL skipml_register(?, ?)", [functions[0].key, content])
            return
        arrow: Any = "arrow"
        created: list[ModelFunction] = []
        try:
            for function in functions:
                callback = arrow_function(function.model, function.kind)
                inputs: list[Any] = ["DOUBLE"] * function.model.network.n_inputs
                plain.create_function(function.name, callback, inputs, function.result, type=arrow)
                created.append(function)
                self._callbacks.append(callback)
        except duckdb.Error:
            self.unregister(created, (), plain, private)
            raise

    def unregister(
        self, functions: Sequence[ModelFunction], left: Iterable[ModelFunction], plain: Cursor, private: Cursor
    ) -> None:
        """Take functions away again; `left` are those that stay, perhaps with the same model."""
        used = {function.key for function in left}
        for key in {function.key for function in functions} - used - {None}:
            private.execute("CALL skipml_unregister(?)", [key])
        for function in functions:
            if function.key is None:
                plain.remove_function(function.name)


def seconds_per_row(function: ModelFunction, threads: int) -> float:
    """What a row of a scan costs where a function scores it: Python scores one chunk at a time, the extension one per
    thread.
    """
    network = function.model.network
    if function.key is None:
        return PYTHON_COST.seconds_per_row(network)
    return NATIVE_COST.seconds_per_row(network) / threads
