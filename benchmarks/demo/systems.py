"""The ways to run the filter: PyTorch in a plain DuckDB UDF, skipml without skipping, skipml; where skipml's DuckDB
extension is built it scores for skipml, and there is a line for skipml without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb
from torch import nn

import skipml
from benchmarks.torch_function import create_score

FUNCTION = "charge"
_SCANNED = re.compile(r"Row Groups Scanned: ([\d,]+) /")

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class System:
    """A way to run SQL that calls the model; `open` gives a new connection on which it is a function."""

    name: str
    open: Callable[[], Any]


def systems(network: nn.Sequential, model: skipml.Model) -> tuple[System, ...]:
    """The baseline first, skipml last."""
    plain = System("PyTorch UDF", lambda: _plain(network))
    python = System("skipml, scoring in Python", lambda: _skipml(model, extension=False))
    both = (
        System("skipml, skipping off", lambda: _skipml(model, skipping=False)),
        System("skipml", lambda: _skipml(model)),
    )
    with both[1].open() as connection:
        is_native = connection.explain("").scorer.startswith("native")
    return (plain, python, *both) if is_native else (plain, *both)


def row_groups(connection: Any, sql: str) -> int | None:
    """Row groups scanned as DuckDB counts them, over all scans of the query; None where skipml pulls the rows."""
    text = connection.execute(f"EXPLAIN ANALYZE {sql}").fetchall()[0][1]
    found = [int(number.replace(",", "")) for number in _SCANNED.findall(text)]
    return sum(found) if found else None


def _plain(network: nn.Sequential) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    create_score(connection, FUNCTION, network, ["FLOAT"] * 3)
    return connection


def _skipml(model: skipml.Model, *, skipping: bool = True, extension: bool = True) -> skipml.Connection:
    connection = skipml.connect(config={"allow_unsigned_extensions": str(extension).lower()})
    connection.register_model(FUNCTION, model)
    connection.skipping = skipping
    return connection


def same_rows(left: Rows, right: Rows) -> bool:
    """Whether both hold the same rows, in any order."""
    return sorted(left) == sorted(right)
