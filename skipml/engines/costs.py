"""What scoring and verification cost here, measured: a call of a model on some thousand rows when it is first needed,
verification from run to run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import duckdb

from skipml.bounds.budget import Ledger
from skipml.engines.dialect import quote_name
from skipml.engines.functions import ModelFunction
from skipml.heads import Head

_NATIVE_ROWS, _PYTHON_ROWS = 8_192, 2_048
_TIMES = 2
_FAR = 4.0
"""A measurement that differs from the estimate by more than this factor is one of something else."""
_RUNS = 7
_SHORTEST = 1e-3
"""Seconds of estimated work from which on a run says something about the pace."""
_SLOWEST, _FASTEST = 4.0, 0.5
_MAX_MODELS = 1024


def measured_seconds_per_row(function: ModelFunction, estimate: float, private: duckdb.DuckDBPyConnection) -> float:
    """What one core spends on a row where a function scores it; `private` is a cursor of the database whose results
    nobody reads. The estimate where it cannot be measured.
    """
    name, key = function.in_plan
    rows = _NATIVE_ROWS if function.key is not None else _PYTHON_ROWS
    inputs = [_argument(function, sql_type) for sql_type in function.input_types]
    call = f"{quote_name(name)}({', '.join([key, *inputs] if key else inputs)})"
    try:
        seconds = _seconds(private, call, rows) - _seconds(private, "x + 1", rows)
    except duckdb.Error:
        return estimate
    return min(max(seconds / rows, estimate / _FAR), estimate * _FAR)


def _argument(function: ModelFunction, sql_type: str) -> str:
    """An input that is made of a number x."""
    head = function.model.function
    if isinstance(head, Head):
        return f"repeat([CAST(x AS {sql_type.removesuffix('[]')})], {head.dimension})"
    return f"CAST(x AS {sql_type})"


def _seconds(private: duckdb.DuckDBPyConnection, value: str, rows: int) -> float:
    """How long a value takes for some rows, the best of some times."""
    sql = f"SELECT count({value}) FROM (SELECT CAST(i AS DOUBLE) AS x FROM range({rows}) t(i))"
    taken = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        private.execute(sql).fetchall()
        taken.append(time.perf_counter() - started)
    return min(taken)


@dataclass(slots=True)
class Paces:
    """How many times its estimate verification takes, by model; threads may share it."""

    _runs: dict[str, deque[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ledger(self, functions: Iterable[ModelFunction]) -> Ledger:
        """A ledger for the next query that calls the functions: at the median pace of the last ones."""
        with self._lock:
            runs = sorted(self._runs.get(_models(functions), ()))
        # the first run of a process maps memory and loads code: the estimate counts as a run
        middle = sorted([1.0, *runs])[len(runs) // 2]
        return Ledger(min(max(middle, _FASTEST), _SLOWEST))

    def learn(self, functions: Iterable[ModelFunction], ledger: Ledger | None) -> None:
        """Take note of what the runs for a query took."""
        if ledger is None or ledger.estimated < _SHORTEST or ledger.spent <= 0:
            return
        with self._lock:
            if len(self._runs) >= _MAX_MODELS:
                self._runs.clear()
            self._runs.setdefault(_models(functions), deque(maxlen=_RUNS)).append(ledger.spent / ledger.estimated)


def _models(functions: Iterable[ModelFunction]) -> str:
    return " ".join(sorted(function.model.hash for function in functions))


PACES = Paces()
"""Those of this process."""
