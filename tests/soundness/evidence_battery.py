"""The part of the battery on stored scores and rows, and on blocks finer and coarser than row groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import KEEP, SKIP
from skipml.features import model_inputs
from skipml.footers import read_footers
from skipml.metadata import scoremaps
from skipml.metadata.loading import load
from skipml.metadata.refine import refine
from skipml.network import Affine, LeakyRelu, Network
from skipml.predicates import Predicate
from skipml.regions import Regions, from_refined
from tests.oracle import ask, identity, linear, model
from tests.soundness.battery import NAN, Battery

_BUDGETS = (
    Budget.unlimited(boxes_per_block=4, prove_keep=True),
    Budget.unlimited(boxes_per_block=1),
    Budget.unlimited(boxes_per_block=64, prove_keep=True),
)
_ROWS, _GROUP = 720, 40
_SECONDS_OFF = 0.9e-6
"""By which two engines' seconds of a time may differ."""
_LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {"block_rows": 7, "score_bytes": 2},
    {"block_rows": 40, "witness_bytes": 40},
)
_FINER: tuple[dict[str, Any], ...] = ({}, {"block_rows": 9})


def _table(seed: int = 3) -> pa.Table:
    """Clustered rows, so that row groups can be decided; `c` is a decimal, and some rows have a hole."""
    rng = np.random.default_rng(seed)
    a = np.sort(rng.normal(size=_ROWS)) * 1000
    cents = [Decimal(int(v * 1000)) / 1000 for v in a + rng.normal(size=_ROWS)]
    b = a + rng.normal(size=_ROWS)
    b[rng.random(_ROWS) < 0.02] = NAN
    hole = rng.random(_ROWS) < 0.05
    times = pa.array(np.arange(_ROWS) * 10**8 + 7, pa.time64("us"))
    return pa.table({"a": pa.array(a, mask=hole), "b": b, "c": pa.array(cents, pa.decimal128(12, 3)), "d": times})


def _deep(seed: int, n_inputs: int, n_outputs: int) -> Network:
    rng = np.random.default_rng(seed)
    sizes = [n_inputs, 6, 6, n_outputs]
    ops: list[Any] = []
    for n_in, n_out in pairwise(sizes):
        weight, bias = rng.normal(size=(n_out, n_in)) / n_in, rng.normal(size=n_out)
        ops += [Affine(weight.astype(np.float32), bias.astype(np.float32)), LeakyRelu(0.0)]
    return Network(n_inputs, n_outputs, np.dtype(np.float32), tuple(ops[:-1]))


def _models() -> Iterator[skipml.Model]:
    yield skipml.Model(_deep(0, 2, 1), ("a", "c"))
    yield skipml.Model(_deep(1, 3, 3), ("a", "b", "c"))
    yield model(linear([[1, -1]], [0]))
    yield skipml.Model(linear([[1, -1]], [0]), ("b", "a"))
    yield skipml.Model(linear([[1], [1], [0.5]], [0, 1e-9, 0]), ("c",))  # float32 cannot tell the first from the second
    yield skipml.Model(identity("float64"), ("d",))


def network_of(model: skipml.Model) -> Network:
    """The network of a model."""
    assert isinstance(model.function, Network)
    return model.function


def _exact(network: Network, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The outputs in float64, which no summation order in float32 may be far from."""
    h = rows.astype(network.dtype).astype(np.float64)
    for op in network.ops:
        if isinstance(op, Affine):
            h = h @ op.weight.astype(np.float64).T + op.bias
        else:
            h = np.maximum(h, 0.0)
    return h


def scores(folder: Path) -> list[str]:
    """Whatever evaluates the rows, and however an engine rounds a decimal, finds scores and classes that are stored."""
    path, table, models = folder / "x.parquet", _table(), list(_models())
    pq.write_table(table, path, row_group_size=_GROUP)
    found = []
    for layout in _LAYOUTS:
        skipml.enrich(path, ["a", "b", "c"], models=models, **layout)
        stored = load(path).metadata
        if stored is None:
            return ["the metadata cannot be read"]
        for each in models:
            values, null = model_inputs(table, each.columns)
            usable = ~(null | np.isnan(values)).any(axis=1)
            block = np.repeat(np.arange(len(stored)), stored.n_rows)
            for moved in (0.0, _SECONDS_OFF, -_SECONDS_OFF):
                outputs = _exact(network_of(each), values + (moved if each.columns == ("d",) else 0.0))
                mine = [s for s in stored.scores if (s.model, s.columns) == (each.hash, each.columns)]
                for score in mine:
                    cells = scoremaps.decode(score.lower, score.upper, score.cells)
                    inside = np.zeros(len(block), np.bool_)
                    for i in range(len(cells.block)):
                        value = outputs[:, score.output]
                        inside |= (block == cells.block[i]) & (value >= cells.lower[i]) & (value <= cells.upper[i])
                    found += [f"{layout}: a score of {each.columns} is not stored"] * int((usable & ~inside).any())
                for labels in stored.labels:
                    if (labels.model, labels.columns) == (each.hash, each.columns):
                        bits = scoremaps.decode_labels(labels.labels, labels.n_labels)
                        best = outputs == outputs.max(axis=1, keepdims=True)
                        lost = usable & (best & ~bits[block]).any(axis=1) & (best.sum(axis=1) == 1)
                        found += [f"{layout}: a class of {each.columns} is not stored"] * int(lost.any())
    return found


def _predicates(table: pa.Table, each: skipml.Model) -> Iterator[tuple[str, Predicate]]:
    outputs = each.evaluate(table).astype(np.float64)
    for k in range(each.n_outputs):
        known = np.unique(outputs[np.isfinite(outputs[:, k]), k])
        for limit in (known[-2], known[len(known) // 2]):
            above = float(np.nextafter(np.float32(limit), np.float32(np.inf)))
            yield f"output {k} > {limit}", each.output(k) > float(limit)
            yield f"output {k} >= {above}", each.output(k) >= above
            yield f"output {k} <= {limit}", each.output(k) <= float(limit)
            yield f"output {k} = {limit}", each.output(k).between(float(limit), float(limit))
    if each.n_outputs > 1:
        yield "class 0", each.is_class(0)
        yield "not class 1", ~each.is_class(1)


def _layouts(models: list[skipml.Model]) -> tuple[dict[str, Any], ...]:
    return {}, {"models": models[:2]}, {"block_rows": 11, "models": models, "witness_bytes": 40}


def levels(folder: Path) -> list[str]:
    """Decisions of blocks hold for their rows, with what is stored of files, row groups, blocks, scores and rows."""
    table, models, found = _table(), list(_models()), []
    for i, layout in enumerate(_layouts(models)):
        path = folder / f"{i}.parquet"
        pq.write_table(table, path, row_group_size=_GROUP)
        skipml.enrich(path, ["a", "b", "c"], pairs="all", **layout)
        for each in models:
            for k, (text, predicate) in enumerate(_predicates(table, each)):
                plan = skipml.plan(path, predicate, budget=_BUDGETS[k % len(_BUDGETS)])
                found += _broken(f"{i}, {each.columns} {text}", plan, table, scan=k == 2)
    return found


def _broken(what: str, plan: skipml.Plan, table: pa.Table, scan: bool) -> list[str]:
    passed, found = plan.predicate.matches(table), []
    blocks = np.repeat(np.arange(len(plan.decisions)), plan.footers.n_rows)
    decision = plan.decisions[blocks]
    if plan.result.error:
        found.append(f"{what}: {plan.result.error}")
    if (passed & (decision == SKIP)).any():
        found.append(f"{what}: a block with a qualifying row is SKIP")
    if (~passed & (decision == KEEP)).any():
        found.append(f"{what}: a block with another row is KEEP")
    if scan and plan.scan(["b"]).read_all().num_rows != passed.sum():
        found.append(f"{what}: the scan has other rows")
    return found


def coarser(folder: Path) -> list[str]:
    """Regions of files and row groups hold every row of the blocks they stand for."""
    table, found = _table(), []
    path = folder / "x.parquet"
    values, null = model_inputs(table, ["a", "b", "c"])
    pq.write_table(table, path, row_group_size=_GROUP)
    for layout in _FINER:
        skipml.enrich(path, ["a", "b", "c"], pairs="all", **layout)
        regions: Regions | None = from_refined(refine(read_footers([str(path)], ["a", "b", "c"])), ["a", "b", "c"])
        level = 0
        while regions is not None:
            block = np.repeat(np.arange(len(regions)), regions.n_rows)
            known = ~(null | np.isnan(values))
            out = known & ((values < regions.lower[block]) | (values > regions.upper[block]))
            found += [f"{layout}: a row is outside of its block of level {level}"] * int(out.any())
            for hull in regions.hulls:
                both = known[:, hull.inputs].all(axis=1)
                low, high = hull.lower[block], hull.upper[block]
                unit = (values[:, hull.inputs] - low) / np.where(high > low, high - low, 1.0)
                cut = np.einsum("nkc,nc->nk", hull.normal[block], unit) > hull.offset[block] + 1e-12
                found += [f"{layout}: a row is outside of its hull of level {level}"] * int(
                    (both & cut.any(axis=1)).any()
                )
            regions, level = regions.coarser, level + 1
    return found


def blocks_in_duckdb(folder: Path) -> list[str]:
    """A row group that holds a block that may match is read, and what is stored is used for the columns it is of."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=_ROWS)
    table = pa.table({"id": np.arange(_ROWS), "a": x, "b": x + 0.1 * rng.normal(size=_ROWS)})
    minus, found = model(linear([[1, -1]], [0], "float64")), []
    plain, partition = folder / "plain.parquet", folder / "b=7" / "x.parquet"
    partition.parent.mkdir()
    for path, layout in ((plain, _FINER[1]), (partition, _FINER[0])):
        pq.write_table(table, path, row_group_size=_GROUP)
        skipml.enrich(path, ["a", "b"], pairs="all", models=[minus], witness_bytes=64, **layout)
    with skipml.connect() as con:
        con.register_model("minus", minus)
        con.register_model("total", model(linear([[1, 1]], [0], "float64")))
        for sql in (
            f"SELECT id FROM '{plain}' WHERE minus(a, b) > 0.25",
            f"SELECT id FROM '{plain}' WHERE minus(b, a) > 0.25",
            f"SELECT id FROM '{plain}' WHERE total(a, b) > 5",
            f"SELECT id FROM '{plain}' WHERE minus(a, a) = 0 AND id < 5",
            f"SELECT id FROM (SELECT id, b AS a, a AS b FROM '{plain}') WHERE minus(a, b) > 0.25",
            f"SELECT id FROM '{plain}' WHERE minus(a, b * 2) > 1",
            f"SELECT id FROM '{folder}/b=*/*.parquet' WHERE minus(a, b) < -5",
        ):
            answers = ask(con, sql)
            if answers.skipping != answers.plain:
                found.append(f"{sql}: {len(answers.skipping)} rows instead of {len(answers.plain)}")
    return found


EVIDENCE_BATTERIES: Mapping[str, Battery] = {
    "scores": scores,
    "levels": levels,
    "coarser": coarser,
    "blocks in DuckDB": blocks_in_duckdb,
}
