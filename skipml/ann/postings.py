"""The two Parquet files of a segment, whose row groups are posting lists.

`rows-*.parquet` has every row once, in the row group of its first list: `list_id`, `row_id` (the number of the row in
the order in which rows came), the user's columns, the vector. `codes-*.parquet` has every row twice, in the row groups
of its first and of its second list, so that the codes of a list are one run of bytes: `list_id`, `position` (the place
of the row in the rows file), `code`. The second list holds no vector: it is looked up by position.

Both are plain: a column of fixed width is one page of PLAIN, uncompressed values behind a header and levels, so the
values of a list are the last bytes of its column chunk, a raw matrix that is used where it lies. Lists are in order;
one without rows has no row group.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.ann.vectors import VectorType
from skipml.errors import EnrichmentError, FileChangedError
from skipml.identity import FileIdentity, identity
from skipml.metadata.replacement import publish, synchronise, temporary

Indices = NDArray[np.int64]
Bytes = NDArray[np.uint8]

LIST_ID, ROW_ID, POSITION, CODE = "list_id", "row_id", "position", "code"
OWN_NAMES = (LIST_ID, ROW_ID)
_ONE_PAGE = 1 << 30
_TAIL = 8
"""A Parquet file ends in the length of its footer and a magic."""


def rows_schema(user: pa.Schema, column: str, vector: VectorType) -> pa.Schema:
    """That of a rows file; `user` has the user's columns and the vector."""
    own = [pa.field(LIST_ID, pa.int32(), nullable=False), pa.field(ROW_ID, pa.int64(), nullable=False)]
    theirs = [pa.field(column, vector.arrow, nullable=False) if f.name == column else f for f in user]
    return pa.schema([*own, *theirs])


def codes_schema(n_bytes: int) -> pa.Schema:
    """That of a codes file."""
    return pa.schema(
        [
            pa.field(LIST_ID, pa.int32(), nullable=False),
            pa.field(POSITION, pa.int32(), nullable=False),
            pa.field(CODE, pa.binary(n_bytes), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class FileState:
    """A file of the index and the state it was written in: `footer` is the SHA-256 of its footer."""

    name: str
    footer: str
    identity: FileIdentity

    @classmethod
    def of(cls, path: str) -> FileState:
        """The present one; raises OSError."""
        return cls(os.path.basename(path), footer_hash(path), identity(path))

    def check(self, folder: str) -> None:
        """Raise FileChangedError where the file is gone or another; one that was copied with its folder is the same."""
        path = os.path.join(folder, self.name)
        try:
            found = identity(path)
            if found == self.identity or (found.size == self.identity.size and footer_hash(path) == self.footer):
                return
        except OSError as error:
            raise FileChangedError(f"'{path}' is part of the index and cannot be read: {error}") from error
        raise FileChangedError(
            f"'{path}' is not the file that the index was written with ({found.size:,} bytes now, "
            f"{self.identity.size:,} then); restore it, or build the index again"
        )


def footer_hash(path: str) -> str:
    """SHA-256 of the footer of a Parquet file, or of the end of a file that is none; raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _TAIL))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - _TAIL - length))
        return hashlib.sha256(file.read()).hexdigest()


class ListWriter:
    """Writes posting lists as row groups."""

    def __init__(self, file: Any, schema: pa.Schema) -> None:
        flat = [field for field in schema if not pa.types.is_nested(field.type)]
        raw = [field.name for field in flat if _width(field.type)]
        self.schema = schema
        self._writer = pq.ParquetWriter(
            file,
            schema,
            compression={field.name: "zstd" for field in flat if field.name not in raw} or "none",
            use_dictionary=False,
            write_statistics=[field.name for field in flat if not pa.types.is_fixed_size_binary(field.type)],
            data_page_size=_ONE_PAGE,
            max_rows_per_page=_ONE_PAGE,
        )

    def write(self, rows: pa.Table) -> None:
        """A list, if it has rows."""
        if len(rows):
            self._writer.write_table(rows.combine_chunks(), row_group_size=len(rows))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


@contextmanager
def writing(path: str, schema: pa.Schema) -> Iterator[ListWriter]:
    """A writer of a file that gets its name when the block ends well; raises EnrichmentError where that fails."""
    try:
        with temporary(os.path.dirname(path)) as (name, file):
            writer = ListWriter(file, schema)
            yield writer
            writer.close()
            synchronise(file, 0o644)
            publish(name, path)
    except (OSError, pa.ArrowException) as error:
        raise EnrichmentError(f"'{path}' cannot be written: {error}; free the disk and run it again") from error


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """Where the values of a column lie in a file: those of list l are `counts[l]` times `n_bytes` from `offsets[l]`
    on; the offset is -1 where they are no raw matrix.
    """

    counts: Indices
    offsets: Indices
    n_bytes: int

    @property
    def total(self) -> int:
        """Bytes of all values."""
        return int(self.counts.sum()) * self.n_bytes


def locate(path: str, n_lists: int) -> tuple[Indices, dict[str, Extents]]:
    """The rows of each list [n_lists], and where the values of each column of fixed width lie."""
    metadata = pq.read_metadata(path)
    fields = [(f, _width(f.type)) for f in metadata.schema.to_arrow_schema()]
    first_leaf = np.cumsum([0, *(_leaves(f.type) for f, _ in fields)]).tolist()
    columns = [(f.name, width, leaf) for (f, width), leaf in zip(fields, first_leaf, strict=False) if width]
    counts = np.zeros(n_lists, np.int64)
    offsets = {name: np.full(n_lists, -1, np.int64) for name, _, _ in columns}
    for g in range(metadata.num_row_groups):
        group = metadata.row_group(g)
        number = int(group.column(0).statistics.min)
        counts[number] = group.num_rows
        for name, width, leaf in columns:
            chunk = group.column(leaf)
            statistics = chunk.statistics
            if statistics is None or not statistics.null_count:
                end = chunk.data_page_offset + chunk.total_compressed_size
                offsets[name][number] = end - group.num_rows * width
    return counts, {name: Extents(counts, offsets[name], width) for name, width, _ in columns}


def _width(kind: pa.DataType) -> int:
    """Bytes of a value that Parquet stores as it is in memory, 0 where it does not."""
    if pa.types.is_fixed_size_binary(kind):
        return int(kind.byte_width)
    if pa.types.is_fixed_size_list(kind) and not kind.value_field.nullable and kind.value_type == pa.float32():
        return 4 * int(kind.list_size)
    same = (pa.int32(), pa.int64(), pa.uint32(), pa.uint64(), pa.float32(), pa.float64(), pa.date32())
    if kind in same or (pa.types.is_timestamp(kind) and kind.unit in ("ms", "us")):
        return int(kind.bit_width) // 8
    return 0


def _leaves(kind: pa.DataType) -> int:
    if pa.types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    if pa.types.is_struct(kind):
        return sum(_leaves(field.type) for field in kind)
    if pa.types.is_nested(kind):
        return _leaves(kind.value_type)
    return 1


def verify(path: str, extents: dict[str, Extents], columns: Sequence[str]) -> None:
    """Read a file as any reader does and compare the columns with what lies where `locate` says.

    Raises EnrichmentError where they differ.
    """
    data = np.memmap(path, np.uint8, "r")
    with pq.ParquetFile(path) as file:
        for g in range(file.num_row_groups):
            table = file.read_row_group(g, columns=[LIST_ID, *columns], use_threads=False)
            number = table[LIST_ID][0].as_py()
            for name in columns:
                extent = extents[name]
                start, size = int(extent.offsets[number]), int(extent.counts[number]) * extent.n_bytes
                if start < 0 or not np.array_equal(data[start : start + size], _raw(table[name].combine_chunks())):
                    raise EnrichmentError(
                        f"'{path}': column '{name}' of list {number} is not stored as it is in memory by pyarrow "
                        f"{pa.__version__}; report it with that version"
                    )


def _raw(column: pa.Array) -> Bytes:
    """The bytes of the values of a column without NULL."""
    values = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    width = _width(values.type)
    start = values.offset * width
    return np.frombuffer(values.buffers()[1], np.uint8)[start : start + len(values) * width]
