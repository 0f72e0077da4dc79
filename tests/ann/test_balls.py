from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from skipml import EVALUATE, KEEP, SKIP, VectorError, VectorIndex
from skipml.ann import exact, within
from skipml.ann.balls import distance_bounds
from skipml.ann.metric import SQL_FUNCTIONS, Metric, Singles, distances
from skipml.regions import Balls
from tests.ann.brute import METRICS, asked, built, clustered, nearest

Bounds = Callable[[Metric, Balls, Singles], tuple[NDArray[np.float64], NDArray[np.float64]]]


def test_bounds_hold(tmp_path: Path) -> None:
    for metric in METRICS:
        for dimension, scale in ((2, 1e-12), (7, 1.0), (48, 1e6), (300, 1e14), (3, 1e25)):
            rows = (clustered(400, dimension) * scale).astype(np.float32)
            index = built(tmp_path / f"{metric}{dimension}", rows, metric)
            for query in (asked(3, dimension, 6) * scale).astype(np.float32):
                low, high = distance_bounds(metric, index.snapshot.balls, query)
                value = f"{SQL_FUNCTIONS[metric]}(v::FLOAT[{dimension}], $1::FLOAT[{dimension}])"
                sql = f"SELECT list_id, {value} FROM '{index.path}/rows-00000001.parquet'"
                assert index.search(query, 5, nprobe=2).num_rows == 5
                for number, far in duckdb.execute(sql, [query.tolist()]).fetchall():
                    known = np.isfinite(low[number])
                    assert not known or low[number] <= far <= high[number]


def lost(index: VectorIndex, rows: NDArray[np.float32]) -> bool:
    """Whether a row that qualifies is lost, or a list is wrongly kept, by any of some conditions."""
    for query in (*asked(4, rows.shape[1], 6), rows[3], np.zeros(rows.shape[1], np.float32)):
        far = distances(index.metric, query[None], np.zeros(len(rows), np.int64), rows)
        numbers = far[~np.isnan(far)]
        for limit in np.quantile(numbers, [0, 0.01, 0.3, 0.9, 1]).tolist() if len(numbers) else []:
            distance = index.distance(query)
            for predicate, true in (
                (distance < limit, far < limit),
                (distance <= limit, far <= limit),
                (distance > limit, (far > limit) | np.isnan(far)),
                (~(distance < limit), (far >= limit) | np.isnan(far)),
            ):
                plan = index.prune(predicate)
                assert not plan.result.error
                if sorted(plan.scan(["row_id"]).read_all()["row_id"].to_pylist()) != np.flatnonzero(true).tolist():
                    return True
    return False


@pytest.mark.parametrize("metric", METRICS)
def test_radius_predicates_lose_no_row(tmp_path: Path, metric: Metric) -> None:
    rows = clustered(600, 6)
    index = built(tmp_path / "index", rows, metric)
    assert not lost(index, rows)
    query = rows[0]
    near = index.prune(index.distance(query) < float(np.sort(nearest(metric, query, rows, 30)[1])[-1]))
    assert (near.decisions == SKIP).mean() > 0.3
    assert near.result.method_names[0] == "ball"
    assert set(near.decisions.tolist()) <= {SKIP, EVALUATE, KEEP}
    assert near.table.column_names[:2] == ["file", "row_group"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shift", ["nearer", "smaller"])
def test_broken_bounds_are_caught(tmp_path: Path, metric: Metric, shift: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(600, 6)
    index = built(tmp_path / "index", rows, metric)

    def broken(kind: Metric, balls: Balls, query: Singles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if shift == "smaller":
            return distance_bounds(kind, Balls(balls.centers, balls.radii / 2, balls.norms), query)
        low, high = distance_bounds(kind, balls, query)
        with np.errstate(invalid="ignore"):
            return low + 0.3 * (high - low), high - 0.3 * (high - low)

    monkeypatch.setattr(within, "distance_bounds", broken)
    monkeypatch.setattr(exact, "distance_bounds", broken)
    assert lost(index, rows)


def test_deleted_rows_do_not_qualify(tmp_path: Path) -> None:
    rows = clustered(300, 6)
    index = built(tmp_path / "index", rows)
    index.append(pa.table({"id": [1, 2], "v": pa.array([[0.0] * 6, [9.0] * 6], pa.list_(pa.float32(), 6))}))
    everything = index.distance(np.zeros(6)) < 1e9
    before = index.prune(everything).scan().read_all()["row_id"].to_pylist()
    assert sorted(before) == list(range(302))
    index.delete([5, 6, 301])
    left = index.prune(everything).scan().read_all()["row_id"].to_pylist()
    assert sorted(left) == [i for i in range(302) if i not in (5, 6, 301)]
    with pytest.raises(VectorError, match="one query"):
        index.distance(np.zeros((2, 6)))
