"""Argument expressions: what is known of them in a row group contains what DuckDB computes for every row of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import skipml
from skipml.engines.inputs import input_regions
from skipml.regions import Regions
from tests.oracle import identity, model, rows_of, standing_clock
from tests.soundness.lakes import KINDS

_NUMBERS = ("double", "float", "int32", "int64", "uint64", "decimal", "wide_decimal", "boolean::INTEGER", "small")
_DATES = ("date", "timestamp", "timestamp_ns")
_CONSTANTS = ("1", "2", "0.1", "-3", "1e3", "7.25", "0.1::FLOAT", "100::BIGINT", "0.333::DECIMAL(9,4)", "2::DOUBLE")
_CASTS = ("DOUBLE", "DOUBLE", "FLOAT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL(18,3)", "DECIMAL(38,10)", "SMALLINT")
_FUNCTIONS = ("abs", "sqrt", "ln", "exp", "log10", "log2", "-", "+", "round", "floor")
_PARTS = ("year", "month", "day", "hour", "minute", "second", "quarter", "week", "dayofweek", "dayofyear", "isodow")

_leaves = st.one_of(
    st.sampled_from(_NUMBERS),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_CONSTANTS),
    st.sampled_from([f"epoch({column})" for column in (*_DATES, "time")]),
    st.tuples(st.sampled_from(_PARTS), st.sampled_from(_DATES)).map(lambda t: f"{t[0]}({t[1]})"),
    st.tuples(st.sampled_from(_PARTS), st.sampled_from(_DATES)).map(lambda t: f"extract({t[0]} FROM {t[1]})"),
    st.sampled_from(["epoch(timestamp::DATE)", "epoch(date::TIMESTAMP)", "year(timestamp_ns::TIMESTAMP)"]),
    st.sampled_from(["coalesce(small, 1)", "small % 7", "CASE WHEN small > 3 THEN 1 END", "small // 3"]),
)
expressions = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.sampled_from(_CASTS)).map(lambda t: f"CAST({t[0]} AS {t[1]})"),
        st.tuples(st.sampled_from(_FUNCTIONS), inner).map(lambda t: f"{t[0]}({t[1]})"),
    ),
    max_leaves=4,
)


def random_table(rng: np.random.Generator, groups: int, rows: int) -> pa.Table:
    """A column of every kind; each row group of a column holds NULL, nasty values or neither."""
    columns: dict[str, pa.Array] = {"id": pa.array(range(groups * rows))}
    for name, kind in KINDS.items():
        scale = float(rng.choice([0.01, 1.0, 100.0]))
        values: list[Any] = []
        for _ in range(groups):
            centre, flavour = rng.normal() * 2, str(rng.choice(["plain", "plain", "null", "all null", "nasty"]))
            group = [kind.value(x) for x in (centre + scale * rng.normal(size=rows)).tolist()]
            if flavour == "nasty":
                group[0] = kind.nasty[int(rng.integers(len(kind.nasty)))]
            if flavour == "null":
                group[1] = None
            values += [None] * rows if flavour == "all null" else group
        columns[name] = kind.array(values)
    columns["small"] = pa.array(rng.integers(-9, 10, groups * rows), pa.int8())
    return pa.table(columns)


@pytest.fixture(scope="module")
def con() -> Iterator[skipml.Connection]:
    with standing_clock(), skipml.connect(config={"threads": 1}) as connection:
        connection.register_model("same", model(identity("float64")))
        yield connection


def regions_of(con: skipml.Connection, sql: str) -> Regions | None:
    """What the analysis of a query knows of its model's input; None where it is not analysed."""
    seen: list[Regions] = []

    def note(*given: Any) -> Regions:
        seen.append(input_regions(*given))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skipml.engines.scan_regions.input_regions", note)
        report = con.explain(sql)
    assert report.counters["errors"] == 0, str(report)
    return seen[0] if seen else None


def check(regions: Regions, values: list[float | None], rows: int) -> str:
    """What is wrong with the regions of one input, '' if nothing."""
    for i, (lower, upper) in enumerate(zip(regions.lower[:, 0], regions.upper[:, 0], strict=True)):
        group = values[i * rows : (i + 1) * rows]
        numbers = [v for v in group if v is not None and not np.isnan(v)]
        if regions.all_null[i, 0] and numbers:
            return f"group {i} has values, although all rows are said to be NULL"
        if regions.unknown[i, 0]:
            continue
        if any(v is None for v in group) and not (regions.may_be_null[i, 0] or regions.all_null[i, 0]):
            return f"group {i} has a NULL"
        if any(v is not None and np.isnan(v) for v in group) and not regions.may_be_nan[i, 0]:
            return f"group {i} has a NaN"
        outside = [v for v in numbers if not lower <= v <= upper]
        if outside and not regions.all_null[i, 0]:
            return f"group {i}: {outside} not within [{lower!r}, {upper!r}]"
    return ""


def test_regions_of_expressions_contain_what_duckdb_computes(con: skipml.Connection, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=250, suppress_health_check=list(HealthCheck))
    @given(st.lists(expressions, min_size=4, max_size=4), st.integers(0, 2**32 - 1))
    def compare(texts: list[str], seed: int) -> None:
        groups, rows = 4, 6
        values = random_table(np.random.default_rng(seed), groups, rows)
        path = tmp_path / f"{seen['files']}.parquet"
        seen["files"] += 1
        pq.write_table(values, path, row_group_size=rows)
        con.execute("CREATE OR REPLACE TABLE truth AS FROM values")
        for text in texts:
            try:
                found = rows_of(con, f"SELECT CAST({text} AS DOUBLE) FROM truth ORDER BY id")
            except duckdb.Error:  # overflow, a logarithm of zero, no such function: nothing to be right about
                seen["errors"] += 1
                continue
            regions = regions_of(con, f"SELECT id FROM '{path}' WHERE same({text}) > 0")
            if regions is None:
                seen["not analysed"] += 1
                continue
            seen["known" if not regions.unknown.all() else "unknown"] += 1
            assert not (wrong := check(regions, [row[0] for row in found], rows)), (text, wrong)

    compare()
    assert seen["known"] >= 250, seen


@pytest.mark.parametrize(
    ("text", "lower", "upper"),
    [
        ("a", 0, 9),
        ("a + 1", 1, 10),
        ("a - b", -19, -1),
        ("-a", -9, 0),
        ("a * b", 0, 171),
        ("a / 2", 0, 4.5),
        ("abs(a - 5)", 0, 5),
        ("a::DOUBLE", 0, 9),
        ("a::BIGINT", 0, 9),
        ("a * 2", 0, 18),
        ("d", 0.25, 2.5),
        ("d::DOUBLE", 0.25, 2.5),
        ("d * 2", 0.5, 5),
        ("year(t)", 2000, 2009),
        ("extract(year FROM t) - 2000", 0, 9),
        ("month(t)", 1, 12),
        ("flag::INTEGER", 0, 1),
        ("3", 3, 3),
        ("sqrt(b::DOUBLE - 1)", 3, 18**0.5),
    ],
)
def test_expressions_are_known_as_tightly_as_their_columns(
    con: skipml.Connection, tmp_path: Path, text: str, lower: float, upper: float
) -> None:
    path = tmp_path / "x.parquet"
    days = [int((np.datetime64(f"{2000 + i}-06-01") - np.datetime64("1970-01-01")).astype(int)) for i in range(10)]
    columns = {
        "a": pa.array(range(10), pa.int32()),
        "b": pa.array(range(10, 20), pa.int32()),
        "d": pa.array([0.25 * (i + 1) for i in range(10)], pa.float64()).cast(pa.decimal128(9, 2)),
        "t": pa.array(days, pa.int32()).cast(pa.date32()),
        "flag": [i > 4 for i in range(10)],
    }
    pq.write_table(pa.table(columns), path)
    regions = regions_of(con, f"SELECT a FROM '{path}' WHERE same({text}) > 0")
    assert regions is not None
    assert not regions.unknown.any()
    assert regions.lower[0, 0] == pytest.approx(lower, abs=1e-6)
    assert regions.upper[0, 0] == pytest.approx(upper, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "random()",
        "coalesce(a, 1)",
        "a % 3",
        "CASE WHEN a > 1 THEN a ELSE b END",
        "greatest(a, b)",
        "(SELECT 1)",
        "a / b",
        "ln(a)",
        "TRY_CAST(s AS INTEGER)",
        "length(s)",
        "hash(a)",
        "a::VARCHAR::INTEGER",
        "nullif(a, 3)",
        "epoch(s::DATE)",
        "a ** 2",
        "list_extract([a, b], 1)",
    ],
)
def test_what_is_not_understood_is_unknown(con: skipml.Connection, tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [0, 1], "b": [-1, 2], "s": ["2020-01-01", "2020-01-02"]}), path)
    regions = regions_of(con, f"SELECT a FROM '{path}' WHERE same({text}) > 0")
    assert regions is None or regions.unknown.all()
