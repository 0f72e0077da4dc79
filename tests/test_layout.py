from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipml import rewrite, workspace
from skipml.errors import EnrichmentError, FileChangedError, FooterError, SchemaError
from skipml.footers import read_footers
from skipml.layout import METHODS, Method, advise, cluster
from tests.nasty import NASTY, nasty_table
from tests.oracle import linear, model
from tests.writers import write_duckdb

INF, NAN = float("inf"), float("nan")
NOT_IN_DUCKDB: set[str] = {"time_ns", "timestamp_ns_utc"} if duckdb.__version__ < "2" else set()
"""Types whose last digits this DuckDB loses."""


def _random_table(n_rows: int, n_columns: int = 3, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns = {name: rng.random(n_rows) for name in "abcdefgh"[:n_columns]}
    return pa.table({**columns, "row": np.arange(n_rows)})


def _write(table: pa.Table, path: Path, **options: Any) -> Path:
    pq.write_table(table, path, **{"row_group_size": 1000, **options})
    return path


def _rows(path: Path) -> Counter[str]:
    """The multiset of rows, -0.0, NaN and NULL told apart."""
    columns = [_plain(column) for column in pq.read_table(path).columns]
    return Counter(repr(row) for row in zip(*columns, strict=True))


def _plain(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    return list(column.to_pylist())


def _group_sizes(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def _left_over(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if "skipml-" in name]


def _exact_sizes(n_rows: int, size: int) -> list[int]:
    return [size] * (n_rows // size) + [n_rows % size] * (n_rows % size > 0)


FLOATS = st.sampled_from([None, NAN, INF, -INF, -0.0, 0.0, 1.0, 1.5, 5e-324, -1.7e308])
ROWS = st.fixed_dictionaries(
    {
        "x": FLOATS,
        "half": st.sampled_from([None, np.float16(1.5), np.float16(-0.0), np.float16(NAN)]),
        "n": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "money": st.one_of(st.none(), st.decimals(-(10**8), 10**8, places=2)),
        "day": st.one_of(st.none(), st.dates()),
        "flag": st.one_of(st.none(), st.booleans()),
        "id": st.integers(0, 3),
        "text": st.one_of(st.none(), st.sampled_from(["", "NULL", "[]", "a, b", "é'\"\\"])),
        "list": st.one_of(st.none(), st.lists(FLOATS, max_size=3)),
        "struct": st.one_of(st.none(), st.fixed_dictionaries({"p": st.none() | st.integers(0, 3), "q": FLOATS})),
    }
)
SCHEMA = pa.schema(
    [
        pa.field("x", pa.float64(), metadata={b"unit": b"m"}),
        pa.field("half", pa.float16()),
        pa.field("n", pa.int64()),
        pa.field("money", pa.decimal128(12, 2)),
        pa.field("day", pa.date32()),
        pa.field("flag", pa.bool_()),
        pa.field("text", pa.dictionary(pa.int32(), pa.string())),
        pa.field("list", pa.list_(pa.float64())),
        pa.field("id", pa.int32(), nullable=False),
        pa.field("struct", pa.struct([("p", pa.int8()), ("q", pa.float32())])),
    ],
    metadata={b"owner": b"somebody", b"skipml": b"of the old bytes"},
)
BY = ["x", "N", "money", "day", "flag", "half"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, max_size=25), st.integers(1, 9), st.sampled_from(METHODS), st.permutations(BY), st.integers(1, 6))
def test_rows_and_schema_survive(
    tmp_path: Path, rows: list[dict[str, Any]], size: int, method: Method, by: list[str], n_columns: int
) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    source, target = _write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    report = cluster(source, target, by[:n_columns], method=method, row_group_rows=size)
    assert _rows(target) == _rows(source)
    schema = pq.read_schema(target)
    assert schema.remove_metadata() == SCHEMA.remove_metadata()
    assert schema.metadata == {b"owner": b"somebody"}
    assert schema.field("x").metadata[b"unit"] == b"m"
    assert _group_sizes(target) == _exact_sizes(len(rows), size)
    assert report.rows == len(rows)
    assert not _left_over(tmp_path)


@pytest.mark.parametrize("name", NASTY)
def test_every_model_input_can_order_rows(tmp_path: Path, name: str) -> None:
    source, target = _write(nasty_table(name), tmp_path / "in.parquet", row_group_size=2048), tmp_path / "out.parquet"
    if name in NOT_IN_DUCKDB:
        with pytest.raises(SchemaError, match="'x'"):
            cluster(source, target, ["x"])
        assert not target.exists()
        return
    cluster(source, target, ["x"], row_group_rows=1000)
    assert pq.read_schema(target) == pq.read_schema(source)
    assert _rows(target) == _rows(source)


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip", "none", "brotli", "lz4", {"a": "zstd", "b": "gzip"}])
def test_codecs_stay_unless_another_is_named(tmp_path: Path, codec: Any) -> None:
    source, target = (
        _write(_random_table(3000, 2), tmp_path / "in.parquet", compression=codec),
        tmp_path / "out.parquet",
    )
    cluster(source, target, ["a", "b"])
    assert _codecs(target) == _codecs(source)
    cluster(source, target, ["a", "b"], compression="zstd")
    assert set(_codecs(target)) == {"ZSTD"}


def _codecs(path: Path) -> list[str]:
    group = pq.read_metadata(path).row_group(0)
    return [group.column(i).compression for i in range(group.num_columns)]


@pytest.mark.parametrize("size", [1, 100, 2048, 16_384, 10**6])
def test_row_groups_are_exact_over_many_batches(tmp_path: Path, size: int) -> None:
    n_rows = 300 if size == 1 else 150_001
    source, target = _write(_random_table(n_rows), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    report = cluster(source, target, ["a", "b", "c"], row_group_rows=size, method="kdtree")
    assert _group_sizes(target) == _exact_sizes(n_rows, size)
    assert report.row_groups == (-(-n_rows // 1000), -(-n_rows // size))
    assert np.array_equal(np.sort(pq.read_table(target).column("row").to_numpy()), np.arange(n_rows))


@pytest.mark.parametrize("method", METHODS)
def test_every_writers_decimals_lists_and_names(tmp_path: Path, method: Method) -> None:
    table = pa.table(
        {
            "a": [Decimal("1.10"), Decimal("-3.20"), None] * 700,
            'odd "name"': [[1, None], [], None] * 700,
            "it's": ["x", "y", None] * 700,
            "key": [1, 2, 3] * 700,
        }
    )
    source, target = tmp_path / "it's [1].parquet", tmp_path / "o'ut [x].parquet"
    pq.write_table(pa.table({"a": [1]}), tmp_path / "it's 1.parquet")  # what the name means as a glob
    write_duckdb(table, Path(str(source).replace("'", "''")))
    cluster([glob_of(source)], target, ["key", "A"], method=method)
    assert _rows(target) == _rows(source)
    physical = [pq.read_metadata(path).schema.column(0).physical_type for path in (source, target)]
    assert physical == ["INT32", "INT32"]


def glob_of(path: Path) -> str:
    return str(path).replace("[", "[[]")


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
    source, target = _write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
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
    cluster(_write(table.drop_columns("s"), source), flat, ["x"])
    expected = np.sort(table.column("f").to_numpy())
    assert np.array_equal(np.sort(polars.read_parquet(flat)["f"].to_numpy()), expected)
    with flat.open("rb") as opened:
        read = fastparquet.ParquetFile(opened).to_pandas(["f"])["f"].to_numpy()
    assert np.array_equal(np.sort(read), expected)
    assert np.array_equal(np.sort(duckdb.execute(f"SELECT f FROM '{flat}'").fetchnumpy()["f"]), expected)
    assert read_footers([str(source)], ["f"]).columns["f"].may_be_nan.all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_columns", [1, 2, 3])
def test_row_groups_become_narrow(tmp_path: Path, method: Method, n_columns: int) -> None:
    source, target = _write(_random_table(64_000, n_columns), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    by = list("abc"[:n_columns])
    report = cluster(source, target, by, method=method, row_group_rows=1000)
    ideal = 64 ** (-1 / n_columns)
    before, after = zip(*report.widths.values(), strict=True)
    assert min(before) > 0.99
    assert ideal * 0.9 < np.mean(after) < ideal * (1.4 if method == "kdtree" else 1.8)
    limits = read_footers([str(target)], by).columns
    assert np.allclose(after, [np.mean(limits[name].upper - limits[name].lower) for name in by], atol=0.02)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("method", METHODS)
def test_predicates_skip_more_and_the_advice_says_so(tmp_path: Path, method: Method) -> None:
    source, target = _write(_random_table(64_000), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    score = model(linear([[1.0, 1.0, 1.0]], [0.0]))
    rare, frequent, not_rare = score > 2.7, score > 0.5, score < 0.2
    advice = advise(source, [rare, not_rare], row_group_rows=1000)
    report = cluster(
        source, target, advice.by, method=method, row_group_rows=1000, predicates=[rare, not_rare, frequent]
    )
    assert [before for before, _ in report.skipped] == [0.0, 0.0, 0.0]
    assert report.skipped[0][1] > 0.8
    assert report.skipped[1][1] > 0.8
    assert report.skipped[2][1] == 0.0
    assert advice.worth_it
    assert advice.by == ("a", "b", "c")
    assert advice.row_groups == (64, 64)
    assert advice.skipped_after[method] == pytest.approx([after for _, after in report.skipped[:2]], abs=0.1)
    assert "Cluster by a, b, c" in str(advice)
    assert "skipped by predicate 1" in str(report)
    assert "width of a" in str(report)
    assert not advise(source, [frequent]).worth_it
    assert not advise(target, [rare, not_rare], row_group_rows=1000).worth_it
    assert "not worth a rewrite" in str(advise(source, [frequent]))


def test_progress_rises_to_one(tmp_path: Path) -> None:
    source = _write(_random_table(50_000), tmp_path / "in.parquet")
    told: list[float] = []
    cluster(source, tmp_path / "out.parquet", ["a"], row_group_rows=1000, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 40


def test_an_error_in_progress_stops_it(tmp_path: Path) -> None:
    source = _write(_random_table(50_000), tmp_path / "in.parquet")

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster(source, tmp_path / "out.parquet", ["a"], progress=stop)
    assert os.listdir(tmp_path) == ["in.parquet"]


def test_files_of_one_schema_become_one_file(tmp_path: Path) -> None:
    for i in range(3):
        _write(_random_table(1000, seed=i), tmp_path / f"part{i}.parquet")
    target = tmp_path / "all.parquet"
    report = cluster(str(tmp_path / "part*.parquet"), target, ["a", "b"])
    assert _rows(target) == sum((_rows(tmp_path / f"part{i}.parquet") for i in range(3)), Counter())
    assert report.row_groups == (3, 1)
    with pytest.raises(EnrichmentError, match="one of the 4 files"):
        cluster(str(tmp_path / "*.parquet"), target, ["a"])
    _write(_random_table(10, 2), tmp_path / "part3.parquet")
    with pytest.raises(SchemaError, match=r"part3.parquet' has another schema"):
        cluster(str(tmp_path / "part*.parquet"), target, ["a"])
    for key in (1, 2):
        (tmp_path / f"key={key}").mkdir()
        _write(_random_table(10), tmp_path / f"key={key}" / "x.parquet")
    with pytest.raises(SchemaError, match="different partitions"):
        cluster(str(tmp_path / "key=*" / "*.parquet"), target, ["a"])


def test_in_place_through_a_link_with_its_permissions(tmp_path: Path) -> None:
    source, link = _write(_random_table(3000), tmp_path / "in.parquet"), tmp_path / "link.parquet"
    link.symlink_to(source)
    source.chmod(0o640)
    rows, old = _rows(source), source.read_bytes()
    with source.open("rb") as reader:
        cluster(source, link, ["a", "b"], row_group_rows=500)
        assert reader.read() == old, "a reader of the old file sees the new one"
    assert link.is_symlink()
    assert source.stat().st_mode & 0o777 == 0o640
    assert _rows(source) == rows
    assert _group_sizes(source) == [500] * 6


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
    source, target = _write(table, tmp_path / "in.parquet"), _write(table.slice(0, 1), tmp_path / "out.parquet")
    old = target.read_bytes()
    in_groups = rewrite._in_groups
    monkeypatch.setattr(rewrite, "_in_groups", lambda *args: map(tamper, in_groups(*args)))
    with pytest.raises(EnrichmentError, match="not those of the source"):
        cluster(source, target, ["x"])
    assert target.read_bytes() == old
    assert not _left_over(tmp_path)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("same_rows", [False, True])
def test_a_source_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool, same_rows: bool
) -> None:
    source = _write(_random_table(5000), tmp_path / "in.parquet")
    target = source if in_place else tmp_path / "out.parquet"
    in_groups = rewrite._in_groups
    newer = tmp_path / "newer"

    def change(batches: Iterator[pa.RecordBatch], n_rows: int) -> Iterator[pa.Table]:
        for group in in_groups(batches, n_rows):
            _write(_random_table(5000, seed=0 if same_rows else 1), newer)
            os.replace(newer, source)
            yield group

    monkeypatch.setattr(rewrite, "_in_groups", change)
    with pytest.raises(FileChangedError, match="run it again"):
        cluster(source, target, ["a"])
    assert source.exists()
    assert target.exists() == in_place
    assert len(pq.read_table(source)) == 5000


def test_a_source_that_is_cut_off_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _write(_random_table(5000), tmp_path / "in.parquet")

    def cut(batches: Iterator[pa.RecordBatch], n_rows: int) -> Iterator[pa.Table]:
        yield from rewrite_in_groups(batches, n_rows)
        os.truncate(source, 5000)

    rewrite_in_groups = rewrite._in_groups
    monkeypatch.setattr(rewrite, "_in_groups", cut)
    with pytest.raises(FileChangedError, match="run it again"):
        cluster(source, tmp_path / "out.parquet", ["a"])
    assert os.listdir(tmp_path) == ["in.parquet"]


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0], "A": [2.0], "text": ["x"], "list": [[1]]})
    source, target = _write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (SchemaError, "no column 'b'", {"by": ["b"]}),
        (SchemaError, "'text' is VARCHAR", {"by": ["text"]}),
        (SchemaError, "'list' is", {"by": ["list"]}),
        (EnrichmentError, "by=", {"by": "a"}),
        (EnrichmentError, "by=", {"by": []}),
        (EnrichmentError, "by=", {"by": ["a", "a"]}),
        (EnrichmentError, "no method 'hilbert'", {"method": "hilbert"}),
        (EnrichmentError, "row_group_rows=0", {"row_group_rows": 0}),
        (EnrichmentError, "no compression 'zip'", {"compression": "zip"}),
        (EnrichmentError, "is a folder", {"target": tmp_path}),
        (EnrichmentError, "choose a folder", {"target": tmp_path / "absent" / "out.parquet"}),
        (EnrichmentError, "choose a folder", {"target": source / "out.parquet"}),
        (FooterError, "no file matches", {"source": tmp_path / "absent.parquet"}),
    ]
    for error, message, changed in wrong:
        arguments: dict[str, Any] = {"source": source, "target": target, "by": ["text"], **changed}
        if "by" not in changed:
            arguments["by"] = ["a"]
        with pytest.raises(error, match=message):
            cluster(**arguments)
    (tmp_path / "damaged.parquet").write_bytes(source.read_bytes()[:-9])
    with pytest.raises(FooterError, match=r"damaged.parquet"):
        cluster(tmp_path / "damaged.parquet", target, ["a"])
    with pytest.raises(EnrichmentError, match="nothing to advise"):
        advise(source, [])
    assert not target.exists()
    assert not _left_over(tmp_path)


def test_types_that_rewriting_would_change_are_refused(tmp_path: Path) -> None:
    wide = pa.array([Decimal(1)], pa.decimal256(50, 0))
    with pytest.raises(SchemaError, match="column 'w' is decimal256"):
        cluster(_write(pa.table({"a": [1], "w": wide}), tmp_path / "in.parquet"), tmp_path / "out.parquet", ["a"])
    duckdb.execute(f"COPY (SELECT 1 a, INTERVAL 1 DAY i) TO '{tmp_path / 'in.parquet'}'")
    with pytest.raises(SchemaError, match="column 'i'"):
        cluster(tmp_path / "in.parquet", tmp_path / "out.parquet", ["a"])


def test_uuid_and_json_stay(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    duckdb.execute(f"COPY (SELECT i, uuid() u, '{{}}'::JSON j FROM range(100) t(i)) TO '{source}'")
    cluster(source, target, ["i"])
    described = [duckdb.execute(f"DESCRIBE FROM '{path}'").fetchall() for path in (source, target)]
    assert described[0] == described[1]
    assert _rows(target) == _rows(source)


def test_a_table_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 32 * 2**20
    table = _random_table(600_000).append_column("text", pa.array([f"{i:050d}" for i in range(600_000)]))
    assert table.nbytes > 1.5 * limit
    source, target = _write(table, tmp_path / "in.parquet", row_group_size=10_000), tmp_path / "out.parquet"
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
    source = _write(_random_table(20_000), tmp_path / "in.parquet")
    target = source if in_place else tmp_path / "out.parquet"
    rows = _rows(source)
    rng = random.Random(in_place)
    for _ in range(5):
        with _start(source, target) as process:
            time.sleep(rng.random() * 0.6)
            process.send_signal(signal.SIGKILL)
        assert _rows(source) == rows
        if target.exists():
            assert _rows(target) == rows
    cluster(source, target, ["a"])
    assert not _left_over(tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    source = _write(_random_table(20_000), tmp_path / "in.parquet")
    old = source.read_bytes()
    with _start(source, source, limit=100_000) as process:
        _, errors = process.communicate()
    assert "EnrichmentError: cannot write" in errors
    assert source.read_bytes() == old
    assert not _left_over(tmp_path)


def test_folders_of_living_processes_stay(tmp_path: Path) -> None:
    target = str(tmp_path / "out.parquet")
    with workspace.workspace(target) as first:
        with workspace.workspace(target) as second:
            assert os.path.isdir(first)
            assert first != second
        assert os.path.isdir(first)
    dead = tmp_path / ".out.parquet.skipml-dead"
    dead.mkdir()
    (dead / "rows").write_bytes(b"left")
    with workspace.workspace(target):
        assert not dead.exists()
    assert os.listdir(tmp_path) == []
