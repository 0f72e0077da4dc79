"""Models of the vectors of an index: the balls of its lists decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import skipml
from skipml.ann.balls import around
from skipml.ann.index import VectorIndex
from skipml.bounds.enclosures import extremes
from skipml.network import Affine, Network

D = 6


def head(weight: np.ndarray) -> skipml.Model:
    kind = np.dtype(np.float32)
    return skipml.Model(Network(D, 1, kind, (Affine(weight[None].astype(kind), np.zeros(1, kind)),)), ("v",))


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_lists_without_a_row_that_passes_are_skipped(metric: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, D))
    rows = (np.repeat(centers, 50, axis=0) + 0.05 * rng.normal(size=(2000, D))).astype(np.float32)
    table = pa.table({"id": np.arange(2000), "v": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), D)})
    index = VectorIndex.build(table, column="v", path=tmp_path / "index", metric=metric)
    index.delete([7], column="id")
    lists = np.concatenate([np.flatnonzero(segment.counts) for segment in index.snapshot.manifest.segments])
    vectors = around(index.metric, index.snapshot.balls.take(lists), D)
    for _ in range(5):
        weight = rng.normal(size=D)
        model = head(weight)
        scores = model.evaluate(table)[:, 0]
        limit = float(np.sort(scores)[-40])
        plan = index.prune(model > limit)
        assert plan.result.error == ""
        found = plan.scan(["id"]).read_all()["id"].to_pylist()
        assert sorted(found) == [i for i in np.flatnonzero(scores > limit).tolist() if i != 7]
        assert (plan.decisions == skipml.SKIP).mean() > 0.5
        low, high = extremes(vectors, weight[None])
        everything = index.prune(model > -1e9).scan(["v"]).read_all()["v"].combine_chunks()
        exact = everything.flatten().to_numpy().reshape(-1, D).astype(np.float64) @ weight
        assert low.min() <= exact.min()
        assert exact.max() <= high.max()


def test_bounds_hold_of_every_list(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(600, D)) * 10.0 ** rng.integers(-2, 3, (600, 1))).astype(np.float32)
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), D)})
    for metric in ("l2", "ip", "cosine"):
        index = VectorIndex.build(table, column="v", path=tmp_path / metric, metric=metric)
        counts = index.snapshot.manifest.segments[0].counts
        vectors = around(index.metric, index.snapshot.balls.take(np.flatnonzero(counts)), D)
        stored = index.prune(head(np.ones(D)) > -np.inf)
        found = pa.concat_tables([stored.scan(["v"]).read_all()])["v"].combine_chunks().flatten().to_numpy()
        blocks = np.split(found.reshape(-1, D).astype(np.float64), np.cumsum(counts[counts > 0])[:-1])
        weight = rng.normal(size=(5, D))
        low, high = extremes(vectors, weight)
        for i, block in enumerate(blocks):
            assert (low[i] <= (block @ weight.T).min(axis=0)).all()
            assert ((block @ weight.T).max(axis=0) <= high[i]).all()
            assert (np.sqrt(((block - vectors.center[i]) ** 2).sum(axis=1)) <= vectors.radius[i]).all()
