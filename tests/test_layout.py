from __future__ import annotations

import os
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipml.errors import EnrichmentError, FooterError, SchemaError
from skipml.footers import read_footers
from skipml.layout import METHODS, Method, advise, cluster
from tests.nasty import NASTY, nasty_table
from tests.oracle import linear, model
from tests.rewritten import group_sizes, left_over, random_table, rows_of, write
from tests.writers import write_duckdb

INF, NAN = float("inf"), float("nan")
NOT_IN_DUCKDB: set[str] = {"time_ns", "timestamp_ns_utc"} if duckdb.__version__ < "2" else set()
"""Types whose last digits this DuckDB loses."""


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
    source, target = write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
    report = cluster(source, target, by[:n_columns], method=method, row_group_rows=size)
    assert rows_of(target) == rows_of(source)
    schema = pq.read_schema(target)
    assert schema.remove_metadata() == SCHEMA.remove_metadata()
    assert schema.metadata == {b"owner": b"somebody"}
    assert schema.field("x").metadata[b"unit"] == b"m"
    assert group_sizes(target) == _exact_sizes(len(rows), size)
    assert report.rows == len(rows)
    assert not left_over(tmp_path)


@pytest.mark.parametrize("name", NASTY)
def test_every_model_input_can_order_rows(tmp_path: Path, name: str) -> None:
    source, target = write(nasty_table(name), tmp_path / "in.parquet", row_group_size=2048), tmp_path / "out.parquet"
    if name in NOT_IN_DUCKDB:
        with pytest.raises(SchemaError, match="'x'"):
            cluster(source, target, ["x"])
        assert not target.exists()
        return
    cluster(source, target, ["x"], row_group_rows=1000)
    assert pq.read_schema(target) == pq.read_schema(source)
    assert rows_of(target) == rows_of(source)


@pytest.mark.parametrize("size", [1, 100, 2048, 16_384, 10**6])
def test_row_groups_are_exact_over_many_batches(tmp_path: Path, size: int) -> None:
    n_rows = 300 if size == 1 else 150_001
    source, target = write(random_table(n_rows), tmp_path / "in.parquet"), tmp_path / "out.parquet"
    report = cluster(source, target, ["a", "b", "c"], row_group_rows=size, method="kdtree")
    assert group_sizes(target) == _exact_sizes(n_rows, size)
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
    assert rows_of(target) == rows_of(source)
    physical = [pq.read_metadata(path).schema.column(0).physical_type for path in (source, target)]
    assert physical == ["INT32", "INT32"]


def glob_of(path: Path) -> str:
    return str(path).replace("[", "[[]")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_columns", [1, 2, 3])
def test_row_groups_become_narrow(tmp_path: Path, method: Method, n_columns: int) -> None:
    source, target = write(random_table(64_000, n_columns), tmp_path / "in.parquet"), tmp_path / "out.parquet"
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
    source, target = write(random_table(64_000), tmp_path / "in.parquet"), tmp_path / "out.parquet"
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
    source = write(random_table(50_000), tmp_path / "in.parquet")
    told: list[float] = []
    cluster(source, tmp_path / "out.parquet", ["a"], row_group_rows=1000, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 40


def test_an_error_in_progress_stops_it(tmp_path: Path) -> None:
    source = write(random_table(50_000), tmp_path / "in.parquet")

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster(source, tmp_path / "out.parquet", ["a"], progress=stop)
    assert os.listdir(tmp_path) == ["in.parquet"]


def test_files_of_one_schema_become_one_file(tmp_path: Path) -> None:
    for i in range(3):
        write(random_table(1000, seed=i), tmp_path / f"part{i}.parquet")
    target = tmp_path / "all.parquet"
    report = cluster(str(tmp_path / "part*.parquet"), target, ["a", "b"])
    assert rows_of(target) == sum((rows_of(tmp_path / f"part{i}.parquet") for i in range(3)), Counter())
    assert report.row_groups == (3, 1)
    with pytest.raises(EnrichmentError, match="one of the 4 files"):
        cluster(str(tmp_path / "*.parquet"), target, ["a"])
    write(random_table(10, 2), tmp_path / "part3.parquet")
    with pytest.raises(SchemaError, match=r"part3.parquet' has another schema"):
        cluster(str(tmp_path / "part*.parquet"), target, ["a"])
    for key in (1, 2):
        (tmp_path / f"key={key}").mkdir()
        write(random_table(10), tmp_path / f"key={key}" / "x.parquet")
    with pytest.raises(SchemaError, match="different partitions"):
        cluster(str(tmp_path / "key=*" / "*.parquet"), target, ["a"])


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0], "A": [2.0], "text": ["x"], "list": [[1]]})
    source, target = write(table, tmp_path / "in.parquet"), tmp_path / "out.parquet"
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
    assert not left_over(tmp_path)
