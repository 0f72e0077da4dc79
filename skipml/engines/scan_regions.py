"""What footers and metadata say of the arguments of models in one scan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skipml.engines.conditions import ConditionReader
from skipml.engines.inputs import Values, input_regions, plain_columns
from skipml.engines.list_balls import vectors_in_lists
from skipml.engines.sql import Reference
from skipml.footers import Footers, read_footers
from skipml.identity import Path
from skipml.lake.warming import warm
from skipml.metadata.enclosures import Vectors
from skipml.metadata.refine import Refined, refine
from skipml.partitions import partition_values, value_bounds
from skipml.recent import Derived
from skipml.regions import Regions, with_metadata
from skipml.stores import RemoteFile

if TYPE_CHECKING:
    from skipml.ann.index import VectorIndex

_MAX_REGIONS = 8
_LISTS = re.compile(r"(FLOAT|DOUBLE)\[\d*\]")
_FLOAT_LISTS = re.compile(r"FLOAT\[\d*\]")


@dataclass(frozen=True, slots=True)
class MetadataPlaces:
    """Where metadata is looked for beside the files: below a root, and in a cache of a table."""

    root: Path | None = None
    """A folder or its URL."""
    cache: Path | None = None
    """Of local files."""
    indexes: tuple[VectorIndex, ...] = ()
    """Whose manifests know of their files."""


NOWHERE_ELSE = MetadataPlaces()


def known_of(
    reference: Reference, columns: Sequence[str], reader: ConditionReader, places: MetadataPlaces
) -> tuple[Refined, Regions]:
    """What is known of the blocks of a reference, and of the models' arguments in them, made once of the same files."""
    used = sorted({columns[i] for expr in reader.arguments.values() for i in expr.refs()})
    if places.cache is not None and not any(isinstance(file, RemoteFile) for file in reference.files):
        warm(reference.files, used, places.cache, places.root)
    refined = refine(read_footers(reference.files, used), places.root)
    made = _made(refined)
    of = (reader.arguments.items(), reader.constants.items(), columns, reference.schema)
    key = (*map(tuple, of), reference.option("union_by_name"))
    regions = made.get(key)
    if regions is None:
        if len(made) >= _MAX_REGIONS:
            made.clear()
        made[key] = regions = _regions(reference, columns, reader, used, refined)
    return refined, _with_balls(regions, reference, refined.footers, places.indexes)


def _with_balls(regions: Regions, reference: Reference, footers: Footers, indexes: Sequence[VectorIndex]) -> Regions:
    """The same with the balls of indexes around vectors of which metadata says nothing.

    `sources` has the names of the inputs that are columns as they are stored.
    """
    found: dict[int, Vectors] = {}
    for i, name in enumerate(regions.sources if indexes else ()):
        if name is not None and i not in regions.vectors and _has_vectors(reference, footers, name):
            vectors = vectors_in_lists(indexes, footers, name)
            if vectors is not None:
                found[i] = vectors
    return replace(regions, vectors={**regions.vectors, **found}) if found else regions


def _none_made(_: Refined) -> dict[tuple[object, ...], Regions]:
    return {}


_made = Derived(_none_made)
"""The regions of what is refined, by all else that they are made of."""


def _regions(
    reference: Reference, columns: Sequence[str], reader: ConditionReader, used: Sequence[str], refined: Refined
) -> Regions:
    def regions(footers: Footers) -> Regions:
        values = {name: _column_values(reference, footers, name) for name in used}
        return input_regions(reader.arguments, values, columns, reader.constants, footers.n_rows)

    # A column that DuckDB does not take from the files as they have it is unknown, whatever its hulls say.
    floats = {name for name in used if _FLOAT_LISTS.fullmatch(_type_name(_declared(reference, name)))}
    inputs = plain_columns(reader.arguments, columns, floats)
    hidden = [name for name in {*refined.vectors, *floats} if not _has_vectors(reference, refined.footers, name)]
    return with_metadata(refined, {name: at for name, at in inputs.items() if name not in hidden}, regions)


def _has_vectors(reference: Reference, footers: Footers, name: str) -> bool:
    """Whether DuckDB takes a column from the files, as lists of floats."""
    is_list = _LISTS.fullmatch(_type_name(_declared(reference, name))) is not None
    return is_list and not any(_is_partition_key(path, name) for path in footers.files)


def _declared(reference: Reference, name: str) -> str:
    """The type of a column as DuckDB reads it, '' where there is none."""
    return {column.lower(): sql_type for column, sql_type in reference.schema}.get(name.lower(), "")


def _column_values(reference: Reference, footers: Footers, name: str) -> Values:
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
        text=stats.text,
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
