"""What a metadata cache holds of a data file, one row per file.

    path, state, sidecar    the file, its identity, and that of its sidecar ('' if it has none), as text
    n_rows, n_bytes, n_groups
    group_rows, group_bytes lists with one value per row group
    note                    why metadata beside or in the file is ignored
    metadata, whole         what `skipml enrich` has stored of the blocks and of the whole file (`metadata.format`)
    KIND:COLUMN             what the footer says of a column, by its name in lower case: of the file as a whole, and
                            where the kind begins with group_ a list with one value per row group

An entry holds for a file whose identity and whose sidecar's are those that it names, and for no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.errors import MetadataError
from skipml.footers import ColumnStats, common_type
from skipml.identity import FileIdentity
from skipml.lake.buffers import numbers, objects
from skipml.metadata.contents import Metadata
from skipml.metadata.format import decode, encode
from skipml.metadata.loading import Loaded
from skipml.metadata.merging import per_file
from skipml.metadata.tie import HASH_BYTES, Tie
from skipml.parquet.footer import FileColumn, Footer
from skipml.parquet.texts import TextLimits

FILE = ("path", "state", "sidecar")
WHOLE = ("n_rows", "n_bytes", "n_groups", "note", "whole")
GROUPS = ("group_rows", "group_bytes", "note", "metadata")
_COLUMN_WHOLE = {
    "type": pa.string(),
    "lower": pa.float64(),
    "upper": pa.float64(),
    "flags": pa.uint8(),
    "nulls": pa.int64(),
    "text_lower": pa.binary(),
    "text_upper": pa.binary(),
}
_COLUMN_GROUPS = {
    "group_lower": pa.float64(),
    "group_upper": pa.float64(),
    "group_flags": pa.uint8(),
    "group_nulls": pa.int64(),
    "group_reason": pa.string(),
    "group_text_lower": pa.binary(),
    "group_text_upper": pa.binary(),
}
_KNOWN, _ALL_NULL, _MAY_BE_NAN, _MISSING, _HAS_TEXT = 1, 2, 4, 8, 16
_NO_TIE = Tie(0, 0, bytes(HASH_BYTES))
"""What is cached is tied to its file by the entry's state."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file was found to hold, in the state and with the sidecar in the state that the texts name."""

    path: str
    state: str
    sidecar: str
    footer: Footer
    loaded: Loaded


def fold(name: str) -> str:
    """The name of a column in a cache: DuckDB ignores the case of ASCII letters."""
    return name.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")


def whole_names(columns: Sequence[str]) -> list[str]:
    """What is read of files as a whole."""
    return [*WHOLE, *(f"{kind}:{fold(name)}" for name in columns for kind in _COLUMN_WHOLE)]


def group_names(columns: Sequence[str]) -> list[str]:
    """What is read of the row groups of files."""
    kinds = ("type", "flags", *_COLUMN_GROUPS)
    return [*GROUPS, *(f"{kind}:{fold(name)}" for name in columns for kind in kinds)]


def table_of(entries: Sequence[Entry], columns: Sequence[str]) -> pa.Table:
    """The entries of files whose footers were read for the columns."""
    sizes = np.array([len(entry.footer.n_rows) for entry in entries], np.int64)
    metadata = [entry.loaded.metadata for entry in entries]
    fields: dict[str, pa.Array] = {
        "path": pa.array([entry.path for entry in entries], pa.string()),
        "state": pa.array([entry.state for entry in entries], pa.string()),
        "sidecar": pa.array([entry.sidecar for entry in entries], pa.string()),
        "n_rows": pa.array([int(entry.footer.n_rows.sum()) for entry in entries], pa.int64()),
        "n_bytes": pa.array([int(entry.footer.n_bytes.sum()) for entry in entries], pa.int64()),
        "n_groups": pa.array(sizes, pa.int64()),
        "note": pa.array([entry.loaded.reason for entry in entries], pa.string()),
        "group_rows": _lists([entry.footer.n_rows for entry in entries], sizes, pa.int64()),
        "group_bytes": _lists([entry.footer.n_bytes for entry in entries], sizes, pa.int64()),
        "metadata": pa.array([_payload(m) for m in metadata], pa.binary()),
        "whole": pa.array([_payload(m and per_file(m)) for m in metadata], pa.binary()),
    }
    for name in columns:
        parts = [entry.footer.columns[name] for entry in entries]
        fields |= {f"{kind}:{fold(name)}": array for kind, array in _column(parts, sizes).items()}
    return pa.table(fields)


def _payload(metadata: Metadata | None) -> bytes | None:
    return None if metadata is None else encode(metadata, _NO_TIE)


def _column(parts: Sequence[FileColumn], sizes: NDArray[np.int64]) -> dict[str, pa.Array]:
    """The fields of one column of some files."""
    texts = [part.text or TextLimits.unknown(len(part.known)) for part in parts]
    blocks, some = _stats(parts, TextLimits.joined(texts)), sizes > 0
    merged = blocks.merged((np.cumsum(sizes) - sizes)[some]) if some.any() else blocks
    flags = np.array([_MISSING * part.missing + _HAS_TEXT * (part.text is not None) for part in parts], np.uint8)
    flags[some] |= _flags(merged)
    whole: dict[str, Any] = {"type": [part.sql_type for part in parts], "flags": flags}
    of_whole, of_groups = _values(merged), {**_values(blocks), "flags": _flags(blocks), "reason": blocks.reason}
    for kind, values in of_whole.items():
        whole[kind] = np.full(len(parts), None if values.dtype == object else 0, values.dtype)
        whole[kind][some] = values
    fields = {kind: pa.array(whole[kind], of) for kind, of in _COLUMN_WHOLE.items()}
    for kind, of in _COLUMN_GROUPS.items():
        values = pa.array(of_groups[kind.removeprefix("group_")], of)
        fields[kind] = pa.ListArray.from_arrays(_offsets(sizes), values)
    return fields


def _values(stats: ColumnStats) -> dict[str, NDArray[Any]]:
    text = stats.text or TextLimits.unknown(len(stats.known))
    limits = {"lower": stats.lower, "upper": stats.upper, "nulls": stats.null_count}
    return {**limits, "text_lower": text.lower, "text_upper": text.upper}


def _stats(parts: Sequence[FileColumn], text: TextLimits) -> ColumnStats:
    """The row groups of all files behind each other, whatever their types."""
    sizes = [len(part.known) for part in parts]

    def joined(name: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)]).astype(dtype)

    return ColumnStats(
        sql_type="",
        lower=joined("lower", np.float64),
        upper=joined("upper", np.float64),
        known=joined("known", np.bool_),
        all_null=joined("all_null", np.bool_),
        null_count=joined("null_count", np.int64),
        may_be_nan=joined("may_be_nan", np.bool_),
        missing=np.repeat(np.array([part.missing for part in parts], np.bool_), sizes),
        reason=joined("reason", np.object_),
        text=text,
    )


def _flags(stats: ColumnStats) -> NDArray[np.uint8]:
    flags = _KNOWN * stats.known + _ALL_NULL * stats.all_null + _MAY_BE_NAN * stats.may_be_nan
    return np.asarray(flags, np.uint8)


def _offsets(sizes: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.cumsum([0, *sizes]), pa.int32())


def _lists(parts: Sequence[NDArray[np.int64]], sizes: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    values = np.concatenate([np.zeros(0, np.int64), *parts])
    return pa.ListArray.from_arrays(_offsets(sizes), pa.array(values, kind))


def whole_stats(table: pa.Table, name: str, chosen: NDArray[np.int64]) -> ColumnStats:
    """One column of the chosen files, which have row groups, each as one block; nothing is known where the types of any
    differ.
    """
    column = {kind: table.column(f"{kind}:{fold(name)}") for kind in _COLUMN_WHOLE}
    flags, types = numbers(column["flags"]), column["type"].to_pylist()
    present = np.flatnonzero(flags & _MISSING == 0).tolist()
    sql_type = common_type(list(dict.fromkeys(types[i] for i in present)))
    agree, n, flags = sql_type is not None, len(chosen), flags[chosen]
    text = TextLimits(*(objects(column[kind])[chosen] for kind in ("text_lower", "text_upper")))
    return ColumnStats(
        sql_type=sql_type or "",
        lower=numbers(column["lower"])[chosen] if agree else np.full(n, -np.inf),
        upper=numbers(column["upper"])[chosen] if agree else np.full(n, np.inf),
        known=(flags & _KNOWN != 0) & agree,
        all_null=flags & _ALL_NULL != 0,
        null_count=numbers(column["nulls"])[chosen],
        may_be_nan=(flags & _MAY_BE_NAN != 0) | (not agree),
        missing=flags & _MISSING != 0,
        reason=np.full(n, "", object),
        text=text if sql_type == "VARCHAR" else None,
    )


def footers_of(table: pa.Table, columns: Sequence[str], states: Sequence[FileIdentity | None]) -> list[Footer]:
    """The footers of files, each in its state, as they were read."""
    rows, sizes = _flat(table, "group_rows"), _sizes(table)
    n_bytes = _flat(table, "group_bytes")
    slices = [slice(start, stop) for start, stop in pairwise(np.cumsum([0, *sizes]).tolist())]
    parts: dict[str, list[FileColumn]] = {name: _parts(table, name, slices) for name in columns}
    return [
        Footer(state, rows[part], n_bytes[part], {name: found[i] for name, found in parts.items()})
        for i, (state, part) in enumerate(zip(states, slices, strict=True))
    ]


def _parts(table: pa.Table, name: str, slices: Sequence[slice]) -> list[FileColumn]:
    folded = fold(name)
    lower, upper, flags, nulls = (
        _flat(table, f"group_{kind}:{folded}") for kind in ("lower", "upper", "flags", "nulls")
    )
    known, all_null, may_be_nan = (flags & bit != 0 for bit in (_KNOWN, _ALL_NULL, _MAY_BE_NAN))
    reason = _flat_objects(table, f"group_reason:{folded}")
    types, of_file = table.column(f"type:{folded}").to_pylist(), numbers(table.column(f"flags:{folded}"))
    missing, has_text = (of_file & _MISSING != 0).tolist(), (of_file & _HAS_TEXT != 0).tolist()
    texts = None
    if any(has_text):
        texts = TextLimits(*(_flat_objects(table, f"group_text_{side}:{folded}") for side in ("lower", "upper")))
    return [
        FileColumn(
            types[i],
            lower[part],
            upper[part],
            known[part],
            all_null[part],
            nulls[part],
            may_be_nan[part],
            missing[i],
            reason[part],
            texts.take(part) if texts is not None and has_text[i] else None,
        )
        for i, part in enumerate(slices)
    ]


def loaded_of(table: pa.Table, kind: str, states: Sequence[FileIdentity | None]) -> list[Loaded]:
    """What enrichment has stored of files: of their blocks (`metadata`) or of each as a `whole`."""
    notes = table.column("note").to_pylist()
    payloads = table.column(kind)
    found: list[Any] = payloads.to_pylist() if payloads.null_count < len(payloads) else [None] * len(payloads)
    return [_loaded(*what) for what in zip(found, notes, states, strict=True)]


def _loaded(payload: bytes | None, note: str, state: FileIdentity | None) -> Loaded:
    if payload is None:
        return Loaded(None, note, state)
    try:
        metadata, _ = decode(payload)
    except (MetadataError, ValueError, MemoryError) as error:
        return Loaded(None, f"what is cached of enrichment is not understood: {error}", state)
    return Loaded(metadata, note, state)


def _sizes(table: pa.Table) -> list[int]:
    return [size for chunk in table.column("group_rows").chunks for size in chunk.value_lengths().to_pylist()]


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    """The values of all row groups behind each other."""
    lists = table.column(name)
    return numbers(pa.chunked_array([chunk.flatten() for chunk in lists.chunks], lists.type.value_type))


def _flat_objects(table: pa.Table, name: str) -> NDArray[np.object_]:
    lists = table.column(name)
    return objects(pa.chunked_array([chunk.flatten() for chunk in lists.chunks], lists.type.value_type))
