"""What a query answers with skipping and without it, on models small enough to know their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pytest

import skipml
from skipml.bounds.budget import Meter
from skipml.network import Affine, LeakyRelu, Network

DUCKDB_2 = duckdb.__version__.split(".")[0] >= "2"


@contextmanager
def standing_clock() -> Iterator[None]:
    """No time passes while verifying, so that decisions depend on the data alone and not on the load of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Meter, "seconds", 0.0)
        yield


def linear(weights: Sequence[Sequence[float]], bias: Sequence[float], dtype: str = "float32") -> Network:
    """One affine layer."""
    kind = np.dtype(dtype)
    return Network(len(weights[0]), len(weights), kind, (Affine(np.array(weights, kind), np.array(bias, kind)),))


def identity(dtype: str = "float32") -> Network:
    """The score is the input, cast to the dtype: no arithmetic, so no rounding that a margin could hide errors in."""
    return Network(1, 1, np.dtype(dtype), ())


def relu(dtype: str = "float32", slope: float = 0.0) -> Network:
    """The score is max(input, slope * input)."""
    return Network(1, 1, np.dtype(dtype), (LeakyRelu(slope),))


def model(network: Network, columns: str = "abcdefgh") -> skipml.Model:
    """A model whose inputs are the columns a, b, c, ..."""
    return skipml.Model(network, tuple(columns[: network.n_inputs]))


@dataclass(frozen=True)
class Answers:
    """The rows of a query with skipping and without, as sorted text, or the error that it raised, and the report."""

    skipping: list[str]
    plain: list[str]
    report: skipml.Report | None

    @property
    def skipped(self) -> int:
        """Row groups skipped in all scans."""
        return sum(scan.counts["skip"] for scan in self.report.scans) if self.report else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the query, or a part of it, ran as it is."""
        return self.report.notes if self.report else ()


def both_ways(con: skipml.Connection, run: Callable[[], Any]) -> Answers:
    """Call `run`, which returns rows, with skipping on and off."""
    answers = []
    report = None
    for skipping in (True, False):
        con.skipping, con.last_report = skipping, None
        try:
            answers.append(sorted(map(repr, run())))
        except (duckdb.Error, skipml.SkipmlError) as error:
            answers.append([f"{type(error).__name__}: {error}"])
        if skipping:
            report = con.last_report
    con.skipping = True
    return Answers(answers[0], answers[1], report)


def ask(con: skipml.Connection, sql: str, params: Any = None) -> Answers:
    """The answers of one query."""
    return both_ways(con, lambda: rows_of(con, sql, params))


def rows_of(con: skipml.Connection, sql: str, params: Any = None) -> list[Any]:
    """All rows of a query through `execute`."""
    rows: list[Any] = con.execute(sql, params).fetchall()
    return rows
