"""Hive partitions: columns whose value stands in the path of a file, as in `year=2024/month=7/part.parquet`.

The rules are DuckDB's (src/common/hive_partitioning.cpp): only directories count, the first of equal keys holds, and
values are URL-encoded. `__HIVE_DEFAULT_PARTITION__` is NULL; before DuckDB 2.0 `null` is too.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import lru_cache
from urllib.parse import unquote

import duckdb
import numpy as np

from skipml.identity import Path, private_connection

_NULL = "__HIVE_DEFAULT_PARTITION__"
_NULL_IS_TEXT = int(duckdb.__version__.partition(".")[0]) >= 2
_EXACT = re.compile(r"BOOLEAN|FLOAT|DOUBLE|U?(TINY|SMALL)INT|U?INTEGER", re.IGNORECASE)
_NUMBER = re.compile(r"U?(BIG|HUGE)INT|DECIMAL\(\d+, ?\d+\)", re.IGNORECASE)
_TIME = re.compile(r"DATE|TIME|TIMESTAMP(_S|_MS|_NS)?", re.IGNORECASE)
_ULPS = 4
_MICROSECOND = 1e-6


def partition_values(path: Path) -> dict[str, str | None]:
    """The partition columns in a path and their texts, None for NULL.

    Keys are as written; those that differ only in case are left out, because it is DuckDB's choice which one counts.
    """
    values: dict[str, str | None] = {}
    for directory in _directories(path):
        key, equals, value = directory.partition("=")
        if key and equals and not set(key + value) & set("=?\n"):
            is_null = value == _NULL or (value.lower() == "null" and not _NULL_IS_TEXT)
            values.setdefault(key, None if is_null else unquote(value))
    folded = Counter(key.lower() for key in values)
    return {key: value for key, value in values.items() if folded[key.lower()] == 1}


def may_be_partitioned(path: Path) -> bool:
    """Whether a directory of a path could give a column its value."""
    return any("=" in directory for directory in _directories(path))


def _directories(path: Path) -> list[str]:
    return re.split(r"[/\\]", os.fspath(path))[:-1]


@lru_cache(maxsize=4096)
def value_bounds(value: str | None, sql_type: str) -> tuple[float, float, bool] | None:
    """Lower and upper limit of the model input that a partition's text stands for, and whether it is NULL.

    `sql_type` is the type the reader gives the column. None where nothing is known: the type cannot be a model input,
    the text is no value of it, or NaN. A timestamp with time zone is not known because it depends on the session.
    """
    is_time = _TIME.fullmatch(sql_type) is not None
    if not (is_time or _EXACT.fullmatch(sql_type) or _NUMBER.fullmatch(sql_type)):
        return None
    typed = f"TRY_CAST($text AS {sql_type})"
    query = f"SELECT {typed} IS NULL, {f'epoch({typed})' if is_time else f'CAST({typed} AS DOUBLE)'}"
    failed, number = private_connection().execute(query, {"text": value}).fetchall()[0] if value else (False, None)
    if failed or (number is not None and np.isnan(number)):
        return None
    if number is None:
        return -np.inf, np.inf, True
    lower = upper = float(number)
    if not _EXACT.fullmatch(sql_type):
        slack = _MICROSECOND if is_time else 0.0
        lower, upper = lower - slack, upper + slack
        for _ in range(_ULPS):
            lower, upper = float(np.nextafter(lower, -np.inf)), float(np.nextafter(upper, np.inf))
    return lower, upper, False
