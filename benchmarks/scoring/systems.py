"""The ways to score rows in DuckDB, each on a connection of its own, and the queries that they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import torch
from torch import nn

import skipml
from benchmarks.scorer import connect
from benchmarks.torch_function import create_score

COLUMNS = ("l_quantity", "l_extendedprice", "l_discount", "l_tax")
FUNCTION = "scored"
PYTORCH, PYTHON, NATIVE = "PyTorch UDF", "skipml, Python", "skipml, extension"
_ONE_PERCENT = "l_shipdate BETWEEN DATE '1995-03-01' AND DATE '1995-03-25'"


def network(hidden: tuple[int, ...], seed: int) -> nn.Sequential:
    """A random ReLU network of four inputs and one output."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((len(COLUMNS), *hidden, 1)):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def call(arguments: Sequence[str]) -> str:
    """The SQL of a call of the model."""
    return f"{FUNCTION}({', '.join(f'{argument}::FLOAT' for argument in arguments)})"


@dataclass(frozen=True, slots=True)
class Query:
    """A query that scores rows; `behind` says what of the table reaches the model."""

    behind: str
    sql: str
    without: str
    """The same without the model."""


def queries(table: Path) -> tuple[Query, ...]:
    """The mean score of all rows, and of those that a cheap filter leaves; both are sums that ask for every score."""
    plain = " + ".join(f"{name}::FLOAT" for name in COLUMNS)

    def query(behind: str, where: str) -> Query:
        return Query(behind, *(f"SELECT count(*), avg({x}) FROM '{table}'{where}" for x in (call(COLUMNS), plain)))

    return query("all rows", ""), query("1 % of the rows", f" WHERE {_ONE_PERCENT}")


@dataclass(frozen=True, slots=True)
class System:
    """A way to score; `open` gives a connection with so many threads."""

    name: str
    open: Callable[[int], Any]


def systems(module: nn.Sequential) -> tuple[System, ...]:
    """The baseline first; the last one is the extension, where it is built."""
    model = skipml.Model.from_torch(module, columns=list(COLUMNS))

    def pytorch(threads: int) -> Any:
        connection = duckdb.connect(config={"threads": threads})
        create_score(connection, FUNCTION, module, ["FLOAT"] * len(COLUMNS))
        return connection

    def ours(threads: int, *, extension: bool) -> Any:
        connection = connect(extension=extension)
        connection.execute(f"SET threads = {threads}")
        connection.register_model(FUNCTION, model)
        connection.skipping = not extension  # there is nothing to skip; without it Python scores no pulled batches
        return connection

    return (
        System(PYTORCH, pytorch),
        System(PYTHON, lambda threads: ours(threads, extension=False)),
        System(NATIVE, lambda threads: ours(threads, extension=True)),
    )
