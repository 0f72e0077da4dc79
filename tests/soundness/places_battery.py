"""The part of the battery on rows that are not scored: model conditions answered by where a row lies, against a loaded
table.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.memory import SHARED
from skipml.engines import places, shortcuts
from tests.oracle import identity, linear, model
from tests.soundness.battery import NAN, Battery

_RUNS: tuple[tuple[int, tuple[float | None, ...]], ...] = (
    *((4, (5.0, 6.0)), (6, (1.0, 2.0, 5.0)), (2, (-3.0,)), (8, (-3.0, -3.0, 7.0, 7.0)), (4, (9.0,)), (1, (None,))),
    *((7, (5.0, None)), (3, (NAN, 5.0)), (8, (-4.0, -4.0, 5.0, 6.0, 5.0, 6.0, 1.0, 1.0)), (8, (9.0, 8.0))),
    *((5, (2.0, 5.0)), (4, (-1.0, -2.0)), (8, (6.0, 6.0, -5.0, -5.0)), (3, (7.0,))),
)
"""Row groups: how many rows, and the values of `a` that repeat in them."""
_FIRST_FILE = 8
LIMITS = (5.0, float(np.nextafter(np.float32(5), np.float32(0))), float(np.nextafter(np.float32(5), np.float32(9))))
"""The score of a row, and the numbers beside it."""
CONDITIONS = (
    "same({x}a) > {v}",
    "same({x}a) >= {v}",
    "same({x}a) < {v}",
    "NOT same({x}a) <= {v}",
    "same({x}a) BETWEEN {v} AND 8",
    "(same({x}a) > {v} OR same({x}a) < -2)",
    "same({x}a) > {v} - 0 AND {x}id % 3 > 0 AND same({x}a) > -4",
    "minus({x}a, {x}b) > -5 AND same({x}b) < 3 AND same({x}a) >= {v}",
    "(same({x}a) > 8 OR {x}b = 1) AND same({x}a) >= {v}",
    "same({x}a) <> {v} AND {x}id > 7",
)
SHAPES = (
    "SELECT id, b FROM {t} t WHERE {c}",
    "SELECT count(*) FROM {t} t WHERE {c}",
    "SELECT id FROM {t} t WHERE {c} LIMIT 5",
    "SELECT id FROM {t} t WHERE {c} LIMIT 4 OFFSET 3",
    "SELECT id, b, a FROM {t} t WHERE {c} ORDER BY b, id DESC LIMIT 4",
    "SELECT EXISTS (FROM {t} t WHERE {c})",
    "SELECT COLUMNS('^(id|a|b)$') FROM {t} t WHERE {c} AND b > 0",
    "SELECT x.id, y.id FROM {t} x JOIN {t} y ON x.id = y.id + 1 WHERE {c:x} AND same(y.a) >= 5 ORDER BY ALL",
    "SELECT x.id, y.id FROM {t} x, {t} y WHERE {c:x} AND {c:y} AND x.id = y.id ORDER BY ALL",
    "SELECT s.id, t.id FROM small s LEFT JOIN {t} t ON s.id = t.id WHERE {c:t} ORDER BY ALL",
    "SELECT s.id, t.id FROM {t} t LEFT JOIN small s ON s.id = t.id WHERE {c:t} ORDER BY ALL",
    "SELECT s.id, t.id FROM {t} t LEFT JOIN small s ON s.id = t.id AND {c:t} ORDER BY ALL",
    "SELECT s.id, t.id FROM {t} t FULL JOIN small s ON s.id = t.id WHERE {c:t} ORDER BY ALL",
    "SELECT s.id FROM small s WHERE EXISTS (FROM {t} t WHERE t.id = s.id AND {c:t}) ORDER BY ALL",
    "SELECT s.id FROM small s WHERE s.id NOT IN (SELECT id FROM {t} t WHERE {c}) ORDER BY ALL",
    "SELECT id FROM (SELECT id, a, b FROM {t}) t WHERE {c}",
    "SELECT id FROM (SELECT id, b AS a, a AS b FROM {t} t WHERE {c}) t WHERE same(b) >= 5",
    "WITH c AS NOT MATERIALIZED (FROM {t} WHERE {c}) SELECT (SELECT max(id) FROM c WHERE same(a) < 0), max(id) FROM c",
    "WITH c AS NOT MATERIALIZED (FROM {t} WHERE {c}) SELECT max(id), (SELECT max(id) FROM c WHERE same(a) > 6) FROM c",
    "WITH c AS MATERIALIZED (FROM {t} WHERE {c}) SELECT (SELECT max(id) FROM c WHERE same(a) < 0), max(id) FROM c",
    "SELECT id FROM {t} t WHERE {c} UNION ALL SELECT id FROM {t} u WHERE same(u.a) < 0",
    "SELECT b, count(*), max(id) FROM {t} t WHERE {c} GROUP BY b HAVING same(b) > 0 ORDER BY ALL",
    "SELECT id, same(a), {c} FROM {t} t WHERE {c}",
    "SELECT id, row_number() OVER (ORDER BY id DESC) FROM {t} t WHERE {c} ORDER BY id",
    "SELECT id, file_row_number FROM {t} t WHERE {c}",
    "SELECT id FROM {t} t WHERE NOT ({c})",
    "SELECT id FROM {t} t WHERE ({c}) OR id % 5 = 0",
    "SELECT count(*) FROM {t} t WHERE (SELECT count(*) FROM small s WHERE s.id = t.id AND {c:t}) > 0",
)


@dataclass(frozen=True)
class Lake:
    """Files, and the table that holds the same rows with their row numbers."""

    name: str
    files: str
    table: str


@contextmanager
def eager(*, bits: bool = False) -> Iterator[None]:
    """Every shortcut pays, with places told by bits or by the borders of runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "_LEAST_GAIN", -np.inf)
        patch.setattr(shortcuts, "_AT_LEAST", -np.inf)
        patch.setattr(shortcuts, "_WORTH_KEEP", 0.0)
        if bits:
            patch.setattr(places, "_MAX_TREE", 1)
            patch.setattr(places, "_MAX_BITS", 24)
        yield


def write(path: Path, runs: Sequence[tuple[int, tuple[float | None, ...]]], first: int, **more: Any) -> pa.Table:
    """A file of the row groups, its ids counted from `first`."""
    values = [values[i % len(values)] for n, values in runs for i in range(n)]
    rows = np.arange(first, first + len(values))
    columns = {"id": rows, "a": pa.array(values, pa.float64()), "b": (rows * 5 % 7 // 2).astype(np.int32)}
    table = pa.table(columns | {name: make(rows) for name, make in more.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, table.schema) as writer:
        start = 0
        for n, _ in runs:
            writer.write_table(table[start : start + n], row_group_size=n)
            start += n
    return table.append_column("file_row_number", pa.array(rows - first)) if not more else table


def lakes(con: skipml.Connection, folder: Path) -> Iterator[Lake]:
    """One file and two, as they are and enriched in finer blocks; partitions; columns with the names of places."""
    one, two = _RUNS[:_FIRST_FILE], _RUNS[_FIRST_FILE:]
    for name, block_rows, parts, more in (
        ("one", None, ("0.parquet",), {}),
        ("fine", 2, ("0.parquet",), {}),
        ("fine_two", 3, ("0.parquet", "1.parquet"), {}),
        ("hive", 2, ("p=0/x.parquet", "p=1/x.parquet"), {}),
        ("named", 2, ("0.parquet",), {"file_row_number": lambda rows: rows[::-1].copy()}),
    ):
        paths = [folder / name / part for part in parts]
        runs = (one, two) if len(parts) > 1 else (_RUNS,)
        firsts = (0, sum(n for n, _ in one))
        tables = [write(path, run, first, **more) for path, run, first in zip(paths, runs, firsts, strict=False)]
        if name == "hive":
            tables = [table.append_column("p", pa.array([i] * len(table))) for i, table in enumerate(tables)]
        if block_rows is not None:
            skipml.enrich(list(paths), ["a", "b"], block_rows=block_rows)
        con.register("rows_", pa.concat_tables(tables))
        con.execute(f"CREATE TABLE t_{name} AS FROM rows_")
        con.unregister("rows_")
        listed = ", ".join(f"'{path}'" for path in paths)
        yield Lake(name, f"read_parquet([{listed}])", f"t_{name}")


def queries(name: str, turn: int) -> Iterator[str]:
    """Every shape with one of the conditions and limits, every condition with one of the limits, others each turn."""
    pairs = itertools.islice(itertools.cycle(itertools.product(CONDITIONS, LIMITS)), 7 * turn, None)
    for shape, (condition, limit) in zip(SHAPES, pairs, strict=False):
        if name != "named" or "file_row_number" not in shape:
            yield _filled(shape, condition, limit)
    for i, condition in enumerate(CONDITIONS):
        yield _filled(SHAPES[0], condition, LIMITS[(i + turn) % len(LIMITS)])
    if name == "hive":
        yield from (_filled("SELECT id, p FROM {t} t WHERE {c} AND p = 1", c, 5.0) for c in CONDITIONS[:3])
        yield from (_filled("SELECT id FROM {t} t WHERE {c} AND filename LIKE '%p=1%'", c, 5.0) for c in CONDITIONS[:3])


def _filled(shape: str, condition: str, limit: float) -> str:
    for spec, prefix in (("{c:x}", "x."), ("{c:y}", "y."), ("{c:t}", "t."), ("{c}", "")):
        shape = shape.replace(spec, condition.replace("{x}", prefix).replace("{v}", f"{limit!r}::FLOAT"))
    return shape


def answers(con: skipml.Connection, lake: Lake, sql: str) -> tuple[list[str], int]:
    """What is wrong with a query, in rows or their order, and how many rows it reads without scoring."""
    SHARED.forget()
    asked = sql.replace("{t}", lake.files)
    found = con.execute(asked).fetchall()
    report = con.last_report or skipml.Report(sql)
    n_rows = report.counters.get("rows_unscored", 0)
    failed = [f"{lake.name}: {sql}: {note}" for note in report.notes if "pruning failed" in note]
    if repr(found) == repr(con.execute(_of_table(sql, lake)).fetchall()):
        return failed, n_rows
    con.skipping = False  # DuckDB 2.0 loses rows with NaN of files behind a left join
    expected = con.execute(asked).fetchall()
    con.skipping = True
    same = repr(found) == repr(expected)
    return failed if same else [f"{lake.name}: {sql}: {found} instead of {expected}"], n_rows


def _of_table(sql: str, lake: Lake) -> str:
    by_name = "filename LIKE '%p=1%'"
    return sql.replace("{t}", lake.table).replace(by_name, "p = 1")


@contextmanager
def connected() -> Iterator[skipml.Connection]:
    """A connection with models and a small table."""
    with skipml.connect(config={"threads": 1}) as con:
        con.register_model("same", model(identity()))
        con.register_model("minus", model(linear([[1, -1]], [0])))
        con.execute("CREATE TABLE small AS SELECT i AS id FROM range(0, 90, 4) t(i)")
        yield con


def unscored_rows(folder: Path) -> list[str]:
    """Rows and their order, with places told by borders and by bits."""
    findings: list[str] = []
    unscored = 0
    with connected() as con:
        for turn, (lake, bits) in enumerate(itertools.product(lakes(con, folder), (False, True))):
            with eager(bits=bits):
                for sql in queries(lake.name, turn):
                    found, n_rows = answers(con, lake, sql)
                    findings += found
                    unscored += n_rows
            if findings:
                return findings
    return [] if unscored else ["no row was read without scoring"]


PLACES_BATTERIES: Mapping[str, Battery] = {"places": unscored_rows}
