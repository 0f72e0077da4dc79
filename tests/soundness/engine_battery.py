"""The part of the battery that reads files: zone maps, plans, virtual files and queries with known answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import KEEP, SKIP
from skipml.engines.virtual import VirtualFiles
from skipml.footers import read_footers
from skipml.identity import identity as file_identity
from tests.oracle import ask, identity, linear, model
from tests.soundness.battery import INF, NAN, Battery
from tests.writers import write_duckdb

_THOROUGH = Budget.unlimited(boxes_per_block=16, prove_keep=True)
_GROUP = 5

COLUMNS: Mapping[str, tuple[pa.DataType, tuple[tuple[Any, ...], ...], str]] = {
    "double": (pa.float64(), ((1.0, 2.0), (1.0, NAN), (NAN,), (None, 1.0), (None,), (INF, 0.1), (-INF,)), "{}"),
    "int64": (pa.int64(), ((2**53 + 1,), (2**53 + 3, -(2**63)), (None, 2**63 - 1), (7,)), "{}::DOUBLE"),
    "uint64": (pa.uint64(), ((2**64 - 1,), (2**63 + 1, 3), (None,)), "{}::DOUBLE"),
    "int32": (pa.int32(), ((-5, 5), (-5,), (None, 2**31 - 1)), "{}::DOUBLE"),
    "decimal": (
        pa.decimal128(38, 12),
        tuple((Decimal(f"{i}.{i**7 % 10**12:012}"),) for i in range(1, 90)),
        "{}::DOUBLE",
    ),
    "date": (pa.date32(), ((-1,), (19000, None), (700_000,)), "epoch({})"),
}
"""Type, row groups as the values that repeat in them, and the model input in SQL."""


def _write_column(folder: Path, name: str) -> tuple[Path, pa.Table]:
    kind, groups, _ = COLUMNS[name]
    values = [group[i % len(group)] for group in groups for i in range(_GROUP)]
    array = pa.array(values, pa.int32()).cast(kind) if name == "date" else pa.array(values, kind)
    table = pa.table({"id": np.arange(len(values)), "a": array})
    path = folder / f"{name}.parquet"
    pq.write_table(table, path, row_group_size=_GROUP)
    return path, table


def _column_findings(path: Path, table: pa.Table, name: str) -> list[str]:
    """Zone maps contain what DuckDB makes of the values, and decisions hold for every row."""
    with duckdb.connect() as con:
        con.register("rows_", table)
        con.execute("CREATE TABLE loaded AS FROM rows_")
        found = con.execute(f"SELECT {COLUMNS[name][2].format('a')} FROM loaded ORDER BY id").fetchall()
    values = np.array([np.nan if value is None else value for (value,) in found], np.float64)
    stats = read_footers([str(path)], ["a"]).columns["a"]
    group = np.repeat(np.arange(len(stats.known)), _GROUP)
    inside = np.isnan(values) | ((stats.lower[group] <= values) & (values <= stats.upper[group])) | ~stats.known[group]
    findings = [f"{name}: {values[i]!r} is outside its zone map" for i in np.flatnonzero(~inside)]
    score = model(identity("float64")).output(0)
    for limit in np.unique(values[~np.isnan(values)])[:12].tolist():
        for predicate in (score > limit, score >= limit, score < limit, score <= limit, score.between(limit, limit)):
            plan = skipml.plan(path, predicate, budget=_THOROUGH)
            passed = predicate.matches(table)
            if passed[plan.decisions[group] == SKIP].any():
                findings.append(f"{name}: a row that qualifies is in a row group that is SKIP")
            if not passed[plan.decisions[group] == KEEP].all():
                findings.append(f"{name}: a row that does not qualify is in a row group that is KEEP")
    return findings


def _age(path: Path) -> None:
    """Footers of files that are not new are remembered."""
    os.utime(path, ns=(10**18, 10**18))


def _rewritten(folder: Path) -> list[str]:
    """A rewritten file is never read by an old plan, and planned anew."""
    path, predicate = folder / "rewritten.parquet", model(identity()) > 50
    pq.write_table(pa.table({"a": np.arange(100)}), path, row_group_size=10)
    _age(path)
    plan = skipml.plan(path, predicate)
    pq.write_table(pa.table({"a": np.arange(100)[::-1]}), path, row_group_size=10)
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    findings = []
    try:
        plan.scan().read_all()
        findings.append("the plan of a rewritten file was scanned")
    except skipml.FileChangedError:
        pass
    if skipml.plan(path, predicate).scan().read_all().num_rows != 49:
        findings.append("rows of a rewritten file are missing")
    return findings


def _virtual(folder: Path) -> list[str]:
    """A virtual file holds exactly the row groups chosen."""
    path = folder / "virtual.parquet"
    pq.write_table(pa.table({"id": np.arange(200)}), path, row_group_size=10)
    findings = []
    files = VirtualFiles()
    with duckdb.connect() as con, pq.ParquetFile(path) as real:
        con.register_filesystem(files)
        for kept in ([3], [0, 19], list(range(0, 20, 2)), [], [17, 18]):
            (url,) = files.add([(str(path), file_identity(str(path)), kept)])
            rows = con.execute(f"SELECT id FROM read_parquet('{url}')").fetchall()
            if [row[0] for row in rows] != real.read_row_groups(kept)["id"].to_pylist():
                findings.append(f"the virtual file of row groups {kept} holds others")
    return findings


def files(folder: Path) -> list[str]:
    """Zone maps, plans and virtual files."""
    findings = []
    for name in COLUMNS:
        path, table = _write_column(folder, name)
        findings += _column_findings(path, table, name)
    path = folder / "by_duckdb.parquet"
    values = np.concatenate([np.where(np.arange(2048) == 5, np.nan, 1.0), np.full(2048, 1.0), np.full(100, 3.0)])
    table = pa.table({"a": values})
    write_duckdb(table, path)
    for predicate in (model(identity()) > 2, model(identity()) <= 1):
        plan = skipml.plan(path, predicate, budget=_THOROUGH)
        if plan.scan().read_all().num_rows != int(predicate.matches(table).sum()):
            findings.append("by_duckdb: rows are lost or added")
    return findings + _rewritten(folder) + _virtual(folder)


@dataclass(frozen=True)
class Asked:
    """A query over {t}, {u} (Parquet) and small (a table)."""

    sql: str
    parameters: Sequence[Any] | None = None


QUERIES: tuple[Asked, ...] = (
    Asked("SELECT id FROM {t} WHERE minus(a, b) > 370"),
    Asked("SELECT id FROM {t} WHERE NOT minus(a, b) <= 370 AND id % 2 = 0"),
    Asked("SELECT id FROM {t} WHERE minus(a, b) > 370 OR id % 100 = 3"),
    Asked("SELECT id FROM {t} WHERE minus(a, b) BETWEEN 100 AND 120"),
    Asked("SELECT id FROM {t} WHERE minus(a, 0) IN (100, 399)"),
    Asked("SELECT id FROM (SELECT id, b AS a, a AS b FROM {t}) WHERE minus(a, b) > 60"),
    Asked("SELECT id FROM (SELECT id, a + 100 AS a, b FROM {t}) WHERE minus(a, b) > 420"),
    Asked("SELECT id FROM {t} WHERE 150 < minus(a, 0)"),
    Asked("SELECT id FROM (SELECT * FROM {t} ORDER BY id LIMIT 20) WHERE minus(a, 0) > 200"),
    Asked("SELECT id FROM (SELECT * FROM {t} ORDER BY id DESC LIMIT 20) WHERE minus(a, 0) < 200"),
    Asked("SELECT a FROM (SELECT a, count(*) OVER () AS n_rows FROM {t}) WHERE minus(a, 0) > 300 AND n_rows = 400"),
    Asked("SELECT id FROM (SELECT DISTINCT ON (b) * FROM {t} ORDER BY b, id) WHERE minus(a, b) > 60"),
    Asked("SELECT b, max(id) FROM {t} GROUP BY b HAVING minus(max(a), 0) < 349.5"),
    Asked("SELECT t.id, u.id FROM {t} t ASOF JOIN {u} u ON t.id >= u.id WHERE minus(u.a, 0) < 249.5"),
    Asked("SELECT t.id, s.id FROM {t} t LEFT JOIN small s ON t.id = s.id AND minus(t.a, t.b) > 370"),
    Asked("SELECT t.id, s.id FROM small s RIGHT JOIN {t} t ON t.id = s.id AND minus(t.a, t.b) > 370"),
    Asked("SELECT t.id, s.id FROM {t} t FULL JOIN small s ON t.id = s.id AND minus(t.a, t.b) > 370"),
    Asked("SELECT t.id, s.id FROM small s LEFT JOIN {t} t ON t.id = s.id AND minus(t.a, t.b) > 370"),
    Asked("SELECT t.id, s.id FROM small s LEFT JOIN {t} t ON t.id = s.id WHERE minus(t.a, t.b) > 370 OR t.id IS NULL"),
    Asked("SELECT t.id, s.id FROM {t} t LEFT JOIN (FROM small LIMIT 3) s ON minus(t.a, t.b) > 370"),
    Asked("SELECT t.id FROM {t} t ANTI JOIN (FROM small LIMIT 3) s ON minus(t.a, t.b) > 370"),
    Asked("SELECT t.id FROM {t} t ANTI JOIN small s ON t.id = s.id AND minus(t.a, t.b) > 370"),
    Asked("SELECT id FROM {t} WHERE id NOT IN (SELECT id FROM {u} WHERE minus(a, b) > 370)"),
    Asked("SELECT s.id FROM small s WHERE EXISTS (SELECT 1 FROM {t} t WHERE t.id = s.id AND minus(t.a, t.b) > 370)"),
    Asked("SELECT id FROM {t} EXCEPT SELECT id FROM {u} WHERE minus(a, b) > 370"),
    Asked(
        "WITH c AS MATERIALIZED (FROM {t}) SELECT (SELECT count(*) FROM c WHERE minus(a, b) > 370), "
        "(SELECT count(*) FROM c WHERE minus(a, b) < -60)"
    ),
    Asked(
        "WITH c AS NOT MATERIALIZED (FROM {t}) SELECT (SELECT count(*) FROM c WHERE minus(a, b) > 370), "
        "(SELECT count(*) FROM c WHERE minus(a, b) < -60)"
    ),
    Asked("WITH c AS MATERIALIZED (FROM {t}) SELECT (SELECT count(*) FROM c WHERE minus(a, b) > 370), count(*) FROM c"),
    Asked("SELECT id FROM {t} WHERE multi(a, b)[1] > 370"),
    Asked("SELECT id FROM {t} WHERE multi(a, b)[2] > 98"),
    Asked("SELECT id FROM {t} WHERE multi_class(a, b) = 2"),
    Asked("SELECT id FROM {t} WHERE multi_class(a, b) <> 0"),
    Asked("SELECT id FROM {t} WHERE same(a % 7) > 5"),
    Asked("SELECT id FROM {t} WHERE same(coalesce(n, 500)) > 400"),
    Asked("SELECT id FROM {t} WHERE same(n) > 370"),
    Asked("SELECT id FROM {t} WHERE same(c) >= 16777217"),
    Asked("SELECT id FROM {t} WHERE same(c) <= 16777215"),
    Asked("SELECT id FROM {t} WHERE same(c) < ?", [1e-50]),
    Asked("SELECT id FROM {t} WHERE same(a) > ? AND same(b) < ?", [370, 50]),
    Asked("SELECT filename, file_row_number FROM {t} WHERE minus(a, b) > 370"),
    Asked("SELECT id FROM read_parquet([{t}, {u}]) WHERE minus(a, b) > 370"),
    Asked("SELECT id FROM {t} WHERE minus(a, b) > 370 ORDER BY id LIMIT 7"),
)


def queries(folder: Path) -> list[str]:
    """Queries with skipping and without."""
    n = np.arange(400)
    table = pa.table(
        {
            "id": n,
            "a": n,
            "b": n * 7 % 100,
            "c": np.where(n < 200, 16777216, 0),
            "n": pa.array(n, mask=n < 100),
        }
    )
    names = {}
    for name in "tu":
        path = folder / f"{name}.parquet"
        pq.write_table(table, path, row_group_size=50)
        names[name] = f"'{path}'"
    findings = []
    with skipml.connect(config={"threads": 1}) as con:
        con.register_model("minus", model(linear([[1, -1]], [0])))
        con.register_model("same", model(identity()))
        con.register_model("multi", model(linear([[1, -1], [0, 1], [-1, 2]], [0, 0, 0])))
        con.execute("CREATE TABLE small AS SELECT i AS id FROM range(0, 400, 3) t(i)")
        for query in QUERIES:
            answers = ask(con, query.sql.format(**names), query.parameters)
            if answers.skipping != answers.plain:
                findings.append(f"{query}: {len(answers.skipping)} rows instead of {len(answers.plain)}")
    return findings


ENGINE_BATTERIES: Mapping[str, Battery] = {"files": files, "queries": queries}
