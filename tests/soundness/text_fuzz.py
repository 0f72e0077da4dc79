"""Random pipelines over files with random metadata of text, by plans and in SQL: what is decided wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from tests.models.fitted_pipelines import KINDS, FittedPipeline, fit
from tests.soundness.text_battery import wrong
from tests.soundness.text_lakes import WRITERS

Rng = np.random.Generator

_WRITERS = tuple(name for name in WRITERS if name != "duckdb")
"""Which writes row groups of as few rows as wanted."""
_GROUPS = 8


def of_seed(seed: int) -> FittedPipeline:
    """A pipeline of one kind after the other."""
    return fit(np.random.default_rng([seed, 5]), KINDS[seed % len(KINDS)], refused=4)


def _rows(rng: Rng, asked: pa.Table) -> tuple[pa.Table, int]:
    """Rows that were asked about, in row groups that have few of their texts each, and the rows of each."""
    size = int(rng.integers(1, 9))
    texts = np.array([str(text) for text in asked["s"].to_pylist()])
    chosen: list[int] = []
    for _ in range(_GROUPS):
        some = rng.choice(np.unique(texts), int(rng.integers(1, 4)))
        pool = np.flatnonzero(np.isin(texts, some))
        chosen += rng.choice(pool, size).tolist()
    rows = asked.take(pa.array(chosen))
    return rows.append_column("id", pa.array(np.arange(rows.num_rows))), size


def written(fitted: FittedPipeline, rng: Rng, folder: Path, writer: str) -> tuple[Path, pa.Table]:
    """A file of some of a pipeline's rows, and what it holds: not every writer tells NaN from NULL."""
    rows, size = _rows(rng, fitted.rows)
    path = folder / "fuzz.parquet"
    WRITERS[writer](rows, path, size)
    return path, pq.read_table(path)


def problems(fitted: FittedPipeline, rng: Rng, folder: Path) -> Iterator[str]:
    """What plans and DuckDB get wrong about a pipeline's rows, written and enriched at random."""
    writer = str(rng.choice(_WRITERS))
    path, held = written(fitted, rng, folder, writer)
    settings: dict[str, Any] = {
        "words": int(rng.choice([0, 1, 3, 6, 512])),
        "block_rows": None if rng.random() < 0.5 else int(rng.integers(1, 6)),
        "boxes": int(rng.choice([0, 2])),
        "embed": bool(rng.integers(2)),
    }
    skipml.enrich(path, **settings)
    what = f"{fitted.kind}, {writer}, {settings}"
    yield from (f"{what} {line}" for line in wrong(path, held, fitted.model))
    yield from (f"{what} {line}" for line in _in_sql(path, fitted.model, rng))


def _in_sql(path: Path, model: skipml.Model, rng: Rng) -> Iterator[str]:
    call = (
        f"{'list_extract(' if model.n_outputs > 1 else ''}m({', '.join(model.columns)}){', 1)' * (model.n_outputs > 1)}"
    )
    with skipml.connect() as con:
        con.register_model("m", model)
        scores = con.execute(f"SELECT {call} FROM '{path}' ORDER BY 1").fetchnumpy()
        known = np.ma.masked_invalid(np.ma.masked_array(next(iter(scores.values())), dtype=np.float64)).compressed()
        if not len(known):
            return
        limit = float(rng.choice(known))
        for operator in (">", "<="):
            sql = f"SELECT id FROM '{path}' WHERE {call} {operator} '{limit!r}'::DOUBLE ORDER BY id"
            con.skipping = True
            found = con.execute(sql).fetchall()
            con.skipping = False
            if con.execute(sql).fetchall() != found:
                yield f"{operator} {limit!r}: SQL gives {len(found)} rows, and others without skipping"
