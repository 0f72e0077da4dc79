"""The part of the battery on the first rows in the order of a score: every order, against a loaded table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml import threshold_search
from skipml.bounds.memory import SHARED
from tests.oracle import identity, linear, model, relu
from tests.soundness.battery import INF, NAN, Battery

_RUN, _GROUP = 4, 2
_MODELS: Mapping[str, skipml.Model] = {
    "same": model(identity()),
    "ramp": model(relu()),
    "minus": model(linear([[1, -1]], [0])),
}
_GROUPS: Mapping[str, Sequence[Sequence[float | None]]] = {
    "numbers": ((1, 2, 3, 4), (9, 9, 8, 9), (9, 7, 0, 9), (5, 5, 5, 5), (-3, -2, -1, -1), (9,)),
    "nulls": ((1, 2, None, 2), (None,), (7, 7, 7, 6), (None, 8, 7, 8), (0, -1, 0, -1), (-1,)),
    "nans": ((1, NAN, 3, 2), (4, 4, 5, 4), (NAN,), (-2, None, NAN, 3), (6, 6, 6, 1), (-5,)),
    "infinities": ((INF, 1, 2, 3), (3, 3, 3, 3), (-INF, 0, 1, -1), (INF,), (-INF,), (4, 2, None, NAN)),
    "zeros": ((0.0, -0.0), (-0.0,), (0.0,), (1, -1), (-0.0, 0.0, -1), (-0.0, 1)),
    "sparse": tuple((i, None, -i, i / 2) for i in range(10)),
    "nothing": ((None,), (None,), (None,), (None,), (None,), (None,)),
}
"""Runs of rows, of two row groups each, as the values that repeat in them."""


@dataclass(frozen=True)
class Lake:
    """Two files and the same rows as a table."""

    name: str
    paths: tuple[Path, Path]
    table: pa.Table


@dataclass(frozen=True)
class Order:
    """How many rows behind how many, in which order."""

    k: int
    offset: int
    ascending: bool
    nulls_first: bool

    @property
    def sql(self) -> str:
        """ORDER BY and LIMIT, but for the expression and further keys."""
        return f"{'ASC' if self.ascending else 'DESC'} NULLS {'FIRST' if self.nulls_first else 'LAST'}"

    @property
    def limit(self) -> str:
        return f"LIMIT {self.k}" + (f" OFFSET {self.offset}" if self.offset else "")


def orders() -> Iterator[Order]:
    """Every direction, with few rows, with some left out, and with more than there are."""
    for (k, offset), ascending, nulls_first in itertools.product(
        ((1, 0), (3, 0), (4, 3), (9, 0), (100, 0), (0, 2)), (False, True), (False, True)
    ):
        yield Order(k, offset, ascending, nulls_first)


def lakes(folder: Path) -> Iterator[Lake]:
    """Each mixture as it is and enriched in finer blocks, which tells those without NaN from others."""
    for (name, groups), is_enriched in itertools.product(_GROUPS.items(), (False, True)):
        values = [group[i % len(group)] for group in groups for i in range(_RUN)]
        rows = len(values)
        table = pa.table(
            {
                "id": np.arange(rows),
                "a": pa.array(values, pa.float64()),
                "b": (np.arange(rows) * 5 % 7 // 3).astype(np.int32),
            }
        )
        place = folder / f"{name}{'_enriched' * is_enriched}"
        place.mkdir()
        paths = (place / "0.parquet", place / "1.parquet")
        for path, part in zip(paths, (table[: rows // 2], table[rows // 2 :]), strict=True):
            pq.write_table(part, path, row_group_size=_GROUP)
        if is_enriched:
            skipml.enrich(list(paths), ["a", "b"], block_rows=1)
        yield Lake(place.name, paths, table)


def scores_of(chosen: skipml.Model, table: pa.Table) -> list[float | None]:
    """The score of every row, None for NULL."""
    found = chosen.evaluate(table)[:, 0].astype(np.float64).tolist()
    return [None if value is None else score for value, score in zip(table["a"].to_pylist(), found, strict=True)]


def load(con: Any, lake: Lake) -> None:
    """The rows with the scores of all models, as the table `truth`."""
    scored = lake.table
    for name, chosen in _MODELS.items():
        scored = scored.append_column(f"{name}_score", pa.array(scores_of(chosen, lake.table), pa.float32()))
    con.register("scored_", scored)
    con.execute("CREATE OR REPLACE TABLE truth AS FROM scored_")
    con.unregister("scored_")


def engine_free(folder: Path) -> list[str]:
    """`skipml.top_k` against DuckDB's own order."""
    findings = []
    with duckdb.connect(config={"threads": 1}) as con:
        for lake in lakes(folder):
            load(con, lake)
            for (name, chosen), order in itertools.product(_MODELS.items(), orders()):
                SHARED.forget()
                where = 2.5 if order.k == 3 else None
                asked = f"{lake.name}: {name} {order} {where}"
                condition = "" if where is None else f" WHERE ramp_score < {where}"
                expected = con.execute(
                    f"SELECT {name}_score FROM truth{condition} ORDER BY {name}_score {order.sql} {order.limit}"
                ).fetchall()
                found = skipml.top_k(
                    list(lake.paths),
                    chosen,
                    order.k,
                    ascending=order.ascending,
                    offset=order.offset,
                    nulls_first=order.nulls_first,
                    where=None if where is None else _MODELS["ramp"] < where,
                )
                findings += _wrong(asked, found, [row[0] for row in expected], scores_of(chosen, lake.table))
            if findings:
                break
    return findings


def _wrong(asked: str, found: skipml.TopRows, expected: list[Any], scores: list[Any]) -> list[str]:
    ids = found.table["id"].to_pylist()
    if repr(found.scores.to_pylist()) != repr(expected):
        return [f"{asked}: scores {found.scores.to_pylist()} instead of {expected}"]
    if len(set(ids)) < len(ids) or repr([scores[i] for i in ids]) != repr(expected):
        return [f"{asked}: rows {ids} do not have these scores"]
    return []


_ARGUMENTS: Mapping[str, str] = {"same": "a", "ramp": "a", "minus": "a, b"}
_CONDITIONS = ("", "b > 0", "ramp(a) < 2.5", "minus(a, b) >= 0 AND id % 3 > 0")
_KEYS = ("", ", id", ", b DESC, id DESC")


def in_duckdb(folder: Path) -> list[str]:
    """ORDER BY a model with LIMIT against the same query over a table; with further keys row by row. Row groups are
    visited one by one, so that there is a threshold to tell, and in waves as usual.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_FIRST_WAVE", "_LARGEST_FIRST_WAVE", "_GROWTH"):
            patch.setattr(threshold_search, name, 1)
        patch.setattr(threshold_search, "_LEAST_GAIN", 0.0)
        findings = _in_duckdb(folder / "one by one")
    return findings or _in_duckdb(folder / "in waves")


def _in_duckdb(folder: Path) -> list[str]:
    folder.mkdir()
    findings: list[str] = []
    with skipml.connect(config={"threads": 1}) as con:
        for name, chosen in _MODELS.items():
            con.register_model(name, chosen)
        for turn, lake in enumerate(lakes(folder)):
            load(con, lake)
            files = f"read_parquet({list(map(str, lake.paths))})"
            for i, (name, order) in enumerate(itertools.product(_MODELS, orders())):
                if (i + turn) % 2:
                    continue
                SHARED.forget()
                condition, keys = _CONDITIONS[i // 3 % len(_CONDITIONS)], _KEYS[i % len(_KEYS)]
                where = f"WHERE {condition}" if condition else ""
                call = f"{name}({_ARGUMENTS[name]})"
                sql = f"SELECT id, {call} AS s FROM {{}} {where} ORDER BY s {order.sql}{keys} {order.limit}"
                found, expected = con.execute(sql.format(files)).fetchall(), con.execute(sql.format("truth")).fetchall()
                findings += _differences(f"{lake.name}: {sql}", found, expected, scores_by_id(name, lake), bool(keys))
            if findings:
                break
    return findings


def scores_by_id(name: str, lake: Lake) -> list[Any]:
    return scores_of(_MODELS[name], lake.table)


def _differences(asked: str, found: list[Any], expected: list[Any], scores: list[Any], by_row: bool) -> list[str]:
    ids, values = [row[0] for row in found], [row[1] for row in found]
    if repr(values) != repr([row[1] for row in expected]):
        return [f"{asked}: scores {values} instead of {[row[1] for row in expected]}"]
    if len(set(ids)) < len(ids) or repr([scores[i] for i in ids]) != repr(values):
        return [f"{asked}: rows {ids} do not have these scores"]
    if by_row and found != expected and repr(found) != repr(expected):
        return [f"{asked}: rows {found} instead of {expected}"]
    return []


TOPK_BATTERIES: Mapping[str, Battery] = {"top-k": engine_free, "top-k in DuckDB": in_duckdb}
