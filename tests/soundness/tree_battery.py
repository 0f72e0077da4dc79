"""Tree ensembles over blocks of known rows: each part returns what it finds wrong, which must be nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from skipml.bounds.budget import Budget
from skipml.regions import PairHull, Regions
from skipml.trees import Trees
from tests.forests import LINKS, Floats, Rng, random_trees
from tests.soundness.battery import Battery, broken, regions_of, tests_of

_THOROUGH = Budget.unlimited(boxes_per_block=32, prove_keep=True)
_COLUMNS = ("a", "b")


def _pool(rng: Rng) -> list[Floats]:
    """Thresholds with more digits than float32 has, and some without."""
    return [np.append(rng.normal(size=6), [0.0, 1.0]) for _ in _COLUMNS]


def _ensembles() -> Iterator[tuple[Trees, list[Floats], Rng]]:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        pool = _pool(rng)
        link = LINKS[seed % 4] if seed >= 2 else "identity"
        n_outputs = 3 if link == "softmax" or seed % 5 == 4 else 1
        trees = random_trees(rng, pool, n_outputs, link, n_trees=int(rng.integers(1, 9)), depth=3)
        yield replace(trees, takes_nan=seed % 3 != 1), pool, rng


def _blocks(trees: Trees, pool: Sequence[Floats], rng: Rng, missing: float) -> list[pa.Table]:
    """Blocks of rows between two places, many at thresholds and next to them; some lack a number."""
    blocks = []
    for _ in range(5):
        ends = np.sort(rng.normal(size=(2, len(pool))), axis=0)
        columns = []
        for i, thresholds in enumerate(pool):
            near = rng.choice(thresholds, 10)
            near = np.where(rng.random(10) < 0.5, near, np.nextafter(near.astype(np.float32), np.float32(np.inf)))
            x = np.clip(np.where(rng.random(10) < 0.6, near, rng.normal(size=10)), ends[0, i], ends[1, i])
            columns.append(np.where(rng.random(10) < missing, np.nan, x))
        blocks.append(pa.table(dict(zip(_COLUMNS, map(pa.array, columns), strict=True))))
    at = [_rounded_down(trees, i) for i in range(len(pool))]
    return [*blocks, pa.table({name: [x] * 2 for name, x in zip(_COLUMNS, at, strict=True)})]


def _rounded_down(trees: Trees, i: int) -> float:
    """A threshold of an input that is less as a float32: a row there goes left only once it is rounded."""
    used = np.concatenate([tree.threshold[tree.feature == i] for tree in trees.trees])
    return float(max(used[used.astype(np.float32) < used], default=0.0))


def _limits(model: skipml.Model, blocks: Sequence[pa.Table]) -> list[float]:
    """Extremes of single blocks, where a decision just holds or just fails."""
    scores = [model.evaluate(block)[:, 0].astype(np.float64) for block in (blocks[0], blocks[-1])]
    known = [s[~np.isnan(s)] for s in scores]
    return sorted({float(end) for s in known if len(s) for end in (s.min(), s.max())})


def _checked(name: str, trees: Trees, blocks: Sequence[pa.Table], regions: Regions) -> list[str]:
    model = skipml.Model(trees, _COLUMNS)
    tests = list(tests_of(model, _limits(model, blocks)))
    return [text for what, test in tests for text in broken(f"{name} {what}", test, regions, blocks, _THOROUGH)]


def bounds(_: Path) -> list[str]:
    """Blocks without NaN."""
    found = []
    for number, (trees, pool, rng) in enumerate(_ensembles()):
        blocks = _blocks(trees, pool, rng, 0.0)
        found += _checked(f"trees {number}", trees, blocks, regions_of(blocks, _COLUMNS))
    return found


def missing(_: Path) -> list[str]:
    """Blocks with NaN."""
    found = []
    for number, (trees, pool, rng) in enumerate(_ensembles()):
        blocks = _blocks(trees, pool, rng, 0.3)
        found += _checked(f"trees {number}", trees, blocks, regions_of(blocks, _COLUMNS))
    return found


def hulls(_: Path) -> list[str]:
    """Hulls, which say nothing of rows with a NaN: what these have lies far from the rows without."""
    found = []
    for number, (trees, pool, rng) in enumerate(_ensembles()):
        blocks = [_together(block) for block in _blocks(trees, pool, rng, 0.3)]
        regions = regions_of(blocks, _COLUMNS)
        regions = replace(regions, hulls=(_hull(blocks, regions),))
        found += _checked(f"trees {number} with hulls", trees, blocks, regions)
    return found


def _together(block: pa.Table) -> pa.Table:
    """The rows that lack nothing moved to one place."""
    rows = np.stack([block[name].to_numpy() for name in _COLUMNS], axis=1)
    whole = ~np.isnan(rows).any(axis=1)
    rows[whole] = rows[whole][:1]
    return pa.table(dict(zip(_COLUMNS, rows.T, strict=True)))


def unknown(_: Path) -> list[str]:
    """Blocks whose limits in one column are unknown, as is whether it has NULL or NaN."""
    found = []
    for number, (trees, pool, rng) in enumerate(_ensembles()):
        blocks = _blocks(trees, pool, rng, 0.3)
        blocks = [block.set_column(0, "a", _with_null(block["a"])) for block in blocks]
        regions = regions_of(blocks, _COLUMNS)
        first = np.tile([True, False], (len(blocks), 1))
        may_be_nan, may_be_null = ~first & regions.may_be_nan, np.zeros_like(first)
        blind = replace(regions, unknown=first, may_be_nan=may_be_nan, may_be_null=may_be_null)
        found += _checked(f"trees {number}, unknown", trees, blocks, blind)
    return found


def _with_null(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None, *column.to_pylist()[1:]], pa.float64())


def _hull(blocks: Sequence[pa.Table], regions: Regions) -> PairHull:
    """Half-planes along both inputs around the rows that have both."""
    normal = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    offset = np.zeros((len(blocks), len(normal)))
    for k, block in enumerate(blocks):
        rows = np.stack([block[name].to_numpy() for name in _COLUMNS], axis=1)
        rows = rows[~np.isnan(rows).any(axis=1)]
        width = regions.upper[k] - regions.lower[k]
        places = (rows - regions.lower[k]) / np.where(width > 0, width, 1.0)
        offset[k] = (places @ normal.T).max(axis=0, initial=-1.0) + 1e-9
    return PairHull((0, 1), regions.lower, regions.upper, np.tile(normal, (len(blocks), 1, 1)), offset)


def stored(folder: Path) -> list[str]:
    """Files that are enriched with maps of the scores, rows with a NaN among them."""
    found = []
    for number, (trees, pool, rng) in enumerate(_ensembles()):
        if number % 2:
            continue
        blocks = _blocks(trees, pool, rng, 0.3)
        path = folder / f"{number}.parquet"
        with pq.ParquetWriter(path, blocks[0].schema) as file:
            for block in blocks:
                file.write_table(block)
        model = skipml.Model(trees, _COLUMNS)
        skipml.enrich(path, _COLUMNS, models=[model], boxes=4)
        for what, test in tests_of(model, _limits(model, blocks)):
            decisions = skipml.plan(path, test, budget=_THOROUGH).decisions
            for i, block in enumerate(blocks):
                passed = test.matches(block)
                if decisions[i] == skipml.SKIP and passed.any():
                    found.append(f"trees {number} {what}: block {i} is SKIP, but a row passes")
                if decisions[i] == skipml.KEEP and not passed.all():
                    found.append(f"trees {number} {what}: block {i} is KEEP, but a row does not pass")
    return found


TREE_BATTERIES: Mapping[str, Battery] = {
    "trees": bounds,
    "missing in trees": missing,
    "hulls of trees": hulls,
    "unknown in trees": unknown,
    "stored of trees": stored,
}
