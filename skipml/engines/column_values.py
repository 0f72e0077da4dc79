"""What footers and paths tell of the columns of a scan."""

from __future__ import annotations

import re

import numpy as np

from skipml.engines.inputs import Values
from skipml.engines.sql import Reference
from skipml.footers import Footers
from skipml.partitions import partition_values, value_bounds


def column_values(reference: Reference, footers: Footers, name: str) -> Values:
    """What is known of a scan column: from the footers, or from the paths for a partition column that no file holds."""
    declared = {column.lower(): sql_type for column, sql_type in reference.schema}.get(name.lower())
    stats = footers.columns[name]
    if declared is None:
        return Values.nothing(len(footers))
    if any(_is_partition_key(path, name) for path in footers.files):
        # A partition value hides a column of the same name in the file, unless partitioning is off.
        only_in_paths = stats.missing.all() and not any(footers.errors)
        return _partition_values(footers, name, declared) if only_in_paths else Values.nothing(len(footers))
    # Only union_by_name gives a missing column a meaning: NULL in every row.
    null = stats.missing if reference.option("union_by_name") else np.zeros(len(footers), dtype=np.bool_)
    if _type_name(stats.sql_type) != _type_name(declared):
        return Values.nothing(len(footers))
    all_null = stats.all_null | null
    return Values(
        lower=stats.lower,
        upper=stats.upper,
        unknown=~stats.known & ~all_null,
        all_null=all_null,
        may_be_null=(stats.null_count != 0) | null,
        may_be_nan=stats.may_be_nan & ~null,
    )


def _is_partition_key(path: str, name: str) -> bool:
    """Whether a directory of the path could give the column its value, by the widest reading."""
    return any(part.partition("=")[0].lower() == name.lower() for part in re.split(r"[/\\]", path)[:-1] if "=" in part)


def _partition_keys(path: str) -> dict[str, str | None]:
    """The partition values in a path by key in lower case."""
    return {key.lower(): value for key, value in partition_values(path).items()}


def _type_name(sql_type: str) -> str:
    return re.sub(r"\s+", "", sql_type).upper()


def _partition_values(footers: Footers, name: str, declared: str) -> Values:
    """A hive partition column: one value per file, cast by DuckDB as it casts it in the query."""
    found = [_bounds(path, name, declared) for path in footers.files]
    of_block = footers.file_index
    lower = np.array([-np.inf if b is None else b[0] for b in found])[of_block]
    upper = np.array([np.inf if b is None else b[1] for b in found])[of_block]
    unknown = np.array([b is None for b in found], dtype=np.bool_)[of_block]
    null = np.array([b is not None and b[2] for b in found], dtype=np.bool_)[of_block]
    return Values(lower, upper, unknown, null, null | unknown, unknown)


def _bounds(path: str, name: str, declared: str) -> tuple[float, float, bool] | None:
    values = _partition_keys(path)
    return value_bounds(values[name.lower()], declared) if name.lower() in values else None
