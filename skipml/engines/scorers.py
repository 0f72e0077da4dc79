"""Which scorer runs in a database, decided here and once: skipml's DuckDB extension, or Python.

A model has the same scorer on every connection of skipml to the database, with skipping and without, so that a row has
one score.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from skipml.engines.arrow_functions import Forward, arrow_function
from skipml.engines.costs import measured_seconds_per_row
from skipml.engines.extension import load_extension
from skipml.engines.functions import Kind, ModelFunction
from skipml.engines.kernels import Kernels
from skipml.errors import ModelError
from skipml.library import NoExtensionError, find_extension
from skipml.linked import Linked
from skipml.models.native import to_bytes
from skipml.network import Network
from skipml.scores import PYTHON_COST, Model, ScoringCost
from skipml.trees import Trees

NATIVE_COST = ScoringCost(per_row=5e-9, per_mac=0.025e-9)
"""What the extension spends on one core, measured on networks of 40 to 17,000 multiply-accumulates."""
KERNELS_COST = ScoringCost(per_row=PYTHON_COST.per_row + NATIVE_COST.per_row, per_mac=NATIVE_COST.per_mac)
"""The same kernels, with rows handed over to Python."""
_KEY_DIGITS = 16

Cursor = duckdb.DuckDBPyConnection


def choose_scorer(connection: duckdb.DuckDBPyConnection) -> Scorer:
    """The extension where it is there and may be loaded into the database of a connection; else Python, with the
    extension's kernels where it is there.
    """
    try:
        path = find_extension()
    except NoExtensionError as reason:
        return Scorer(f"Python ({reason})")
    try:
        load_extension(connection, path)
    except NoExtensionError as reason:
        return _in_python(path, str(reason))
    return Scorer(f"native ({path})", is_native=True)


def _in_python(path: Path, reason: str) -> Scorer:
    try:
        return Scorer(f"Python with the extension's kernels ({reason})", kernels=Kernels(path))
    except NoExtensionError:
        return Scorer(f"Python ({reason})")


@dataclass(slots=True)
class Scorer:
    """Makes models known to one database."""

    description: str
    """Which scorer it is, and for Python why, in a line."""
    is_native: bool = False
    """Whether DuckDB scores with the extension."""
    kernels: Kernels | None = None
    """What Python scores with; numpy where it is None, and for models that the kernels do not take."""
    _measured: dict[tuple[tuple[str, str], str], float] = field(default_factory=dict)
    """Seconds per row by function and model."""
    _callbacks: dict[tuple[str, Kind], Any] = field(default_factory=dict)
    """The Python functions that DuckDB calls, by model: it lets go of them when the cursor that registered one is
    closed.
    """

    def functions(self, name: str, model: Model) -> tuple[ModelFunction, ...]:
        """The functions of a model: its outputs, and its class where it has several."""
        why_python = self._refusal(model)
        is_native = self.is_native and not why_python
        key = f"{name.lower()}@{model.hash[:_KEY_DIGITS]}" if is_native else None
        functions = [ModelFunction(name.lower(), model, "score", key, why_python)]
        if model.n_outputs > 1:
            functions.append(ModelFunction(f"{name.lower()}_class", model, "class", key, why_python))
        return tuple(functions)

    def _refusal(self, model: Model) -> str:
        """Why the extension does not score the model where it scores others: its kind, or its size."""
        if self.is_native:
            try:
                to_bytes(model.function)
            except ModelError as error:
                return str(error)
        return ""

    def describe(self, functions: Iterable[ModelFunction]) -> str:
        """Which scorer it is, and which of the functions Python scores beside the extension, and why."""
        names: dict[str, list[str]] = {}
        for function in functions:
            if function.why_python:
                names.setdefault(function.why_python, []).append(function.name)
        return "; ".join([self.description, *(f"Python for {', '.join(of)}: {why}" for why, of in names.items())])

    def register(self, functions: Sequence[ModelFunction], plain: Cursor, private: Cursor) -> None:
        """Make the functions of one model known; raises duckdb.Error, and then leaves none of them behind.

        `plain` is the user's connection, `private` one to the same database whose results nobody reads.
        """
        if functions[0].key is not None:
            content = to_bytes(functions[0].model.function)
            private.execute("CALL skipml_register(?, ?)", [functions[0].key, content])
            return
        arrow: Any = "arrow"
        created: list[ModelFunction] = []
        try:
            for function in functions:
                callback = self.arrow_function(function)
                inputs: list[Any] = list(function.input_types)
                nulls: Any = "special" if function.sees_null else "default"
                plain.create_function(function.name, callback, inputs, function.result, type=arrow, null_handling=nulls)
                created.append(function)
        except duckdb.Error:
            self.unregister(created, (), plain, private)
            raise

    def arrow_function(self, function: ModelFunction) -> Any:
        """What DuckDB calls where Python scores: one Arrow array per input, without NULL unless the function sees it,
        gives an answer per row.
        """
        asked = (function.model.hash, function.kind)
        if asked not in self._callbacks:
            forward = self._forward(function.model)
            self._callbacks[asked] = arrow_function(function.model.function, function.kind, forward)
        return self._callbacks[asked]

    def _forward(self, model: Model) -> Forward:
        """How Python computes outputs."""
        function = model.function
        if self.kernels is not None:
            with contextlib.suppress(ModelError, NoExtensionError):
                if isinstance(function, Linked):
                    of_margins, margins = function.of_margins, self.kernels.load(function.network).forward_columns
                    return lambda columns: of_margins(margins(columns))
                return self.kernels.load(function).forward_columns
        return model.function.forward_columns

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

    def seconds_per_row(self, function: ModelFunction, threads: int, private: Cursor) -> float:
        """What a row of a scan costs where a function scores it, measured on `private` when it is first asked: Python
        takes one chunk at a time, the extension one per thread.
        """
        asked = (function.in_plan, function.model.hash)
        if asked not in self._measured:
            estimate = self._cost(function).seconds_per_row(function.model.function)
            self._measured[asked] = measured_seconds_per_row(function, estimate, private)
        return self._measured[asked] / (threads if function.key is not None else 1)

    def _cost(self, function: ModelFunction) -> ScoringCost:
        if function.key is not None:
            return NATIVE_COST
        has_kernels = self.kernels is not None and isinstance(function.model.function, Network | Trees)
        return KERNELS_COST if has_kernels else PYTHON_COST
