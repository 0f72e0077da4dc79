"""Parquet footers of many files -> arrays per row group, for the columns that are wanted.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.errors import FileChangedError, FooterError
from skipml.identity import FileIdentity
from skipml.parquet.chunks import Chunks, Extent, locate, pack
from skipml.parquet.footer_bytes import fetch, read_bytes
from skipml.parquet.texts import TextLimits, text_limits
from skipml.parquet.thrift import BINARY, I64, STRUCT, Buffer, Positions, read_list_header, read_struct, scan, zigzag
from skipml.parquet.types import TEXT, ColumnType, column_type, element_name

_SCHEMA, _ROW_GROUPS, _CREATED_BY, _COLUMN_ORDERS = 2, 4, 6, 7  # fields of FileMetaData
_CHILDREN = 5  # field of SchemaElement
_TYPE_ORDER = 1  # member of ColumnOrder
_OLD_MAX, _OLD_MIN, _NULL_COUNT, _MAX, _MIN, _NAN_COUNT = (
    (1, BINARY),
    (2, BINARY),
    (3, I64),
    (5, BINARY),
    (6, BINARY),
    (9, I64),
)  # fields of Statistics
_BATCH_BYTES = 1 << 25
_NAN_FREE_WRITERS = re.compile(rb"DuckDB version v(1\.([1-9]|\d\d+)|2\.\d+)\.")
"""These leave min and max out where a value is NaN (tried with 1.1 to 1.5 and 2.0); 1.0 does, but gives no version."""


@dataclass(frozen=True, slots=True)
class FileColumn:
    """One column of one file, arrays over its row groups; see `skipml.footers.ColumnStats`."""

    sql_type: str
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    known: NDArray[np.bool_]
    all_null: NDArray[np.bool_]
    null_count: NDArray[np.int64]
    may_be_nan: NDArray[np.bool_]
    missing: bool
    reason: NDArray[np.object_]
    text: TextLimits | None = None
    """Limits of a column of text, which has no others."""


@dataclass(frozen=True, slots=True)
class Footer:
    """One file: arrays over its row groups, its columns by the names they were asked for, or an error."""

    identity: FileIdentity | None
    n_rows: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    columns: dict[str, FileColumn]
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands in front of the row groups: the columns at the top of the schema with their types and, where they are
    flat, their leaf number.
    """

    names: tuple[bytes, ...]
    """In ASCII lower case, as DuckDB compares them."""
    types: tuple[ColumnType, ...]
    leaves: tuple[int, ...]
    n_leaves: int
    row_groups: int
    at: int


@dataclass(frozen=True, slots=True)
class _Tail:
    """What stands behind the row groups."""

    nan_free: bool
    ordered: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class _Parsed:
    identity: FileIdentity
    head: _Head
    tail: _Tail
    chunks: Chunks


def read_files(paths: Sequence[str], columns: Sequence[str]) -> list[Footer]:
    """The footers of files; a file that cannot be read yields an error instead of row groups."""
    footers: list[Footer] = []
    batch: list[tuple[str, Any]] = []
    held = 0
    fetch(paths)
    for path in paths:
        raw = _attempt(path, read_bytes, path)
        batch.append((path, raw))
        held += 0 if isinstance(raw, str) else len(raw[1])
        if held > _BATCH_BYTES:
            footers += _read_batch(batch, columns)
            batch, held = [], 0
    return footers + _read_batch(batch, columns)


def _read_batch(batch: Sequence[tuple[str, Any]], columns: Sequence[str]) -> list[Footer]:
    paths, raws = [path for path, _ in batch], [raw for _, raw in batch]
    heads: list[Any] = [
        raw if isinstance(raw, str) else _attempt(path, _parse_head, raw[1])
        for path, raw in zip(paths, raws, strict=True)
    ]
    buffer, starts = pack([b"" if isinstance(raw, str) else raw[1] for raw in raws])
    good = [i for i, head in enumerate(heads) if isinstance(head, _Head)]
    extents = [Extent(starts[i] + heads[i].at, heads[i].row_groups, heads[i].n_leaves) for i in good]
    located = dict(zip(good, locate(buffer, extents), strict=True))
    parsed = [_combine(path, raws[i], heads[i], starts[i], located.get(i)) for i, path in enumerate(paths)]
    return _decode(buffer, parsed, columns)


def _attempt(path: str, step: Any, argument: Any) -> Any:
    """What `step` returns, or the message of its failure: nothing that stands in a file may raise."""
    try:
        return step(argument)
    except (FooterError, FileChangedError) as error:
        return str(error)
    except OSError as error:
        return f"'{path}' cannot be read: {error.strerror or error}"
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return f"'{path}' has a damaged footer ({error}); write the file again"


def _parse_head(raw: bytes) -> _Head:
    fields, at = read_struct(raw, 0, stop=_ROW_GROUPS)
    row_groups, kind, at = read_list_header(raw, at)
    if kind != STRUCT and row_groups:
        raise ValueError("the row groups are not structs")
    elements = fields[_SCHEMA]
    names, types, leaves = [], [], []
    leaf, i = 0, 1
    for _ in range(elements[0].get(_CHILDREN, 0)):
        size, n_leaves = _subtree(elements, i)
        names.append(element_name(elements[i]).lower())
        types.append(column_type(elements[i]))
        leaves.append(leaf)
        leaf, i = leaf + n_leaves, i + size
    if i != len(elements):
        raise ValueError("the schema has more elements than columns")
    return _Head(tuple(names), tuple(types), tuple(leaves), leaf, row_groups, at)


def _subtree(elements: Sequence[Mapping[int, Any]], root: int) -> tuple[int, int]:
    """Number of elements and of leaves below and including `root`."""
    pending, i, leaves = 1, root, 0
    while pending:
        children = elements[i].get(_CHILDREN, 0)
        pending += children - 1
        leaves += not children
        i += 1
    return i - root, leaves


def _parse_tail(raw: bytes, at: int) -> _Tail:
    fields, _ = read_struct(raw, at, field=_ROW_GROUPS)
    orders = fields.get(_COLUMN_ORDERS, [])
    return _Tail(
        _NAN_FREE_WRITERS.match(fields.get(_CREATED_BY, b"")) is not None,
        tuple(_TYPE_ORDER in order for order in orders),
    )


def _combine(path: str, raw: Any, head: Any, start: int, chunks: Chunks | None) -> _Parsed | str:
    if isinstance(head, str):
        return head
    if chunks is None:
        return (
            f"'{path}' has row groups that skipml does not understand (encrypted columns, or a damaged footer); "
            "the file is scanned without skipping"
        )
    tail = _attempt(path, lambda at: _parse_tail(raw[1], at), chunks.end - start)
    return tail if isinstance(tail, str) else _Parsed(raw[0], head, tail, chunks)


def _decode(buffer: Buffer, parsed: Sequence[_Parsed | str], columns: Sequence[str]) -> list[Footer]:
    none = np.zeros(0, dtype=np.int64)
    footers = [
        Footer(None, none, none, {}, file)
        if isinstance(file, str)
        else Footer(file.identity, file.chunks.n_rows, file.chunks.compressed.sum(axis=1), {})
        for file in parsed
    ]
    files = {i: file for i, file in enumerate(parsed) if isinstance(file, _Parsed)}
    for column in columns:
        same_type: dict[ColumnType, dict[int, int]] = {}
        for i, file in files.items():
            position = _find(file.head.names, column)
            if isinstance(position, str):
                footers[i].columns[column] = _unusable(file, "", position, missing=position == _MISSING)
            elif (reason := file.head.types[position].reason) and file.head.types[position].codec != TEXT:
                footers[i].columns[column] = _unusable(file, file.head.types[position].sql_type, reason, missing=False)
            else:
                same_type.setdefault(file.head.types[position], {})[i] = file.head.leaves[position]
        for kind, leaves in same_type.items():
            for i, decoded in zip(
                leaves, _decode_column(buffer, kind, [(files[i], leaf) for i, leaf in leaves.items()]), strict=True
            ):
                footers[i].columns[column] = decoded
    return footers


_MISSING = "column is not in the file"


def _find(names: Sequence[bytes], wanted: str) -> int | str:
    """The position of a column as DuckDB resolves it (ASCII case does not count), or why there is none."""
    folded = wanted.encode("utf-8", "surrogateescape").lower()
    hits = [i for i, name in enumerate(names) if name == folded]
    if len(hits) == 1:
        return hits[0]
    if hits or len(set(names)) < len(names):  # DuckDB renames duplicates: even an absent name may be one of them
        return "column names are ambiguous"
    return _MISSING


def _unusable(file: _Parsed, sql_type: str, reason: str, missing: bool) -> FileColumn:
    n = len(file.chunks.n_rows)
    no, yes = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    return FileColumn(
        sql_type,
        np.full(n, -np.inf),
        np.full(n, np.inf),
        no,
        no,
        np.full(n, -1),
        yes,
        missing,
        np.full(n, reason, dtype=object),
    )


def _decode_column(buffer: Buffer, kind: ColumnType, files: Sequence[tuple[_Parsed, int]]) -> list[FileColumn]:
    """One column of files that give it the same type, decoded together."""
    sizes = [len(file.chunks.n_rows) for file, _ in files]
    n_rows = np.concatenate([file.chunks.n_rows for file, _ in files])
    num_values = np.concatenate([file.chunks.num_values[:, leaf] for file, leaf in files])
    nan_free = np.repeat([file.tail.nan_free for file, _ in files], sizes)
    ordered = np.repeat([leaf < len(file.tail.ordered) and file.tail.ordered[leaf] for file, leaf in files], sizes)
    at = _statistics(buffer, np.concatenate([file.chunks.statistics[:, leaf] for file, leaf in files]))
    whole = _decode_statistics(buffer, kind, at, (n_rows, num_values, nan_free, ordered))
    bounds = np.cumsum([0, *sizes]).tolist()
    return [_slice(whole, start, stop) for start, stop in pairwise(bounds)]


def _statistics(buffer: Buffer, at: Positions) -> dict[tuple[int, int], Positions]:
    """Where each field of the statistics at the positions is, -1 if nowhere."""
    present = np.flatnonzero(at >= 0)
    fields = {field: np.full(len(at), -1) for field in (_OLD_MAX, _OLD_MIN, _NULL_COUNT, _MAX, _MIN, _NAN_COUNT)}
    found = {field: np.full(len(present), -1) for field in fields}
    scan(buffer, at[present], found=found)
    for field, positions in found.items():
        fields[field][present] = positions
    return fields


def _decode_statistics(
    buffer: Buffer,
    kind: ColumnType,
    at: Mapping[tuple[int, int], Positions],
    context: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]],
) -> FileColumn:
    n_rows, num_values, nan_free, ordered = context
    if kind.codec == TEXT:
        return _decode_text(buffer, kind, at, (n_rows, num_values == n_rows, ordered))
    limits = kind.limits(buffer, at[_MIN], at[_MAX])
    flat = num_values == n_rows
    has_both, has_none = (at[_MIN] >= 0) & (at[_MAX] >= 0), (at[_MIN] < 0) & (at[_MAX] < 0)
    known = limits.valid & limits.ordered & flat & ordered
    null_count = _count(buffer, at[_NULL_COUNT], n_rows, flat)
    all_null = flat & ((n_rows == 0) | ((null_count == n_rows) & has_none & (not kind.required)))
    if kind.required:
        null_count = np.zeros_like(null_count)
    no_nan = (_count(buffer, at[_NAN_COUNT], n_rows, flat) == 0) | (nan_free & has_both) | all_null
    may_be_nan = ~no_nan if kind.is_float else np.zeros(len(n_rows), dtype=bool)
    obstacles = {
        "": all_null,
        "number of values is not that of rows": ~flat,
        "only the deprecated min and max": ~has_both & ((at[_OLD_MIN] >= 0) | (at[_OLD_MAX] >= 0)),
        "no min and max": ~has_both,
        "unknown column order": ~ordered,
        f"min or max is no {kind.sql_type}": ~limits.valid,
        "min is above max": ~limits.ordered,
        "no NaN count; skipml enrich adds one": may_be_nan,
    }
    reason = np.select(list(obstacles.values()), list(obstacles), "").astype(object)
    known |= all_null
    lower = np.where(known & ~all_null, limits.lower, -np.inf)
    upper = np.where(known & ~all_null, limits.upper, np.inf)
    # a minimum of +0 may stand for -0, and a maximum of -0 for +0
    lower, upper = np.where(lower == 0, -0.0, lower), np.where(upper == 0, 0.0, upper)
    return FileColumn(kind.sql_type, lower, upper, known, all_null, null_count, may_be_nan, False, reason)


def _decode_text(
    buffer: Buffer,
    kind: ColumnType,
    at: Mapping[tuple[int, int], Positions],
    context: tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]],
) -> FileColumn:
    """A column of text: no limits as a model input, but those of its bytes."""
    n_rows, flat, ordered = context
    null_count = _count(buffer, at[_NULL_COUNT], n_rows, flat)
    has_none = (at[_MIN] < 0) & (at[_MAX] < 0)
    all_null = flat & ((n_rows == 0) | ((null_count == n_rows) & has_none & (not kind.required)))
    return FileColumn(
        kind.sql_type,
        np.full(len(n_rows), -np.inf),
        np.full(len(n_rows), np.inf),
        all_null.copy(),
        all_null,
        np.zeros_like(null_count) if kind.required else null_count,
        ~all_null,
        False,
        np.where(all_null, "", kind.reason).astype(object),
        text_limits(buffer, at[_MIN], at[_MAX], flat & ordered),
    )


def _count(buffer: Buffer, at: Positions, n_rows: NDArray[np.int64], flat: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A recorded count, -1 where there is none or it cannot be true."""
    count = zigzag(buffer, np.maximum(at, 0))
    return np.where((at >= 0) & flat & (count >= 0) & (count <= n_rows), count, -1)


def _slice(column: FileColumn, start: int, stop: int) -> FileColumn:
    part = slice(start, stop)
    return FileColumn(
        column.sql_type,
        column.lower[part],
        column.upper[part],
        column.known[part],
        column.all_null[part],
        column.null_count[part],
        column.may_be_nan[part],
        column.missing,
        column.reason[part],
        None if column.text is None else column.text.take(part),
    )
