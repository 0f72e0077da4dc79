"""The files, tables, views and macros that generated queries read; every source has the columns id, a, b and k."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.engines import shortcuts
from skipml.threshold_search import search_row_groups
from tests.oracle import identity, linear, model, standing_clock

_ROWS, _GROUP = 96, 12

FILES = {
    "one": "SELECT id, a, b, k FROM @one@",
    "columns renamed": "SELECT * FROM @one@ AS t(id, a, b, k)",
    "columns swapped": "SELECT id, t.b AS a, t.a AS b, k FROM @one@ t",
    "many": "SELECT id, a, b, k FROM @many@",
    "list": "SELECT id, a, b, k FROM @list@",
    "hive": "SELECT id, a + p * 100 AS a, b, p AS k FROM @hive@",
    "partition as an input": "SELECT id, p AS a, b, k FROM @hive@",
    "by name": "SELECT id, a, b, k FROM @union@",
    "rich": "SELECT id, a, b, k FROM @rich@",
    "row numbers": "SELECT file_row_number AS id, a, b, k FROM @one@",
    "file names": "SELECT id, a, b, length(filename) AS k FROM @many@",
    "view": "SELECT id, a, b, k FROM plain_view",
    "view on a view": "SELECT id, a, b, k FROM nested_view",
    "view with a model": "SELECT id, a, b, k FROM model_view",
    "table macro": "FROM rows_above(3)",
}
TABLES = {
    "table": "SELECT id, a, b, k FROM kept",
    "values": "SELECT * FROM (VALUES (3, 1.5::DOUBLE, 2::DOUBLE, 1), (90, 95, 0, NULL), (9, NULL, 3, 2)) v(id,a,b,k)",
}
_NOT_AS_TABLES = ("row numbers", "file names")


def _rows(first: int, n: int = _ROWS) -> pa.Table:
    """`a` rises with `id`, with NULL, NaN and infinity in a few row groups; `b` goes through 0 to 12."""
    i = np.arange(first, first + n)
    a, b = i.astype(np.float64), (i * 5 % 13).astype(np.float64)
    for value, start in ((np.nan, 5), (np.inf, 30), (-np.inf, 54)):
        a[start::97] = value
    b[17::60] = np.nan
    missing = (i % 29 == 11) | ((i - first) // _GROUP == 6)
    return pa.table({"id": i, "a": pa.array(a, mask=missing), "b": b, "k": pa.array(i % 4, mask=i % 7 == 3)})


@dataclass(frozen=True)
class QueryLake:
    """Where what stands between @ in a query is: as files, and as tables that were loaded from them."""

    files: dict[str, str]

    def on_files(self, query: str) -> str:
        for name, text in self.files.items():
            query = query.replace(f"@{name}@", text)
        return query

    def on_tables(self, query: str) -> str | None:
        """The query on loaded tables, None where it asks what only files have."""
        if "file_row_number" in query or "filename" in query:
            return None
        for name in ("plain_view", "nested_view", "model_view", "rows_above"):
            query = query.replace(name, f"{name}_of_tables")
        for name in self.files:
            query = query.replace(f"@{name}@", f"loaded_{name}")
        return query


def write_lake(folder: Path) -> QueryLake:
    """Write the files."""

    def write(name: str, table: pa.Table) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=_GROUP)
        return path

    write("one.parquet", _rows(0))
    for i in range(3):
        frame = polars.from_arrow(_rows(60 * i, 60))
        assert isinstance(frame, polars.DataFrame)
        frame.write_parquet(folder / f"many{i}.parquet", row_group_size=_GROUP)
        write(f"hive/p={i}/x.parquet", _rows(48 * i, 48))
    write("union0.parquet", _rows(0, 48))
    write("union1.parquet", _rows(48, 48).select(["b", "id"]))
    write("union2.parquet", _rows(96, 24).select(["k", "a", "b", "id"]))
    rich = write("rich.parquet", _rows(0))
    models = [model(linear([[1, -1]], [0])), model(identity())]
    skipml.enrich(rich, ["a", "b"], pairs="all", boxes=2, models=models, witness_bytes=96, block_rows=5)
    many = ", ".join(f"'{folder}/many{i}.parquet'" for i in (2, 0))
    return QueryLake(
        {
            "one": f"'{folder}/one.parquet'",
            "many": f"'{folder}/many*.parquet'",
            "list": f"read_parquet([{many}])",
            "hive": f"'{folder}/hive/*/*.parquet'",
            "union": f"read_parquet('{folder}/union*.parquet', union_by_name = true)",
            "rich": f"'{folder}/rich.parquet'",
        }
    )


_DEFINITIONS = (
    "CREATE VIEW plain_view AS SELECT id, b AS a, a AS b, k FROM @one@",
    "CREATE VIEW nested_view AS SELECT id, b AS a, a AS b, k FROM plain_view WHERE id > 3",
    "CREATE VIEW model_view AS SELECT id, a, b, k FROM @many@ WHERE minus(a, b) > 20",
    "CREATE MACRO rows_above(t) AS TABLE SELECT id, a, b, k FROM @one@ WHERE minus(a, b) > t",
)


@contextmanager
def query_connection(lake: QueryLake) -> Iterator[skipml.Connection]:
    """A connection with the models minus(a, b), same(a) and multi(a, b), and with views, on which nothing is too small
    to be worth a shortcut.
    """
    with pytest.MonkeyPatch.context() as patch, standing_clock():
        patch.setattr(shortcuts, "_LEAST_GAIN", -np.inf)
        patch.setattr(shortcuts, "_AT_LEAST", -np.inf)
        patch.setattr(shortcuts, "_WORTH_KEEP", 0.0)
        patch.setitem(search_row_groups.__globals__, "_LEAST_GAIN", 0.0)
        with skipml.connect(config={"threads": 1}) as con:
            con.register_model("minus", model(linear([[1, -1]], [0])))
            con.register_model("same", model(identity("float64")))
            con.register_model("multi", model(linear([[1, -1], [0, 1], [-1, 2]], [0, 0, 0])))
            for name, source in lake.files.items():
                con.execute(f"CREATE TABLE loaded_{name} AS FROM {source}")
            con.execute("CREATE TABLE kept AS SELECT id, a, b, k FROM loaded_one WHERE id % 3 = 0")
            con.execute("CREATE MACRO risky(p, q) AS minus(p, q) > 60")
            for definition in _DEFINITIONS:
                con.execute(lake.on_files(definition))
                on_tables = lake.on_tables(definition)
                assert on_tables is not None
                con.execute(on_tables)
            yield con
