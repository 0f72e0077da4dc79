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
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found = [_different(chunk) for chunk in chunks]
    nulls = sum(chunk.null_count for chunk in chunks)
    if any(len(texts) > most for texts in found):
        return Distinct(None, nulls)
    words = frozenset(word for texts in found for word in texts.to_pylist())
    return Distinct(words if len(words) <= most and sum(map(len, words)) <= MOST_BYTES else None, nulls)


def _different(chunk: pa.Array) -> pa.Array:
    """The different texts of an array, as bytes. A dictionary may hold words that no row has, and is not asked."""
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary.take(pc.unique(chunk.indices).drop_null())
    if pa.types.is_string_view(chunk.type):
        chunk = chunk.cast(pa.large_string())
    binary = pa.large_binary() if pa.types.is_large_string(chunk.type) else pa.binary()
    return pc.unique(chunk).drop_null().cast(binary)


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
