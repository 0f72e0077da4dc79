from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skipml import rewrite
from skipml.errors import EnrichmentError, FileChangedError, SchemaError
from skipml.footers import read_footers
from skipml.layout import cluster
from tests.rewritten import group_sizes, left_over, random_table, rows_of, write

NAN = float("nan")


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip", "none", "brotli", "lz4", {"a": "zstd", "b": "gzip"}])
def test_codecs_stay_unless_another_is_named(tmp_path: Path, codec: Any) -> None:
    source, target = (
        write(random_table(3000, 2), tmp_path / "in.parquet", compression=codec),
        tmp_path / "out.parquet",
    )
    cluster(source, target, ["a", "b"])
    assert _codecs(target) == _codecs(source)
    cluster(source, target, ["a", "b"], compression="zstd")
    assert set(_codecs(target)) == {"ZSTD"}


def _codecs(path: Path) -> list[str]:
    group = pq.read_metadata(path).row_group(0)
    return [group.column(i).compression for i in range(group.num_columns)]


def test_nan_counts_are_recorded(tmp_path: Path) -> None:
    nested = [{"p": NAN, "q": [1.0]}] * 3000
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "s": nested,
            "x": pa.array(np.where(rng.random(3000) < 0.01, NAN, rng.random(3000)), mask=rng.random(3000) < 0.1),
            "f": rng.random(3000).astype(np.float32),
            "void": pa.nulls(3000, pa.float64()),
        }
    )
    source, target = write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    cluster(source, target, ["x"], row_group_rows=500)
    stats = read_footers([str(target)], ["x", "f", "void"], strict=True).columns
    with pq.ParquetFile(target) as file:
        groups = [file.read_row_group(i, ["x"]).column("x") for i in range(6)]
    nans = [sum(value is not None and np.isnan(value) for value in group.to_pylist()) for group in groups]
    assert stats["x"].may_be_nan.tolist() == [n > 0 for n in nans]
    assert nans[:4] == [0] * 4
    assert sum(nans) > 0
    assert not stats["f"].may_be_nan.any()
    assert stats["f"].known.all()
    assert stats["void"].all_null.all()
    flat = tmp_path / "flat.parquet"
    cluster(write(table.drop_columns("s"), source), flat, ["x"])
    expected = np.sort(table.column("f").to_numpy())
    assert np.array_equal(np.sort(polars.read_parquet(flat)["f"].to_numpy()), expected)
    with flat.open("rb") as opened:
        read = fastparquet.ParquetFile(opened).to_pandas(["f"])["f"].to_numpy()
    assert np.array_equal(np.sort(read), expected)
    assert np.array_equal(np.sort(duckdb.execute(f"SELECT f FROM '{flat}'").fetchnumpy()["f"]), expected)
    assert read_footers([str(source)], ["f"]).columns["f"].may_be_nan.all()


def test_in_place_through_a_link_with_its_permissions(tmp_path: Path) -> None:
    source, link = write(random_table(3000), tmp_path / "in.parquet"), tmp_path / "link.parquet"
    link.symlink_to(source)
    source.chmod(0o640)
    rows, old = rows_of(source), source.read_bytes()
    with source.open("rb") as reader:
        cluster(source, link, ["a", "b"], row_group_rows=500)
        assert reader.read() == old, "a reader of the old file sees the new one"
    assert link.is_symlink()
    assert source.stat().st_mode & 0o777 == 0o640
    assert rows_of(source) == rows
    assert group_sizes(source) == [500] * 6


def _drop(table: pa.Table) -> pa.Table:
    return table.slice(1)


def _double(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, 1)])


def _swap_null(table: pa.Table) -> pa.Table:
    return table.set_column(0, "x", pa.array([None, *table.column("x").to_pylist()[1:]], pa.float64()))


def _negate_zero(table: pa.Table) -> pa.Table:
    return table.set_column(0, "x", pa.array([-0.0 if v == 0 else v for v in table.column("x").to_pylist()]))


def _move(table: pa.Table) -> pa.Table:
    return table.set_column(1, "y", pa.array(table.column("y").to_pylist()[::-1]))


def _empty_list(table: pa.Table) -> pa.Table:
    return table.set_column(2, "z", pa.array([[]] * len(table), pa.list_(pa.int64())))


@pytest.mark.parametrize("tamper", [_drop, _double, _swap_null, _negate_zero, _move, _empty_list])
def test_changed_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tamper: Any) -> None:
    table = pa.table(
        {"x": [0.0, 1.0, 2.0], "y": ["a", "b", "c"], "z": pa.array([None, None, None], pa.list_(pa.int64()))}
    )
    source, target = write(table, tmp_path / "in.parquet"), write(table.slice(0, 1), tmp_path / "out.parquet")
    old = target.read_bytes()
    in_groups = rewrite._in_groups
    monkeypatch.setattr(rewrite, "_in_groups", lambda *args: map(tamper, in_groups(*args)))
    with pytest.raises(EnrichmentError, match="not those of the source"):
        cluster(source, target, ["x"])
    assert target.read_bytes() == old
    assert not left_over(tmp_path)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("same_rows", [False, True])
def test_a_source_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool, same_rows: bool
) -> None:
    source = write(random_table(5000), tmp_path / "in.parquet")
    target = source if in_place else tmp_path / "out.parquet"
    in_groups = rewrite._in_groups
    newer = tmp_path / "newer"

    def change(batches: Iterator[pa.RecordBatch], n_rows: int) -> Iterator[pa.Table]:
        for group in in_groups(batches, n_rows):
            write(random_table(5000, seed=0 if same_rows else 1), newer)
            os.replace(newer, source)
            yield group

    monkeypatch.setattr(rewrite, "_in_groups", change)
    with pytest.raises(FileChangedError, match="run it again"):
        cluster(source, target, ["a"])
    assert source.exists()
    assert target.exists() == in_place
    assert len(pq.read_table(source)) == 5000


def test_a_source_that_is_cut_off_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(random_table(5000), tmp_path / "in.parquet")

    def cut(batches: Iterator[pa.RecordBatch], n_rows: int) -> Iterator[pa.Table]:
        yield from rewrite_in_groups(batches, n_rows)
        os.truncate(source, 5000)

    rewrite_in_groups = rewrite._in_groups
    monkeypatch.setattr(rewrite, "_in_groups", cut)
    with pytest.raises(FileChangedError, match="run it again"):
        cluster(source, tmp_path / "out.parquet", ["a"])
    assert os.listdir(tmp_path) == ["in.parquet"]


def test_types_that_rewriting_would_change_are_refused(tmp_path: Path) -> None:
    wide = pa.array([Decimal(1)], pa.decimal256(50, 0))
    with pytest.raises(SchemaError, match="column 'w' is decimal256"):
        cluster(write(pa.table({"a": [1], "w": wide}), tmp_path / "in.parquet"), tmp_path / "out.parquet", ["a"])
    duckdb.execute(f"COPY (SELECT 1 a, INTERVAL 1 DAY i) TO '{tmp_path / 'in.parquet'}'")
    with pytest.raises(SchemaError, match="column 'i'"):
        cluster(tmp_path / "in.parquet", tmp_path / "out.parquet", ["a"])


def test_uuid_and_json_stay(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    duckdb.execute(f"COPY (SELECT i, uuid() u, '{{}}'::JSON j FROM range(100) t(i)) TO '{source}'")
    cluster(source, target, ["i"])
    described = [duckdb.execute(f"DESCRIBE FROM '{path}'").fetchall() for path in (source, target)]
    assert described[0] == described[1]
    assert rows_of(target) == rows_of(source)


def test_a_table_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 32 * 2**20
    table = random_table(600_000).append_column("text", pa.array([f"{i:050d}" for i in range(600_000)]))
    assert table.nbytes > 1.5 * limit
    source, target = write(table, tmp_path / "in.parquet", row_group_size=10_000), tmp_path / "out.parquet"
    monkeypatch.setattr(rewrite, "MEMORY_SHARE", limit / _default_limit())
    cluster(source, target, ["a", "b"])
    assert sorted(pq.read_table(target).column("row").to_pylist()) == list(range(600_000))


def _default_limit() -> float:
    number, unit = str(duckdb.execute("SELECT current_setting('memory_limit')").fetchall()[0][0]).split()
    return float(number) * {"MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}[unit]


RUNS = """
import itertools, resource, signal, sys
from skipml.layout import cluster
source, target, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("ready", flush=True)
for i in itertools.count():
    cluster(source, target, ["a", "b"], method=("zorder", "kdtree")[i % 2], row_group_rows=1000)
"""


def _start(source: Path, target: Path, limit: int = 0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, str(source), str(target), str(limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("in_place", [False, True])
def test_kill_at_any_moment(tmp_path: Path, in_place: bool) -> None:
    source = write(random_table(20_000), tmp_path / "in.parquet")
    target = source if in_place else tmp_path / "out.parquet"
    rows = rows_of(source)
    rng = random.Random(in_place)
    for _ in range(5):
        with _start(source, target) as process:
            time.sleep(rng.random() * 0.6)
            process.send_signal(signal.SIGKILL)
        assert rows_of(source) == rows
        if target.exists():
            assert rows_of(target) == rows
    cluster(source, target, ["a"])
    assert not left_over(tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    source = write(random_table(20_000), tmp_path / "in.parquet")
    old = source.read_bytes()
    with _start(source, source, limit=100_000) as process:
        _, errors = process.communicate()
    assert "EnrichmentError: cannot write" in errors
    assert source.read_bytes() == old
    assert not left_over(tmp_path)
