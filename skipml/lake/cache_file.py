"""A Parquet file whose every byte that is read is checked first.

The footer carries, as `skipml.metadata.tie` writes it, one entry in base64:

    magic "SKIPML-CACHE", version u32, length u32 and JSON of what the file says of itself,
    hash of the footer without the entry, and of each column chunk in the order of the footer, 16 bytes each,
    hash of everything before

so damage anywhere is found before Arrow, which may crash on it, sees it. To other programs it is plain Parquet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.errors import FooterError, MetadataError
from skipml.lake.buffers import indices
from skipml.metadata.replacement import publish, synchronise, temporary
from skipml.metadata.tie import insert, split
from skipml.parquet.thrift import ThriftError

VERSION = 1
"""To be raised whenever a reader would take what is stored for something else, or footers are decoded otherwise."""

_MAGIC = b"SKIPML-CACHE"
_HEAD = struct.Struct(f"<{len(_MAGIC)}sII")
_HASH = 16
_TRAILER = 8
_PARQUET = b"PAR1"


class CacheFile:
    """An open file of rows by number, in row groups; raises MetadataError where it is damaged or of another version."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            with open(path, "rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise MetadataError(f"the metadata cache '{path}' cannot be read: {error}") from error
        base, entry = self._split()
        self.about, self._hashes = self._opened(base, entry)
        footer = _PARQUET + base + len(base).to_bytes(4, "little") + _PARQUET
        self._metadata = pq.read_metadata(pa.BufferReader(footer))
        self._names = {name: i for i, name in enumerate(self._metadata.schema.to_arrow_schema().names)}
        self._leaves: dict[str, list[int]] = {}
        for i in range(self._metadata.num_columns):
            name = self._metadata.schema.column(i).path.partition(".")[0]
            self._leaves.setdefault(name, []).append(i)
        sizes = [self._metadata.row_group(i).num_rows for i in range(self._metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(self._bytes)), metadata=self._metadata)
        self._checked: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, names: Sequence[str], rows: NDArray[np.int64]) -> pa.Table:
        """Some columns of some rows, by ascending number; raises MetadataError where their bytes are damaged."""
        parts = []
        for group in np.unique(np.searchsorted(self._starts, rows, side="right") - 1).tolist():
            self._check(group, names)
            try:
                whole = self._file.read_row_group(group, columns=list(names), use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(str(error)) from error
            start, stop = self._starts[group], self._starts[group + 1]
            mine = rows[(rows >= start) & (rows < stop)] - start
            parts.append(whole if len(mine) == whole.num_rows else whole.take(indices(mine)))
        if not parts:
            return self._file.schema_arrow.empty_table().select(list(names))
        return pa.concat_tables(parts).select(list(names))

    def _split(self) -> tuple[bytes, bytes]:
        size = len(self._bytes)
        length = int.from_bytes(self._bytes[size - _TRAILER : size - 4], "little")
        if self._bytes[size - 4 :] != _PARQUET or length > size - _TRAILER - len(_PARQUET):
            raise self._damaged("it does not end as a Parquet file")
        found = split(self._bytes[size - _TRAILER - length : size - _TRAILER])
        if found.value is None:
            raise self._damaged("its footer has no entry of skipml")
        try:
            return found.base, base64.b64decode(found.value, validate=True)
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def _opened(self, base: bytes, entry: bytes) -> tuple[dict[str, Any], list[bytes]]:
        """What it says of itself, and the hash of every column chunk."""
        if len(entry) < _HEAD.size + 2 * _HASH or _hash(entry[:-_HASH]) != entry[-_HASH:]:
            raise self._damaged("its entry does not fit its hash")
        magic, version, length = _HEAD.unpack_from(entry)
        if magic != _MAGIC or version != VERSION:
            raise MetadataError(f"the metadata cache '{self._path}' is of another version of skipml")
        at = _HEAD.size + length
        hashes = [entry[i : i + _HASH] for i in range(at, len(entry) - _HASH, _HASH)]
        if _hash(base) != hashes[0]:
            raise self._damaged("its footer does not fit its hash")
        about: dict[str, Any] = json.loads(entry[_HEAD.size : at])
        return about, hashes[1:]

    def _check(self, group: int, names: Iterable[str]) -> None:
        """Compare what is stored of some columns with its hashes, once."""
        row_group = self._metadata.row_group(group)
        for leaf in (leaf for name in names for leaf in self._leaves[name]):
            if (group, leaf) not in self._checked:
                start, stop = _extent(row_group.column(leaf))
                wanted = self._hashes[group * self._metadata.num_columns + leaf]
                if _hash(memoryview(self._bytes)[start:stop]) != wanted:
                    raise self._damaged("a column does not fit its hash")
                self._checked.add((group, leaf))

    def _damaged(self, how: str) -> MetadataError:
        return MetadataError(f"the metadata cache '{self._path}' is damaged: {how}; it is ignored until it is rebuilt")


def write_cache(path: str, tables: Iterable[pa.Table], about: Mapping[str, Any], mode: int) -> int:
    """Write tables of one schema as the row groups of a file with some permissions, in place of the one that is there,
    and return its size.

    Another writer's file is replaced as a whole, or replaces this one. Raises OSError.
    """
    directory = os.path.dirname(path) or os.curdir
    with temporary(directory) as (name, file):
        writer = None
        for table in tables:
            writer = writer or pq.ParquetWriter(
                name, table.schema, compression="zstd", compression_level=1, use_dictionary=_repetitive(table.schema)
            )
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
        if writer is None:
            raise ValueError("no table to write")
        writer.close()
        _seal(name, about)
        synchronise(file, mode)
        publish(name, path)
    return os.path.getsize(path)


def _repetitive(schema: pa.Schema) -> list[str]:
    """The columns worth a dictionary: texts that say the same of many files."""
    return [name for name in schema.names if name.partition(":")[0] in ("type", "group_reason", "note")]


def _seal(path: str, about: Mapping[str, Any]) -> None:
    """Add the hashes to the footer of a complete file."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - _TRAILER)
        length = int.from_bytes(file.read(4), "little")
        start = size - _TRAILER - length
        file.seek(start)
        base = file.read(length)
        hashes = [_hash(base)]
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            for leaf in range(metadata.num_columns):
                begin, stop = _extent(metadata.row_group(group).column(leaf))
                file.seek(begin)
                hashes.append(_hash(file.read(stop - begin)))
        text = json.dumps(about).encode()
        entry = _HEAD.pack(_MAGIC, VERSION, len(text)) + text + b"".join(hashes)
        try:
            footer = insert(base, base64.b64encode(entry + _hash(entry)))
        except (ThriftError, IndexError, ValueError) as error:
            raise FooterError(f"the cache's own footer is not understood: {error}") from error
        file.seek(start)
        file.write(footer + len(footer).to_bytes(4, "little") + _PARQUET)
        file.truncate()


def _extent(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """Where the bytes of a column chunk begin and end."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def _hash(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=_HASH).digest()
