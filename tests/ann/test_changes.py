from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipml import ConflictError, SchemaError, VectorError, VectorIndex
from skipml.ann.locking import writer_lock
from skipml.ann.manifest import read
from skipml.ann.metric import Metric
from tests.ann.brute import METRICS, asked, built, clustered, nearest, table_of
from tests.ann.killing import killed_at


def check(index: VectorIndex, rows: dict[int, np.ndarray]) -> None:
    """The index holds these rows, by number."""
    assert len(index) == len(rows)
    ids = np.array(sorted(rows))
    matrix = np.array([rows[i] for i in ids]) if rows else np.empty((0, index.dimension))
    for query in asked(3, index.dimension, 8):
        expected, far = nearest(index.metric, query, matrix, 7)
        for options in ({"exact": True}, {"nprobe": 10**6}):
            found = index.search(query, 7, **options)
            if "exact" in options:
                assert found["row_id"].to_pylist() == ids[expected].tolist()
            assert len(found) == len(expected)
            assert set(found["row_id"].to_pylist()) <= set(ids.tolist())
        np.testing.assert_array_equal(index.search(query, 7, exact=True)["distance"].to_numpy(), far)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), metric=st.sampled_from(METRICS), dimension=st.sampled_from([4, 40]))
def test_any_changes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, metric: Metric, dimension: int
) -> None:
    start = clustered(60, dimension, data.draw(st.integers(0, 9)))
    index = built(tmp_path_factory.mktemp("index") / "index", start, metric, n_lists=4)
    rows = dict(enumerate(start))
    following = len(rows)
    for step in data.draw(st.lists(st.sampled_from(["append", "delete", "upsert", "compact"]), max_size=5)):
        if step == "append":
            more = clustered(data.draw(st.integers(0, 30)), dimension, following)
            index.append(table_of(more, id=pa.array(7 * np.arange(following, following + len(more)))))
            rows |= dict(enumerate(more, following))
            following += len(more)
        elif step == "delete":
            gone = data.draw(st.lists(st.integers(0, following), max_size=30))
            assert index.delete(gone) == len(set(gone) & set(rows))
            rows = {i: row for i, row in rows.items() if i not in gone}
        elif step == "upsert":
            keys = data.draw(st.lists(st.integers(0, following + 5), max_size=10, unique=True))
            more = clustered(len(keys), dimension, following)
            held = index.search(asked(1, dimension), 10**6, nprobe=1)
            ids = dict(zip(held["row_id"].to_pylist(), held["id"].to_pylist(), strict=True))
            old = [i for i in rows if ids[i] in {7 * key for key in keys}]
            table = table_of(more, id=pa.array([7 * key for key in keys], pa.int64()))
            assert index.upsert(table, key="id") == (len(old), len(keys))
            rows = {i: row for i, row in rows.items() if i not in old} | dict(enumerate(more, following))
            following += len(keys)
        else:
            index.compact()
            assert len(index.snapshot.manifest.segments) == 1
        check(index, rows)
    check(VectorIndex.open(index.path), rows)


def test_a_reader_keeps_what_it_opened(tmp_path: Path) -> None:
    rows = clustered(500, 40)
    index = built(tmp_path / "index", rows)
    reader = VectorIndex.open(tmp_path / "index")
    query = asked(1, 40)
    before = reader.search(query, 9, exact=True)
    index.delete(before["row_id"].to_pylist())
    index.append(table_of(rows[:40], id=pa.array(np.arange(40))))
    index.compact()
    assert reader.search(query, 9, exact=True).equals(before)
    assert reader.search(query, 9, nprobe=5)["row_id"].to_pylist()
    reader.refresh()
    assert not set(reader.search(query, 9, exact=True)["row_id"].to_pylist()) & set(before["row_id"].to_pylist())


def test_there_is_one_writer(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(50, 4))
    with writer_lock(os.fspath(tmp_path / "index")), pytest.raises(ConflictError, match="another process"):
        index.delete([1])
    assert index.delete([1]) == 1


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(50, 4))
    version = read(index.path).version
    with pytest.raises(SchemaError, match="no column 'id'"):
        index.append(table_of(clustered(3, 4)))
    with pytest.raises(SchemaError, match="string"):
        index.append(table_of(clustered(3, 4), id=pa.array(["a", "b", "c"])))
    with pytest.raises(VectorError, match="row 0 has 5 values and not 4"):
        index.append(table_of(clustered(3, 5), id=pa.array([1, 2, 3])))
    with pytest.raises(SchemaError, match="float"):
        index.append(table_of(clustered(3, 4, int8=True), id=pa.array([1, 2, 3])))
    with pytest.raises(SchemaError, match="no column 'key'"):
        index.delete([1], column="key")
    with pytest.raises(SchemaError, match="same 'id'"):
        index.upsert(table_of(clustered(3, 4), id=pa.array([1, 1, 3])), key="id")
    assert read(index.path).version == version
    assert index.delete([7, 14, 8], column="id") == 2
    assert len(index) == 48


def test_a_compaction_splits_what_has_grown(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(800, 40))
    far = (20 + 3 * np.random.default_rng(2).standard_normal((600, 40))).astype(np.float32)
    index.append(table_of(far, id=pa.array(np.arange(600))))
    before = index.search(far[:50], 5, nprobe=1)
    longest = int(index.snapshot.sizes.max())
    done = index.compact()
    assert done.rows == 1400
    assert not done.calibrate_again
    assert index.snapshot.sizes.max() < longest
    assert index.search(far[:50], 5, nprobe=1)["distance"].to_numpy().sum() >= 0
    assert len(before) == 250


@pytest.mark.parametrize("action", ["append", "compact", "delete"])
def test_a_killed_writer_leaves_the_last_version(tmp_path: Path, action: str) -> None:
    index = built(tmp_path / "index", clustered(200, 40))
    index.append(table_of(clustered(20, 40, 3), id=pa.array(np.arange(20))))
    index.delete([5, 6])
    query = asked(1, 40)
    before = index.search(query, 300, exact=True)
    runs = killed_at(Path(index.path), tmp_path, action, [1, 3, 5, 9, 13, 99])
    assert any(killed for _, killed in runs)
    assert not runs[-1][1]
    added = {"append": 30, "delete": -3, "compact": 0}[action]
    for path, killed in runs:
        left = VectorIndex.open(path)
        found = left.search(query, 300, exact=True)
        assert found.num_rows == before.num_rows + added or (killed and found.equals(before))
        if action == "compact":
            assert found["row_id"].equals(before["row_id"])
    for path, _ in (runs[2], runs[-1]):
        left = VectorIndex.open(path)
        left.compact()
        names = {name for name in os.listdir(path) if name.endswith((".parquet", ".tmp")) or name == "changing"}
        assert len(names) == 2
        (rows,) = path.glob("rows-*.parquet")
        assert pq.read_table(rows).num_rows == len(left)
