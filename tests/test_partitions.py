from __future__ import annotations

import math
from pathlib import Path

import duckdb
import pytest

from skipml.partitions import partition_values, value_bounds

DIRECTORIES = [
    "k=1",
    "k=a%20b",
    "k=a+b",
    "k=%zz",
    "k=%C3%A9",
    "k=",
    "=5",
    "k=a=b",
    "k=__HIVE_DEFAULT_PARTITION__",
    "k=__hive_default_partition__",
    "k=null",
    "k=NULL",
    "k=%4e%55%4c%4c",
    "a%20b=1",
    "K=5",
    "k=1/k=2",
    "k=1/other/m=2",
    "k=x?y",
    "a?b=1",
    "plain",
]


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_the_values_are_those_that_duckdb_reads(tmp_path: Path, directory: str) -> None:
    (tmp_path / directory).mkdir(parents=True)
    path = tmp_path / directory / "x=y.parquet"
    duckdb.execute(f"COPY (SELECT 1 v) TO '{path}'")
    options = "hive_partitioning = true, hive_types_autocast = false"
    result = duckdb.execute(f"FROM read_parquet($path, {options})", {"path": str(path)})
    names = [column[0] for column in result.description or []]
    expected = dict(zip(names[1:], result.fetchall()[0][1:], strict=True))
    assert partition_values(path) == expected


def test_keys_that_differ_in_case_are_left_out() -> None:
    assert partition_values("k=1/K=2/m=3/file.parquet") == {"m": "3"}


@pytest.mark.parametrize(
    ("text", "sql_type", "value"),
    [
        ("5", "INTEGER", 5.0),
        ("-7", "TINYINT", -7.0),
        ("true", "BOOLEAN", 1.0),
        ("1.5", "DECIMAL(10,2)", 1.5),
        ("0.1", "DOUBLE", 0.1),
        ("9007199254740993", "BIGINT", 9007199254740992.0),
        ("340282366920938463463374607431768211455", "UHUGEINT", float(2**128)),
        ("2024-01-02", "DATE", 1704153600.0),
        ("1970-01-01 00:00:01.5", "TIMESTAMP", 1.5),
        ("00:01:00", "TIME", 60.0),
    ],
)
def test_bounds_hold_the_value(text: str, sql_type: str, value: float) -> None:
    bounds = value_bounds(text, sql_type)
    assert bounds is not None
    lower, upper, is_null = bounds
    assert lower <= value <= upper
    assert upper - lower <= max(3e-6, abs(value) * 1e-14)
    assert not is_null


@pytest.mark.parametrize(("text", "sql_type"), [(None, "INTEGER"), ("", "BIGINT"), ("infinity", "DATE")])
def test_null(text: str | None, sql_type: str) -> None:
    assert value_bounds(text, sql_type) == (-math.inf, math.inf, True)


@pytest.mark.parametrize(
    ("text", "sql_type"),
    [
        ("x", "INTEGER"),
        ("300", "TINYINT"),
        ("nan", "DOUBLE"),
        ("a", "VARCHAR"),
        (None, "VARCHAR"),
        ("2024-01-01", "TIMESTAMP WITH TIME ZONE"),
        ("1", "INTEGER); SELECT (1"),
    ],
)
def test_nothing_is_known(text: str | None, sql_type: str) -> None:
    assert value_bounds(text, sql_type) is None
