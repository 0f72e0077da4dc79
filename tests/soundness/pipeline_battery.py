"""Pipelines over blocks of known rows: each part returns what it finds wrong, which must be nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import skipml
from skipml.bounds.budget import Budget
from skipml.parquet.texts import TextLimits
from skipml.predicates import Predicate
from skipml.regions import PairHull, Regions
from tests.models.fitted_pipelines import FittedPipeline, fit
from tests.soundness.battery import Battery, broken, regions_of

_THOROUGH = Budget.unlimited(boxes_per_block=16, prove_keep=True)
_BLOCKS = 8
"""So many of the blocks come first that have more than a row."""
_NUMBERS = ("a", "b", "k")
_KINDS = (("ridge", 0), ("logistic", 1), ("softmax", 2), ("mlp", 5), ("forest", 3))


@cache
def _fitted() -> tuple[FittedPipeline, ...]:
    return tuple(fit(np.random.default_rng([seed, 77]), kind) for kind, seed in _KINDS)


def _blocks(rows: pa.Table, rng: np.random.Generator) -> list[pa.Table]:
    """Blocks of few rows that are alike, and single rows; half of the NaN are NULL."""
    a = rows["a"].to_numpy()
    null = np.isnan(a) & (rng.random(len(a)) < 0.5)
    rows = rows.set_column(0, "a", pa.array(a, mask=null))
    order = np.lexsort([np.array([str(s) for s in rows["s"].to_pylist()]), rows["k"].to_numpy()])
    rows = rows.take(pa.array(order))
    blocks = [rows.slice(start, 5) for start in range(0, rows.num_rows, 8)]
    singles = [rows.slice(i, 1) for i in range(0, rows.num_rows, 6)]
    empty = rows.slice(0, 2).set_column(0, "a", pa.array([None, None], pa.float64()))
    return [*blocks, *singles, empty.set_column(3, "s", pa.array([None, None], pa.string()))]


def _regions(blocks: Sequence[pa.Table]) -> Regions:
    """The tightest regions, of text the limits of the bytes."""
    numbers = regions_of(blocks, _NUMBERS)
    n = len(blocks)
    written = [[s.encode() for s in block["s"].to_pylist() if s is not None] for block in blocks]
    limits = TextLimits.unknown(n)
    for i, several in enumerate(written):
        if several:
            limits.lower[i], limits.upper[i] = min(several), max(several)
    null = np.array([[pc.sum(pc.is_null(block["s"])).as_py()] for block in blocks])
    lower, upper = (np.hstack([side, np.full((n, 1), end)]) for side, end in _sides(numbers))
    order = (*_NUMBERS, "s")
    found = Regions(
        order,
        lower,
        upper,
        numbers.block,
        numbers.n_rows,
        np.hstack([numbers.unknown, np.ones((n, 1), np.bool_)]),
        np.hstack([numbers.all_null, null == numbers.n_rows[:, None]]),
        np.hstack([numbers.may_be_null, null > 0]),
        np.hstack([numbers.may_be_nan, np.ones((n, 1), np.bool_)]),
    )
    return replace(found, texts={3: limits})


def _sides(regions: Regions) -> Iterator[tuple[np.ndarray, float]]:
    yield regions.lower, -np.inf
    yield regions.upper, np.inf


def _tests(model: skipml.Model, blocks: Sequence[pa.Table]) -> Iterator[tuple[str, Predicate]]:
    """Limits at the ends of single blocks, where a decision just holds or just fails, and classes."""
    score = model.output(0)
    for block in blocks[:_BLOCKS:3]:
        known = model.evaluate(block)[:, 0]
        known = known[~np.isnan(known)]
        if len(known):
            least, most = float(known.min()), float(known.max())
            yield f"<= {least!r}", score <= least
            yield f">= {most!r}", score >= most
            yield f"> {least!r}", score > least
            yield f"< {most!r}", score < most
    for label in range(model.n_outputs if model.n_outputs > 1 else 0):
        yield f"class {label}", model.is_class(label)


def _checked(name: str, fitted: FittedPipeline, blocks: Sequence[pa.Table], regions: Regions) -> list[str]:
    model = fitted.model
    regions = regions.project(model.columns)
    return [
        text
        for what, test in _tests(model, blocks)
        for text in broken(f"{name} {what}", test, regions, blocks, _THOROUGH)
    ]


def bounds(_: Path) -> list[str]:
    """Blocks with NULL, NaN, unknown words and numbers that no encoder knows."""
    found = []
    for number, fitted in enumerate(_fitted()):
        blocks = _blocks(fitted.rows, np.random.default_rng(number))
        found += _checked(f"{fitted.kind} {number}", fitted, blocks, _regions(blocks))
    return found


def hulls(_: Path) -> list[str]:
    """Hulls, which say nothing of rows that lack a number, and text of which nothing is known."""
    found = []
    for number, fitted in enumerate(_fitted()[:3]):
        for rows, is_known in ((fitted.rows, False), (_complete(fitted.rows), True)):
            blocks = _blocks(rows, np.random.default_rng(number))
            regions = _regions(blocks)
            regions = regions if is_known else replace(regions, texts={})
            regions = replace(regions, hulls=(_hull(blocks, regions),))
            found += _checked(f"{fitted.kind} {number}", fitted, blocks, regions)
    return found


def _complete(rows: pa.Table) -> pa.Table:
    """The rows that lack nothing, all of one word and one code, so that hulls say most of them."""
    numbers = [np.isnan(rows[name].to_numpy()) for name in _NUMBERS]
    whole = rows.filter(pa.array(~np.any(numbers, axis=0)))
    same = pa.array([whole["k"][0].as_py()] * whole.num_rows), pa.array(["AIR"] * whole.num_rows)
    return whole.set_column(2, "k", same[0]).set_column(3, "s", same[1])


def _hull(blocks: Sequence[pa.Table], regions: Regions) -> PairHull:
    """Half-planes along and across both inputs around the rows that have both."""
    normal = np.array(
        [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    )
    offset = np.zeros((len(blocks), len(normal)))
    lower, upper = regions.lower[:, :2], regions.upper[:, :2]
    for i, block in enumerate(blocks):
        rows = np.stack([np.array(block[name].to_pylist(), np.float64) for name in ("a", "b")], axis=1)
        rows = rows[~np.isnan(rows).any(axis=1)]
        width = upper[i] - lower[i]
        places = (rows - lower[i]) / np.where(width > 0, width, 1.0)
        offset[i] = (places @ normal.T).max(axis=0, initial=-1.0) + 1e-9
    return PairHull((0, 1), lower, upper, np.tile(normal, (len(blocks), 1, 1)), offset)


def joins(folder: Path) -> list[str]:
    """Filters on the side of an outer join that lacks rows: these have the score of NULL."""
    path, fitted = folder / "t.parquet", _fitted()[0]
    rows = pa.table({"a": [float(i) for i in range(40)], "b": [1.0] * 40, "k": [0.0] * 40, "s": ["AIR"] * 40})
    pq.write_table(rows, path, row_group_size=4)
    found = []
    with skipml.connect() as con:
        con.register_model("m", fitted.model)
        call = "m(r.a, r.b, r.k, r.s)"
        source = f"'{path}' l LEFT JOIN '{path}' r ON l.a = r.a + 5"
        limit = con.execute(f"SELECT {call} FROM {source} WHERE r.a IS NULL LIMIT 1").fetchall()[0][0]
        for operator in ("=", "<=", ">="):
            sql = f"SELECT count(*) FROM {source} WHERE {call} {operator} '{limit!r}'::DOUBLE"
            rows_found = con.execute(sql).fetchall()
            con.skipping = False
            if con.execute(sql).fetchall() != rows_found:
                found.append(f"{operator} {limit!r}: a row group is SKIP, and the join makes a row of NULLs for it")
            con.skipping = True
    return found


PIPELINE_BATTERIES: Mapping[str, Battery] = {
    "pipelines": bounds,
    "hulls of pipelines": hulls,
    "joins of pipelines": joins,
}
