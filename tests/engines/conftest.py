"""A small lake, and a connection with models, views and tables over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from tests.oracle import identity, linear, model, standing_clock

ROWS, GROUP = 400, 50
"""Rows of a file and of a row group."""


def rows(first: int = 0, n: int = ROWS) -> pa.Table:
    """`a` rises from row to row as `id` does, `b` runs through 0 to 99, `n` is NULL in every fifth row."""
    i = np.arange(first, first + n)
    return pa.table(
        {
            "id": i,
            "a": i,
            "b": i * 7 % 100,
            "s": pa.array([f"it's {k}" for k in (i % 3).tolist()]),
            "d": pa.array(18262 + i, pa.int32()).cast(pa.date32()),
            "n": pa.array(i, mask=i % 5 == 0),
            "dec": pa.array(i, pa.int64()).cast(pa.decimal128(21, 2)),
            "truth": i >= first + n // 2,
        }
    )


def write(path: Path, table: pa.Table, group: int = GROUP) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return str(path)


@dataclass(frozen=True)
class Lake:
    """Where the files are, by what stands for them in a query."""

    folder: Path
    names: Mapping[str, str]

    def sql(self, query: str) -> str:
        """The query with {one}, {many}, {list}, {hive}, {union} and {odd} replaced."""
        for name, text in self.names.items():
            query = query.replace("{" + name + "}", text)
        return query


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Row groups of 50 rows: 8 in {one}, 24 in {many} and {hive}."""
    folder = tmp_path_factory.mktemp("it's a lake")
    write(folder / "one.parquet", rows())
    for i in range(3):
        write(folder / f"many{i}.parquet", rows(ROWS * i))
        write(folder / f"hive/p={i}/q=x/part.parquet", rows(ROWS * i))
    write(folder / "union0.parquet", rows().select(["id", "a", "b"]))
    write(folder / "union1.parquet", rows(ROWS).select(["b", "id"]))
    odd = ["order key", "1", "true", "a.b", 'quo"ted', "select", "Ünïcode", "minus"]
    write(folder / "odd.parquet", pa.table({name: np.arange(ROWS) for name in odd}))
    path = str(folder).replace("'", "''")
    many = ", ".join(f"'{path}/many{i}.parquet'" for i in (2, 0))
    return Lake(
        folder,
        {
            "one": f"'{path}/one.parquet'",
            "many": f"'{path}/many*.parquet'",
            "list": f"read_parquet([{many}])",
            "hive": f"'{path}/hive/*/*/*.parquet'",
            "union": f"read_parquet('{path}/union*.parquet', union_by_name = true)",
            "odd": f"'{path}/odd.parquet'",
            "out": f"{path}/out",
        },
    )


@pytest.fixture(scope="module")
def con(lake: Lake) -> Iterator[skipml.Connection]:
    """The models are minus(a, b) = a - b, same(a) = a and multi(a, b) = [a - b, b, 2b - a]."""
    with standing_clock(), skipml.connect(config={"threads": 1}) as connection:
        connection.register_model("minus", model(linear([[1, -1]], [0])))
        connection.register_model("same", model(identity()))
        connection.register_model("multi", model(linear([[1, -1], [0, 1], [-1, 2]], [0, 0, 0])))
        for statement in (
            "CREATE TABLE small AS SELECT i AS id, i % 7 AS z FROM range(0, 400, 3) t(i)",
            "CREATE VIEW plain_view AS SELECT id, a AS x, b AS y FROM {one}",
            "CREATE VIEW nested_view AS SELECT id, y AS q, x AS p FROM plain_view WHERE id > 3",
            "CREATE VIEW named_view(i, u, v) AS SELECT id, a, b FROM {one}",
            "CREATE VIEW model_view AS SELECT id, a FROM {one} WHERE minus(a, b) > 370",
            "CREATE SCHEMA other",
            "CREATE VIEW other.far_view AS SELECT id, a, b FROM {one}",
            "CREATE MACRO risky(p, q) AS minus(p, q) > 370",
            "CREATE MACRO rows_above(t) AS TABLE SELECT id FROM {one} WHERE minus(a, b) > t",
        ):
            connection.execute(lake.sql(statement))
        yield connection
