"""Distinct texts of a block of rows, and which columns of a file hold text that repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from skipml.metadata.texts import MOST_BYTES


@dataclass(frozen=True, slots=True)
class Distinct:
    """The texts of a block, None where they are too many to be told, and how many rows have none."""

    words: frozenset[bytes] | None
    null_count: int


def distinct(column: pa.Array | pa.ChunkedArray, most: int) -> Distinct:
    """The distinct texts of a column, their bytes as they are; unknown beyond `most`, or MOST_BYTES bytes."""
    if pa.types.is_dictionary(column.type):  # its dictionary may hold words that no row has
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    found = pc.unique(column)
    nulls = column.null_count
    if len(found) - (nulls > 0) > most:
        return Distinct(None, nulls)
    binary = pa.large_binary() if pa.types.is_large_string(found.type) else pa.binary()
    words = frozenset(word for word in found.cast(binary).to_pylist() if word is not None)
    return Distinct(words if sum(map(len, words)) <= MOST_BYTES else None, nulls)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of an Arrow type holds text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def text_columns(schema: pa.Schema, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Those of the wanted columns, by default of all, that hold text, as the schema of a file spells them; one that
    another is named like but for case is left out.
    """
    counts = Counter(name.lower() for name in schema.names)
    asked = None if wanted is None else {name.lower() for name in wanted}
    return tuple(
        field.name
        for field in schema
        if is_text(field.type) and counts[field.name.lower()] == 1 and (asked is None or field.name.lower() in asked)
    )
