"""Scans can store the scores they compute, and later plans use them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.budget import Budget
from skipml.metadata.loading import load
from skipml.metadata.storage import sidecar_path
from tests.oracle import linear, model

MINUS = model(linear([[1, -1]], [0]))
NO_WORK = Budget(cost_per_row=0.0, free_boxes=0)


def lake(folder: Path, n: int = 2000) -> Path:
    rng = np.random.default_rng(0)
    a = rng.random(n)
    a[::7] = np.nan
    table = pa.table({"a": a, "b": pa.array(a + 0.01 * rng.random(n), mask=rng.random(n) < 0.1)})
    pq.write_table(table, folder / "x.parquet", row_group_size=500)
    return folder / "x.parquet"


@pytest.mark.parametrize("block_rows", [None, 100])
@pytest.mark.parametrize("root", [False, True])
def test_a_scan_stores_what_enrichment_would(tmp_path: Path, block_rows: int | None, root: bool) -> None:
    path, place = lake(tmp_path), str(tmp_path / "root") if root else None
    skipml.enrich(path, pairs=[], block_rows=block_rows, root=place)
    plan = skipml.plan(path, MINUS.between(0.5, 0.6), budget=NO_WORK, root=place)
    assert (plan.decisions == skipml.EVALUATE).all()
    assert plan.scan(["a"], store_scores=True).read_all().num_rows == 0
    assert (skipml.plan(path, MINUS.between(0.5, 0.6), budget=NO_WORK, root=place).decisions == skipml.SKIP).all()
    scanned = load(path, place).metadata
    skipml.enrich(path, pairs=[], block_rows=block_rows, root=place, models=[MINUS])
    enriched = load(path, place).metadata
    assert scanned is not None
    assert enriched is not None
    for one, other in zip(scanned.scores, enriched.scores, strict=True):
        assert (one.model, one.columns, one.output) == (other.model, other.columns, other.output)
        for name in ("lower", "upper", "cells"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_blocks_that_were_not_scored_stay_unknown_until_they_are(tmp_path: Path) -> None:
    path = lake(tmp_path)
    skipml.enrich(path, pairs=[])
    plan = skipml.plan(path, MINUS.between(0.5, 0.6), budget=NO_WORK)
    plan.decisions[1:] = skipml.SKIP
    plan.scan(store_scores=True).read_all()
    again = skipml.plan(path, MINUS.between(0.5, 0.6), budget=NO_WORK)
    assert again.decisions.tolist() == [skipml.SKIP] + [skipml.EVALUATE] * 3
    again.scan(store_scores=True).read_all()
    assert (skipml.plan(path, MINUS.between(0.5, 0.6), budget=NO_WORK).decisions == skipml.SKIP).all()


@pytest.mark.parametrize("batch_rows", [130, 250, 500])
def test_scores_are_stored_of_the_blocks_that_come_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    """Of two files, in batches that end within blocks: what is stored is what enrichment stores, or nothing."""
    monkeypatch.setattr("skipml.plans._BATCH_ROWS", batch_rows)
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(lake(tmp_path / name))
    skipml.enrich(paths, pairs=[], block_rows=100)
    plan = skipml.plan(paths, MINUS.between(0.5, 0.6), budget=NO_WORK)
    plan.decisions[25:30] = skipml.SKIP
    plan.scan(store_scores=True).read_all()
    scanned = [load(str(path), None).metadata for path in paths]
    skipml.enrich(paths, pairs=[], block_rows=100, models=[MINUS])
    enriched = [load(str(path), None).metadata for path in paths]
    for i, (mine, whole) in enumerate(zip(scanned, enriched, strict=True)):
        assert mine is not None
        assert whole is not None
        (one,), (other,) = mine.scores, whole.scores
        stored = np.isfinite(one.lower)
        starts = np.arange(20) % 5 * 100
        expected = starts // batch_rows == (starts + 99) // batch_rows
        expected[5:10] &= i == 0
        assert stored.tolist() == expected.tolist()
        for name in ("lower", "upper", "cells"):
            assert np.array_equal(getattr(one, name)[stored], getattr(other, name)[stored])


def test_classes_are_stored_too(tmp_path: Path) -> None:
    path = lake(tmp_path)
    classes = model(linear([[1, -1], [-1, 1]], [-9.0, 0.0]))
    skipml.enrich(path, pairs=[])
    test = classes.is_class(0) | (classes.output(1) > 5)
    skipml.plan(path, test, budget=NO_WORK).scan(store_scores=True).read_all()
    decided = skipml.plan(path, classes.is_class(0), budget=NO_WORK).result
    assert decided.method_names == ["score_map"] * 4


def test_a_reader_that_stops_early_stores_nothing(tmp_path: Path) -> None:
    path = lake(tmp_path)
    skipml.enrich(path, pairs=[])
    before = Path(sidecar_path(path)).read_bytes()
    reader = skipml.plan(path, MINUS < 9, budget=NO_WORK).scan(store_scores=True)
    reader.read_next_batch()
    reader.close()
    assert Path(sidecar_path(path)).read_bytes() == before


def test_metadata_in_the_footer_is_left_alone(tmp_path: Path) -> None:
    path = lake(tmp_path)
    skipml.enrich(path, pairs=[], embed=True)
    with pytest.raises(skipml.EnrichmentError, match="in its footer"):
        skipml.plan(path, MINUS < 9).scan(store_scores=True).read_all()


def test_without_metadata_there_is_no_place_for_scores(tmp_path: Path) -> None:
    path = lake(tmp_path)
    with pytest.raises(skipml.EnrichmentError, match="enrich it first"):
        skipml.plan(path, MINUS < 9).scan(store_scores=True).read_all()
    skipml.enrich(path, ["a"])
    with pytest.raises(skipml.EnrichmentError, match="not enriched for the column 'b'"):
        skipml.plan(path, MINUS < 9).scan(store_scores=True).read_all()


@pytest.mark.parametrize(("before", "after"), [(100, None), (None, 100), (100, 50)])
def test_scores_of_other_blocks_have_no_place(tmp_path: Path, before: int | None, after: int | None) -> None:
    path = lake(tmp_path)
    skipml.enrich(path, pairs=[], block_rows=before)
    plan = skipml.plan(path, MINUS < 0.001, budget=NO_WORK)
    skipml.enrich(path, pairs=[], block_rows=after)
    with pytest.raises(skipml.EnrichmentError, match="plan again"):
        plan.scan(store_scores=True).read_all()


def test_a_file_rewritten_meanwhile_gets_no_scores(tmp_path: Path) -> None:
    path = lake(tmp_path)
    skipml.enrich(path, pairs=[])
    reader = skipml.plan(path, MINUS < 9, budget=NO_WORK).scan(store_scores=True)
    reader.read_next_batch()
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    with pytest.raises(skipml.FileChangedError):
        reader.read_all()
