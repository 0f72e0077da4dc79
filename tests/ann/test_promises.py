from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skipml import errors
from skipml.ann import learned, looks, manifest, promises
from skipml.ann.drift import DriftWarning
from skipml.ann.index import VectorIndex
from skipml.ann.promises import neighbours, recorded
from skipml.ann.rules import LEVELED, MARGINAL, NEARNESS, NPROBE, PRICES, START, Priced
from skipml.ann.search import n_candidates
from skipml.ann.stopping import Nprobe
from tests.ann.searches import made_up

ROWS, DIMENSION, K = 2000, 24, 5


def draw(number: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, DIMENSION))
    return (centres[rng.integers(40, size=number)] + 0.6 * rng.normal(size=(number, DIMENSION))).astype(np.float32)


def table(vectors: np.ndarray) -> pa.Table:
    kind = pa.list_(pa.float32(), DIMENSION)
    return pa.table({"n": np.arange(len(vectors)), "v": pa.array(list(vectors), kind)})


ROWS_DRAWN, LOG, LATER = draw(ROWS, 0), draw(1000, 1), draw(600, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ann") / "index"
    VectorIndex.build(table(ROWS_DRAWN), column="v", path=path, n_lists=30)
    return path


@pytest.fixture
def index(folder: Path) -> VectorIndex:
    return VectorIndex.open(folder)


def recall_of(index: VectorIndex, **how: object) -> float:
    exact = index.search(LATER, K, exact=True)["row_id"].to_numpy().reshape(-1, K)
    found = index.search(LATER, K, **how)["row_id"].to_numpy().reshape(-1, K)  # type: ignore[arg-type]
    return float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(exact, found, strict=True)]))


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_true_neighbours_are_those_of_an_exact_search(metric: str, tmp_path: Path) -> None:
    index = VectorIndex.build(table(ROWS_DRAWN[:500]), column="v", path=tmp_path / "index", metric=metric, n_lists=10)
    exact = index.search(LATER[:20], 5, exact=True)["distance"].to_numpy().reshape(-1, 5)
    found = neighbours(index.snapshot, LATER[:20], 5)
    assert found.shape == (20, 5)
    if metric == "l2":
        assert found == pytest.approx(exact**2, rel=1e-4)
    if metric == "cosine":
        assert found == pytest.approx(2 * exact, rel=1e-3, abs=1e-5)
    assert (np.diff(found, axis=1) >= 0).all()


def test_recorded_searches_are_what_searches_do(index: VectorIndex) -> None:
    trace = recorded(index.snapshot, LATER[:40], K, own=False)
    for look in (0, 4, 9):
        lists = int(trace.looks[look])
        found = index.search(LATER[:40], K, rule=Nprobe(lists))["distance"].to_numpy().reshape(-1, K)
        assert np.square(found) == pytest.approx(trace.best[:, look], rel=1e-4)
    assert (trace.recall[:, -1] == 1).mean() > 0.95


@pytest.mark.parametrize("rule", [NPROBE, NEARNESS, LEVELED, MARGINAL])
def test_every_rule_keeps_its_promise_on_later_queries(index: VectorIndex, rule: str) -> None:
    made = index.calibrate(LOG, [0.9], k=K, rule=rule)
    assert [(one.k, one.target, one.rule) for one in made] == [(K, 0.9, rule)]
    assert recall_of(index, recall=0.9) >= 0.89
    assert index.stats is not None
    assert "at least 0.9" in index.stats.guarantee
    assert index.stats.lists / len(LATER) == pytest.approx(made[0].lists, rel=0.15), "served as it was calibrated"


def test_promises_outlive_the_process_and_cover_smaller_demands(index: VectorIndex, folder: Path) -> None:
    index.calibrate(LOG, [0.9, 0.95], k=K, rule=NPROBE)
    again = VectorIndex.open(folder)
    assert again.search(LATER[:3], 2, recall=0.93).num_rows == 6
    with pytest.raises(errors.MetadataError, match=r"promises no recall of 0.99 .* calibrate\(recall=\[0.99\], k=5\)"):
        again.search(LATER[:3], K, recall=0.99)
    with pytest.raises(errors.MetadataError, match="for k = 9"):
        again.search(LATER[:3], 9, recall=0.9)


def test_without_a_log_rows_stand_for_queries(index: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "_OWN_QUERIES", 1000)
    monkeypatch.setattr(promises, "_LEAST_TO_LEARN", 1000)
    made = index.calibrate(recall=[0.9], k=K)
    assert made[0].queries == "rows of the table"
    assert made[0].rule == LEVELED
    assert recall_of(index, recall=0.9) >= 0.87


def test_drift_is_told(index: VectorIndex) -> None:
    index.calibrate(LOG, [0.95], k=K)
    with pytest.raises(errors.PredicateError, match="no queries"):
        index.check_drift(k=K)
    index.search(LATER, K, recall=0.95)
    drift = index.check_drift(k=K)
    assert drift.n == 512
    assert not drift.is_broken
    assert drift.bound <= drift.mean
    strange = (4 * np.random.default_rng(3).normal(size=(300, DIMENSION))).astype(np.float32)
    with pytest.warns(DriftWarning, match="looks broken"):
        assert index.check_drift(strange, k=K).is_broken


def test_what_cannot_be_promised_is_not(index: VectorIndex) -> None:
    assert index.calibrate(LOG[:20], [0.99], k=K) == []
    with pytest.raises(errors.PredicateError, match="between 0 and 1"):
        index.calibrate(LOG, [95])
    with pytest.raises(errors.PredicateError, match="the rule is one of"):
        index.calibrate(LOG, [0.9], rule="guess")


def test_compaction_makes_promises_anew(tmp_path: Path) -> None:
    index = VectorIndex.build(table(ROWS_DRAWN[:600]), column="v", path=tmp_path / "index", n_lists=10)
    index.calibrate(LOG[:300], [0.5, 0.6], k=K, rule=NPROBE)
    index.calibrate(None, [0.5], k=2, rule=NEARNESS)
    before = promises.of(index.records)
    index.append(table(ROWS_DRAWN[600:700]))
    assert index.search(LATER[:3], K, recall=0.5).num_rows == 3 * K
    assert not index.compact().calibrate_again
    after = promises.of(index.records)
    assert [(one.k, one.target, one.rule, one.queries) for one in after] == [
        (one.k, one.target, one.rule, one.queries) for one in before
    ]
    assert index.search(LATER[:3], K, recall=0.5).num_rows == 3 * K
    assert len(list((tmp_path / "index").glob("log-*.parquet"))) == 1


def test_compaction_ends_a_promise_whose_queries_are_gone(tmp_path: Path) -> None:
    index = VectorIndex.build(table(ROWS_DRAWN[:600]), column="v", path=tmp_path / "index", n_lists=10)
    index.calibrate(LOG[:300], [0.5], k=K, rule=NPROBE)
    next((tmp_path / "index").glob("log-*.parquet")).write_bytes(b"PAR1")
    assert index.compact().calibrate_again
    with pytest.raises(errors.MetadataError, match="compacted since; call calibrate"):
        index.search(LATER[:3], K, recall=0.5)
    index.calibrate(LOG[:300], [0.5], k=K, rule=NPROBE)
    assert index.search(LATER[:3], K, recall=0.5).num_rows == 3 * K


def changed(folder: Path, change: Mapping[str, Any]) -> VectorIndex:
    """The index with other values in its record of what was calibrated; None takes one out."""
    present = manifest.read(str(folder))
    record = {**present.records["calibration"], **change}
    record = {name: value for name, value in record.items() if value is not None}
    records = {**present.records, "calibration": record}
    manifest.write(str(folder), replace(present, records=records, version=present.version + 1))
    return VectorIndex.open(folder)


@pytest.mark.parametrize("version", [None, promises.TESTED_WITH - 1, promises.TESTED_WITH + 1])
def test_a_promise_tested_with_other_searches_is_none(tmp_path: Path, version: int | None) -> None:
    path = tmp_path / "index"
    made = VectorIndex.build(table(ROWS_DRAWN[:600]), column="v", path=path, n_lists=10)
    made.calibrate(LOG[:300], [0.5], k=K, rule=NPROBE)
    made.calibrate(LOG[:300], [0.5], k=2, rule=NPROBE)
    index = changed(path, {"tested with": version})
    told = rf"tested with searches of version {version or 1}, .* has version {promises.TESTED_WITH}; call calibrate"
    for k in (2, K):
        with pytest.raises(errors.MetadataError, match=told):
            index.search(LATER[:3], k, recall=0.5)
    with pytest.raises(errors.MetadataError, match=told):
        index.check_drift(LATER, 0.5, k=K)
    index.append(table(ROWS_DRAWN[600:610]))
    with pytest.raises(errors.MetadataError, match=told):
        index.search(LATER[:3], K, recall=0.5)
    index.calibrate(LOG[:300], [0.5], k=2, rule=NPROBE)
    assert index.search(LATER[:3], 2, recall=0.5).num_rows == 6
    with pytest.raises(errors.MetadataError, match=r"recall of 0.5 for k = 5 \(promised: recall 0.5 for k up to 2\)"):
        index.search(LATER[:3], K, recall=0.5)


def test_a_compaction_renews_a_promise_tested_with_other_searches(tmp_path: Path) -> None:
    path = tmp_path / "index"
    VectorIndex.build(table(ROWS_DRAWN[:600]), column="v", path=path, n_lists=10).calibrate(
        LOG[:300], [0.5], k=K, rule=NPROBE
    )
    index = changed(path, {"tested with": None})
    assert not index.compact().calibrate_again
    assert index.search(LATER[:3], K, recall=0.5).num_rows == 3 * K


def test_what_searches_do_has_not_changed_under_its_version() -> None:
    """Where this fails, earlier promises do not hold: raise TESTED_WITH, and write down what is new."""
    assert promises.TESTED_WITH == 2
    assert [n_candidates(k) for k in (1, 10, 100)] == [60, 60, 600]
    assert looks.grid(40).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 29, 34, 40]
    assert (PRICES, START) == ((1e-5, 3.0), 2)
    rule = Priced(lambda at: np.array([0.5, 3, 1000], np.float32), 1.0)
    read = [rule.more(made_up(3, 400).progress(look)).tolist() for look in (2, 10, 20)]
    assert read == [[3, 4, 10], [14, 20, 40], [81, 114, 230]]
    assert learned.RANKS.tolist() == [0, 1, 3, 7, 15, 31, 63, 127, 255]
    assert learned.RANK_PAIRS.tolist() == [[0, -1], *([i, 0] for i in range(1, 9))]
    some = [[0, -1], [1, -1], [6, -1], [1, 2], [1, 3], [1, 4], [1, 6], [5, 4], [4, 6]]
    assert learned.PAIRS.tolist() == [*some, *([i, 6] for i in range(7, 15))]
    assert learned.best_places(10).tolist() == [9, 0, 4]


def test_a_change_meanwhile_is_noticed(index: VectorIndex, folder: Path) -> None:
    VectorIndex.open(folder).calibrate(LOG[:300], [0.5], k=K, rule=NPROBE)
    with pytest.raises(errors.ConflictError, match="changed while"):
        index.calibrate(LOG[:300], [0.5], k=K, rule=NPROBE)


@pytest.mark.parametrize("rule", [NPROBE, NEARNESS, LEVELED, MARGINAL])
def test_queries_one_at_a_time_read_and_find_what_a_batch_does(index: VectorIndex, rule: str) -> None:
    index.calibrate(LOG, [0.9], k=K, rule=rule)
    whole = index.search(LATER[:60], 3, recall=0.9)
    assert index.stats is not None
    lists, found = index.stats.lists, []
    for query in LATER[:60]:
        found += index.search(query, 3, recall=0.9)["row_id"].to_pylist()
        lists -= index.stats.lists
    assert found == whole["row_id"].to_pylist()
    assert lists == 0
