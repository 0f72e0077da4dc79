"""The part of the battery that enriches files first: what metadata may say of which rows, with known answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import KEEP, SKIP
from skipml.predicates import Predicate
from tests.oracle import ask, identity, linear, model
from tests.soundness.battery import INF, NAN, Battery

_THOROUGH = Budget.unlimited(boxes_per_block=16, prove_keep=True)
_ROWS, _GROUP = 240, 40


def _tables() -> Iterator[tuple[str, pa.Table]]:
    """Rows whose two columns follow each other, with what does not fit into a polygon or a box in some of them."""
    rng = np.random.default_rng(7)
    x = np.sort(rng.normal(size=_ROWS))
    line = x + 0.001 * rng.normal(size=_ROWS)
    yield "line", pa.table({"a": x, "b": line})
    yield "far from 0", pa.table({"a": 2.0**24 + 1e-3 * x, "b": 2.0**24 + 1e-3 * line})
    gap = np.concatenate([x[: _ROWS // 2] - 3, x[_ROWS // 2 :] + 3])
    gap = rng.permutation(gap)
    holes = rng.random(_ROWS) < 0.1
    gap[holes] = 0.1
    yield "between two clusters NULL", pa.table({"a": gap, "b": pa.array(line, mask=holes)})
    for name, value in (("NaN", NAN), ("infinity", INF), ("huge", 1e300), ("tiny", 5e-324)):
        nasty = line.copy()
        nasty[::29] = value
        yield name, pa.table({"a": x, "b": nasty})
    cents = [Decimal(int(v * 1000)) / 1000 for v in line]
    yield "decimal", pa.table({"a": pa.array(cents, pa.decimal128(12, 3)), "b": line})
    yield "integer", pa.table({"a": (x * 1000).astype(np.int64), "b": (line * 1000).astype(np.int64)})


def _predicates(table: pa.Table) -> Iterator[tuple[str, Predicate]]:
    yield "a near 0", model(identity()).between(0.0, 0.2)
    for dtype in ("float32", "float64"):
        for weights in ([1, -1], [1, 0]):
            chosen = model(linear([weights], [0], dtype))
            scores = chosen.evaluate(table).astype(np.float64).ravel()
            known = np.unique(scores[np.isfinite(scores)])
            for limit in {known[-2:][0], known[0]}:
                yield f"{dtype} {weights} > {limit!r}", chosen > float(limit)
                yield f"{dtype} {weights} <= {limit!r}", chosen <= float(limit)
                yield f"{dtype} {weights} = {limit!r}", chosen.between(float(limit), float(limit))


def metadata(folder: Path) -> list[str]:
    """Decisions with metadata of every kind hold for every row."""
    found = []
    for i, (name, table) in enumerate(_tables()):
        path = folder / f"{i}.parquet"
        pq.write_table(table, path, row_group_size=_GROUP)
        for size, boxes in ((45, 0), (8, 3)):
            skipml.enrich(path, ["a", "b"], pairs="all", hull_bytes=size, boxes=boxes)
            for text, predicate in _predicates(table):
                found += _broken(f"{name}, {size} bytes, {boxes} boxes: {text}", path, table, predicate)
    return found


def _broken(what: str, path: Path, table: pa.Table, predicate: Predicate) -> list[str]:
    decision = skipml.plan(path, predicate, budget=_THOROUGH).decisions
    passed = predicate.matches(table).reshape(-1, _GROUP)
    lost = np.flatnonzero((decision == SKIP) & passed.any(axis=1))
    added = np.flatnonzero((decision == KEEP) & ~passed.all(axis=1))
    return [f"{what}: block {i} is SKIP" for i in lost] + [f"{what}: block {i} is KEEP" for i in added]


def readers(folder: Path) -> list[str]:
    """What was stored of a column is used only where DuckDB takes its input from that column, as it was."""
    x = np.linspace(0, 1, _ROWS)
    table = pa.table({"id": np.arange(_ROWS), "a": x, "b": x})
    found = []
    with skipml.connect() as con:
        con.register_model("minus", model(linear([[1, -1]], [0], "float64")))
        con.register_model("same", model(identity("float64")))
        partition = folder / "b=7" / "x.parquet"
        partition.parent.mkdir()
        pq.write_table(table, partition, row_group_size=_GROUP)
        skipml.enrich(partition, ["a", "b"], pairs="all", boxes=2)
        rewritten = folder / "rewritten.parquet"
        pq.write_table(table, rewritten, row_group_size=_GROUP)
        skipml.enrich(rewritten, ["a", "b"], pairs="all", boxes=2)
        moved = table.set_column(1, "a", pa.array(x + 5))
        pq.write_table(moved, rewritten, row_group_size=_GROUP)
        plain = folder / "plain.parquet"
        pq.write_table(table, plain, row_group_size=_GROUP)
        skipml.enrich(plain, ["a", "b"], pairs="all")
        swapped = f"SELECT id, b * 3 AS a, a AS b FROM '{plain}'"
        for sql in (
            f"SELECT id FROM '{folder}/b=*/*.parquet' WHERE minus(a, b) < -6",
            f"SELECT id FROM '{rewritten}' WHERE minus(a, b) > 1",
            f"SELECT id FROM '{rewritten}' WHERE same(a) > 3",
            f"SELECT id FROM ({swapped}) WHERE minus(a, b) > 0.5",
            f"SELECT id FROM '{plain}' WHERE minus(a::INTEGER::DOUBLE, b) > 0.2",
            f"SELECT id FROM '{plain}' WHERE minus(a, b * 0.1) > 0.5",
            f"SELECT id FROM '{plain}' AS t(id, q, a, b) WHERE minus(a, q) > -1",
        ):
            answers = ask(con, sql)
            if answers.skipping != answers.plain:
                found.append(f"{sql}: {len(answers.skipping)} rows instead of {len(answers.plain)}")
    return found


ENRICHED_BATTERIES: Mapping[str, Battery] = {"metadata": metadata, "readers": readers}
