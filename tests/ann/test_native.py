from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skipml import FileChangedError, MetadataError, VectorError, VectorIndex
from skipml.ann import compiled, native
from skipml.ann.found import Found
from skipml.ann.learned import PAIRS, RANK_PAIRS, Gain, Level
from skipml.ann.metric import Metric, distances
from skipml.ann.regression import Trees
from skipml.ann.rules import Priced, Scaled, nearness
from skipml.ann.search import search
from skipml.ann.single import search_one
from skipml.ann.stopping import Nprobe, StopRule
from tests.ann.brute import METRICS, asked, built, clustered, table_of

pytestmark = pytest.mark.skipif(compiled.library() is None, reason="the compiled library is not built")


def without_library(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(compiled, "library", lambda: None)


def trees(features: int, seed: int, spread: float, mean: float) -> Trees:
    """Questions that are answered both ways."""
    rng = np.random.default_rng(seed)
    feature = rng.integers(0, features, (7, 3))
    threshold = rng.normal(0, 1, (7, 3)).astype(np.float32)
    return Trees(mean, feature, threshold, rng.normal(0, spread, (7, 8)).astype(np.float32))


def reflection(width: int) -> NDArray[np.float32]:
    axis = np.random.default_rng(0).standard_normal(width)
    return (np.eye(width) - 2 * np.outer(axis, axis) / (axis @ axis)).astype(np.float32)


def rules() -> list[StopRule]:
    level, gain = Level(trees(len(RANK_PAIRS), 1, 0.3, 1.0)), Gain(trees(len(PAIRS), 2, 0.5, 2.0))
    return [
        Nprobe(1),
        Nprobe(7),
        Nprobe(10**6),
        Scaled(level, 0.7),
        Scaled(level, 4.0),
        *(Priced(gain, price) for price in (0.05, 0.3, 1.5)),
        *(Priced(nearness, price) for price in (0.3, 0.8)),
    ]


def agree(mine: Found | None, theirs: Found, k: int) -> None:
    """The same rows for the same work; where two are as far but for rounding, either."""
    assert mine is not None
    theirs = theirs.first(k)
    assert mine.work.lists == theirs.work.lists
    assert mine.work.scanned == theirs.work.scanned
    np.testing.assert_allclose(mine.distance, theirs.distance, rtol=1e-9, atol=1e-9)
    other = np.flatnonzero(mine.row_id != theirs.row_id)
    gaps = np.abs(np.diff(theirs.distance, prepend=-np.inf, append=np.inf))
    near = (gaps[:-1] < 1e-9) | (gaps[1:] < 1e-9) | np.isnan(theirs.distance)
    near[-1] = True  # as far as the first one that is not there
    assert near[other].all()


def compare(index: VectorIndex, queries: NDArray[Any], k: int, patch: pytest.MonkeyPatch) -> None:
    snapshot = index.snapshot
    for rule in rules():
        for query in queries:
            mine = native.search_one(snapshot, query[None], k, rule)
            with patch.context() as context:
                without_library(context)
                agree(mine, search(snapshot, query[None], k, rule), k)
                if len(snapshot.readers) == 1 and (single := _single(snapshot, query[None], k, rule)):
                    agree(mine, single, k)


def _single(snapshot: Any, query: NDArray[Any], k: int, rule: StopRule) -> Found | None:
    return search_one(snapshot, query, k, rule) if isinstance(rule, Nprobe | Scaled) else None


SHAPES: list[tuple[Metric, bool, int, int]] = [
    ("l2", False, 2, 300),
    ("cosine", False, 5, 500),
    ("ip", True, 31, 400),
    ("l2", False, 33, 700),
    ("ip", False, 33, 700),
    ("cosine", True, 65, 700),
    ("l2", True, 65, 500),
    ("cosine", False, 130, 300),
    ("ip", False, 2048, 70),
]


@pytest.mark.parametrize(("metric", "int8", "dimension", "n"), SHAPES)
def test_finds_what_faiss_does(
    tmp_path: Path, metric: Metric, int8: bool, dimension: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dimension > 1000:  # a reflection is made sooner than a rotation
        monkeypatch.setattr("skipml.ann.codes.rotation", reflection)
    rows = clustered(n, dimension, int8=int8)
    index = built(tmp_path / "index", rows, metric, n_lists=20)
    alike = rows[rows.any(axis=1)][:2]  # a zero query has no nearest list but with l2
    zero = np.zeros((int(metric == "l2"), dimension))
    queries = np.concatenate([asked(3, dimension, 3), alike, zero]).astype(np.float32)
    compare(index, queries, 7, monkeypatch)
    assert len(index.search(np.zeros(dimension), 7, nprobe=3)) == 7


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimension", [6, 40])
def test_deltas_and_deletes(tmp_path: Path, metric: Metric, dimension: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(700, dimension)
    index = built(tmp_path / "index", rows, metric, n_lists=15)
    index.append(table_of(clustered(200, dimension, 8), id=np.arange(200)))
    index.delete(np.arange(0, 900, 3))
    compare(index, asked(4, dimension, 5), 9, monkeypatch)


def test_more_rows_are_wanted_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(30, 48)
    index = built(tmp_path / "index", rows, n_lists=10)
    compare(index, asked(3, 48), 64, monkeypatch)
    assert len(index.search(rows[0], 64, nprobe=1)) == 30


def test_long_and_short_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[tuple[float, tuple[Metric, ...]]] = [(1e-15, ("l2", "ip")), (1e12, ("l2", "cosine"))]
    for scale, metrics in cases:
        for metric in metrics:
            rows = (clustered(300, 40) * scale).astype(np.float32)
            index = built(tmp_path / f"{metric} {scale}", rows, metric, n_lists=10)
            found = index.search(asked(1, 40)[0] * np.float32(scale), 5, nprobe=10)
            with monkeypatch.context() as context:
                without_library(context)
                theirs = index.search(asked(1, 40)[0] * np.float32(scale), 5, nprobe=10)
            assert found["row_id"].to_pylist() == theirs["row_id"].to_pylist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [np.float32, np.int8])
def test_distances_are_those_of_numpy(metric: Metric, kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for dimension in (2, 3, 15, 16, 17, 64, 100, 2048):
        rows = (rng.standard_normal((50, dimension)) * 30).astype(kind)
        rows[3] = 0
        queries = rng.standard_normal((4, dimension)).astype(np.float32)
        which = rng.integers(0, 4, 50)
        mine = distances(metric, queries, which, rows)
        with monkeypatch.context() as context:
            without_library(context)
            np.testing.assert_allclose(mine, distances(metric, queries, which, rows), rtol=1e-12, atol=1e-13)


def test_a_single_query_is_searched_by_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = built(tmp_path / "index", clustered(200, 40), n_lists=4)
    monkeypatch.setattr("skipml.ann.index.search", None)
    monkeypatch.setattr("skipml.ann.index.search_one", None)
    assert len(index.search(asked(1, 40)[0], 3, nprobe=2)) == 3


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(200, 40), n_lists=4)
    for value in (np.nan, np.inf):
        query = asked(1, 40)[0]
        query[7] = value
        with pytest.raises(VectorError, match=r"holds (nan|inf)"):
            index.search(query, 3, nprobe=2)


@pytest.mark.parametrize("name", ["rows", "codes"])
def test_a_file_that_was_cut_is_not_touched(tmp_path: Path, name: str) -> None:
    index = built(tmp_path / "index", clustered(600, 40), n_lists=4)
    query = asked(1, 40)[0]
    index.search(query, 3, nprobe=2)
    path = next((tmp_path / "index").glob(f"{name}-*.parquet"))
    os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(FileChangedError, match=path.name):
        index.search(query, 3, nprobe=2)
    with pytest.raises(FileChangedError, match=path.name):
        VectorIndex.open(tmp_path / "index")


def test_lists_beyond_the_end_of_a_file(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(600, 40), n_lists=4)
    segment = index.snapshot.manifest.segments[0]
    assert segment.code is not None
    assert segment.positions is not None
    for extent in (segment.code, segment.positions, *index.snapshot.readers[0].extents):
        kept = extent.offsets
        for wrong in (-1, int(kept[2]) + (1 << 40), np.iinfo(np.int64).max):
            offsets = kept.copy()
            offsets[2] = wrong
            object.__setattr__(extent, "offsets", offsets)
            index.snapshot.native = None
            with pytest.raises(MetadataError, match="beyond the end"):
                index.search(asked(1, 40)[0], 3, nprobe=2)
        object.__setattr__(extent, "offsets", kept)
    assert len(index.search(asked(1, 40)[0], 3, nprobe=2)) == 3


def test_a_code_of_a_row_that_does_not_exist(tmp_path: Path) -> None:
    index = built(tmp_path / "index", clustered(600, 40), n_lists=1)
    segment = index.snapshot.manifest.segments[0]
    assert segment.positions is not None
    path = next((tmp_path / "index").glob("codes-*.parquet"))
    state = path.stat()
    with path.open("r+b") as file:
        file.seek(int(segment.positions.offsets[0]))
        file.write(np.full(600, 10**6, np.int32).tobytes())
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(MetadataError, match="damaged"):
        index.search(asked(1, 40)[0], 3, nprobe=1)
