"""Which texts occur, as it is stored of files of every writer: decisions hold for every row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

import skipml
from skipml.bounds.budget import Budget
from skipml.decisions import KEEP, SKIP
from skipml.predicates import Predicate
from tests.soundness.battery import Battery
from tests.soundness.text_lakes import GROUPS, WRITERS, models, rows_of

_THOROUGH = Budget.unlimited(boxes_per_block=16, prove_keep=True)
_SETTINGS: tuple[tuple[int, int | None], ...] = ((512, None), (5, None), (512, 4))
"""How many words are told apart, and the rows of a block."""
_N_SETTINGS = {"pyarrow": 3, "duckdb": 2, "polars": 2}
"""So many of them are tried of a writer."""


def predicates(model: skipml.Model, rows: pa.Table) -> Iterator[tuple[str, Predicate]]:
    """Limits that are scores of rows, where a decision just holds or just fails."""
    score = model.output(0)
    known = np.sort(model.evaluate(rows)[:, 0])
    known = known[~np.isnan(known)]
    for share in (0.0, 0.3, 0.6, 1.0) if len(known) else ():
        limit = float(known[int(share * (len(known) - 1))])
        yield f">= {limit!r}", score >= limit
        yield f"<= {limit!r}", score <= limit


def wrong(path: Path, rows: pa.Table, model: skipml.Model) -> Iterator[str]:
    """What plans over a file decide wrongly."""
    for what, predicate in predicates(model, rows):
        plan = skipml.plan(path, predicate, budget=_THOROUGH)
        passed, start = predicate.matches(rows), 0
        for i, (decision, n) in enumerate(zip(plan.decisions.tolist(), plan.table["n_rows"].to_pylist(), strict=True)):
            block = passed[start : start + n]
            start += n
            if (decision == SKIP and block.any()) or (decision == KEEP and not block.all()):
                yield f"{what}: block {i} is {'SKIP' if decision == SKIP else 'KEEP'}"


def texts(folder: Path) -> list[str]:
    """Every writer, few words and many, row groups and blocks inside them, words that no encoder knows, and NULL."""
    found = []
    for number, (writer, write) in enumerate(WRITERS.items()):
        for words, block_rows in _SETTINGS[: _N_SETTINGS.get(writer, 1)]:
            rows, size = rows_of(np.random.default_rng([number, words, block_rows or 0]), writer)
            path = folder / "texts.parquet"
            write(rows, path, size)
            blocks = None if block_rows is None else size // (size // block_rows if size < 100 else 3)
            skipml.enrich(path, ["a", "s"], words=words, block_rows=blocks)
            for name, model in models().items():
                what = f"{writer}, {words} words, blocks of {blocks}, {name}"
                found += [f"{what} {line}" for line in wrong(path, rows, model)]
            if any("is SKIP" in line for line in found):
                return found  # the rest would take long, and say no more
    return found


def stale(folder: Path) -> list[str]:
    """A file that has other texts now than when it was enriched."""
    path, found = folder / "stale.parquet", []
    rows, size = rows_of(np.random.default_rng(1), "pyarrow")
    WRITERS["pyarrow"](rows, path, size)
    skipml.enrich(path)
    others = rows.take(pa.array(np.roll(np.arange(rows.num_rows), size)))
    WRITERS["pyarrow"](others, path, size)
    for name, model in models().items():
        found += [f"{name} {line}" for line in wrong(path, others, model)]
    assert GROUPS * size == rows.num_rows
    return found


TEXT_BATTERIES: Mapping[str, Battery] = {"texts": texts, "stale texts": stale}
