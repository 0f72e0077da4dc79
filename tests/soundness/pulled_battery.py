"""The part of the battery on pulled batches: queries whose rows Python scores in large batches, against a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.engines import pulling, scored_stream
from tests.oracle import identity, linear, model
from tests.soundness.battery import INF, NAN, Battery

ROWS, _BATCH = 60, 7
_VALUES = (5.0, NAN, 1.0, None, -3.0, 5.0, INF, 0.9, -INF, -0.0, 2.0)

PULLED: tuple[str, ...] = (
    "SELECT id FROM {t} WHERE same(a) > 0.9",
    "SELECT id FROM {t} WHERE same(a) > 0.9::DOUBLE",
    "SELECT id FROM {t} WHERE same(a) <= 0.9 OR k = 3",
    "SELECT id FROM {t} WHERE NOT (same(a) > 0.9 OR k = 3)",
    "SELECT id FROM {t} WHERE same(a) > 0.9 AND k = 3",
    "SELECT id FROM {t} WHERE same(a) > 0.9 AND a > 2",
    "SELECT id FROM {t} WHERE same(f) > 0.9 AND f >= 1",
    "SELECT id FROM {t} WHERE same(a) = 'nan'::FLOAT",
    "SELECT id FROM {t} WHERE same(n) IS NULL",
    "SELECT id, same(n) FROM {t}",
    "SELECT id, minus(n, k), minus(k, n), minus(f, a) FROM {t} WHERE d < DATE '2020-02-01'",
    "SELECT id, same(dec) AS y, same(dec::FLOAT) AS f, same(k::DOUBLE) AS d, minus(k, 1.5) AS m FROM {t} "
    "WHERE dec BETWEEN 3 AND 40.5",
    "SELECT * FROM {t} WHERE same(k) > 4",
    "SELECT t.*, same(k) AS id FROM {t} t WHERE same(t.k) > 4 AND s IN ('it''s 1', 'x')",
    "SELECT s, count(*), max(same(k)), min(same(a)) FROM {t} GROUP BY s HAVING max(same(k)) > 3",
    "SELECT same(k), count(*) FROM {t} WHERE d IN (DATE '2020-01-03', DATE '2020-02-01') GROUP BY same(k)",
    "SELECT count(*), avg(minus(k, id)) FROM {t} WHERE k > 3 AND truth",
    "SELECT count(*) FILTER (WHERE same(a) > 0.9), count(DISTINCT same(k)) FROM {t}",
    "SELECT id, sum(same(k)) OVER (ORDER BY id) FROM {t} QUALIFY same(k) > 2",
    "SELECT id FROM {t} ORDER BY same(k) DESC, id",
    "SELECT DISTINCT same(k) AS y FROM {t} WHERE y > 3",
    "SELECT max(y) FROM (SELECT same(a) AS y, k FROM {t} WHERE id > 5) WHERE k <> 3",
    "SELECT kind(k, 3), kind_class(k, 3) FROM {t} WHERE kind_class(k, 3) = 1 OR kind(k, 3)[1] > 5",
    "SELECT id, kind(n, k), kind_class(n, k) FROM {t}",
    "SELECT id FROM {t} WHERE CASE WHEN k > 3 THEN same(a) > 1 ELSE same(n) < 9 END",
    "SELECT id FROM {t} WHERE same(a) BETWEEN 0.9 AND 5 AND coalesce(n, 1) > 0",
    "SELECT id, same(k) FROM {t} WHERE (k = 3 AND s = 'it''s 0') OR same(a) > 3",
)
"""Queries whose rows are pulled."""
LEFT_ALONE: tuple[str, ...] = (
    "SELECT id FROM {t} WHERE same(k) > 4 ORDER BY id LIMIT 3",
    "SELECT id, file_row_number FROM {t} WHERE same(k) > 4",
    "SELECT x.id, y.id FROM {t} x JOIN {t} y ON x.id = y.id + 1 WHERE same(x.a) > 0.9",
    "SELECT -k AS k, id FROM {t} ORDER BY same(k), id",
    "SELECT COLUMNS('^k$') FROM {t} WHERE same(k) > 4",
    "SELECT id FROM {t} WHERE same(a::FLOAT) > 0.9",
    "SELECT id FROM {t} WHERE same(k + 1) > 4",
    "SELECT t FROM {t} t WHERE same(k) > 4",
    "SELECT id FROM {t} WHERE same(k) > (SELECT 4)",
    "WITH c AS (SELECT id, same(k) AS y FROM {t}) SELECT id FROM c WHERE y > 4",
    "SELECT list_transform([1], lambda k: k + 1), same(k) FROM {t}",
    "SELECT id FROM {t} t(id, k, a) WHERE same(k) > 4",
)
"""Queries that call the function."""


@contextmanager
def always() -> Iterator[None]:
    """Rows are pulled however few they are, in batches of a few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pulling, "least_rows", lambda pull: 0)
        patch.setattr(scored_stream, "BATCH_ROWS", _BATCH)
        yield


def rows(first: int) -> pa.Table:
    """Rows of types that are pulled."""
    i = np.arange(first, first + ROWS)
    values = [_VALUES[j % len(_VALUES)] for j in i.tolist()]
    return pa.table(
        {
            "id": i,
            "k": (i * 5 % 7).astype(np.int32),
            "a": pa.array(values, pa.float64()),
            "f": pa.array(values[::-1], pa.float32()),
            "n": pa.array(i, mask=i % 4 == 0),
            "dec": pa.array(i, pa.int64()).cast(pa.decimal128(21, 2)),
            "d": pa.array(18262 + i, pa.int32()).cast(pa.date32()),
            "s": [f"it's {j}" for j in (i % 3).tolist()],
            "truth": i % 2 > 0,
        }
    )


@contextmanager
def connected(threads: int) -> Iterator[skipml.Connection]:
    """A connection on which Python scores."""
    with skipml.connect(config={"threads": threads, "allow_unsigned_extensions": "false"}) as con:
        con.register_model("same", model(identity()))
        con.register_model("minus", model(linear([[1, -1]], [0])))
        con.register_model("kind", model(linear([[1, -1], [0, 1], [-1, 2]], [0, 0, 0])))
        yield con


def pulled(folder: Path) -> list[str]:
    """Every query over two files, on one thread and on two, and whether its rows are pulled."""
    tables = [rows(0), rows(ROWS)]
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=20)
    findings: list[str] = []
    for threads in (1, 2):
        with always(), connected(threads) as con:
            con.register("rows_", pa.concat_tables(tables))
            con.execute("CREATE TABLE loaded AS SELECT *, row_number() OVER () - 1 AS file_row_number FROM rows_")
            con.execute("CREATE TABLE plain AS SELECT * EXCLUDE (file_row_number) FROM loaded")
            con.unregister("rows_")
            for sql in (*PULLED, *LEFT_ALONE):
                findings += _findings(con, sql, folder)
        if findings:
            return findings
    return findings


def _findings(con: skipml.Connection, sql: str, folder: Path) -> list[str]:
    found = con.execute(sql.replace("{t}", f"'{folder}/*.parquet'")).fetchall()
    scoring = con.last_report.scoring if con.last_report is not None else ""
    if "file_row_number" in sql:
        return [f"{sql}: pulled"] if scoring == pulling.BATCHES else []
    expected = con.execute(sql.replace("{t}", "plain")).fetchall()
    if "ORDER BY" not in sql:
        found, expected = sorted(found, key=repr), sorted(expected, key=repr)
    wrong = [f"{sql}: {found} instead of {expected}"] if repr(found) != repr(expected) else []
    if (scoring == pulling.BATCHES) != (sql in PULLED):
        wrong.append(f"{sql}: {scoring}; {con.last_report}")
    return wrong


PULLED_BATTERIES: Mapping[str, Battery] = {"pulled": pulled}
