r"""Enrichment metadata of one Parquet file, and its bytes: version 1, little-endian, the same in sidecar and footer.

    offset  bytes
         0      8  magic "SKIPML\r\n" (a transfer as text damages it)
         8      4  version, u32: 1
        12      8  size of the data file, u64 (0 where embedded)
        20      8  modification time of the data file in ns, i64 (0 where embedded)
        28     16  hash of its footer (`skipml.metadata.tie`)
        44         sections, one behind the other: kind u32, length of the payload u64, payload
        -16    16  BLAKE2b of everything before, 16 bytes

    kind  payload
       1  BLOCKS, first and once: N u64; row group, integers [N]; rows, integers [N]
       2  SETTINGS, once: count u32; per setting name and value, texts, in the order of the names
       3  COLUMN: name text; SQL type text; lower f64 [N]; upper f64 [N]; null count, integers [N]; NaN count,
          integers [N]
       4  PAIR: two names, texts; size u32; hulls u8 [N, size]
       5  BOXES: count u32; names, texts; bits u32; size u32; boxes u8 [N, size]

    text      length u32; UTF-8
    integers  width u8: 1, 2, 4 or 8; unsigned numbers of that many bytes

A reader skips sections of other kinds. What another version may change is everything behind the version.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.errors import MetadataError
from skipml.metadata.tie import HASH_BYTES, Tie

_MAGIC = b"SKIPML\r\n"
_VERSION = 1
_HEADER = struct.Struct(f"<8sIQq{HASH_BYTES}s")
_SECTION = struct.Struct("<IQ")
_BLOCKS, _SETTINGS, _COLUMN, _PAIR, _BOXES = range(1, 6)
_WIDTHS = (1, 2, 4, 8)
_MAX_ROWS = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class ColumnMetadata:
    """One column over N blocks, arrays [N], exact."""

    name: str
    sql_type: str
    """The type DuckDB gives the column. A reader that gives it another may change its values: compare before use."""
    lower: NDArray[np.float64]
    """Smallest model input over the rows that are neither NULL nor NaN; inf where there is none."""
    upper: NDArray[np.float64]
    """Largest model input over the rows that are neither NULL nor NaN; -inf where there is none."""
    null_count: NDArray[np.int64]
    nan_count: NDArray[np.int64]
    """0 for types without NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class PairMetadata:
    """The hulls of one pair of columns: payloads [N, size] of `skipml.metadata.hulls`."""

    columns: tuple[str, str]
    hulls: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class BoxMetadata:
    """The boxes over some columns: payloads [N, size] of `skipml.metadata.boxes`."""

    columns: tuple[str, ...]
    bits: int
    boxes: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """What enrichment knows of the N blocks of a file; a block is a row group or a run of rows inside one.

    The blocks are in file order and cover all rows. `settings` say what the metadata was made with.
    """

    row_group: NDArray[np.int64]
    first_row: NDArray[np.int64]
    """Number within the file of the first row."""
    n_rows: NDArray[np.int64]
    columns: tuple[ColumnMetadata, ...]
    pairs: tuple[PairMetadata, ...]
    boxes: tuple[BoxMetadata, ...]
    settings: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.n_rows)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        return 3 * self.n_rows.nbytes + sum(array.nbytes for array in [*_column_arrays(self), *_payload_arrays(self)])


def encode(metadata: Metadata, tie: Tie) -> bytes:
    """The bytes of metadata, always the same for the same metadata; raises MetadataError where it contradicts itself
    (a limit that is NaN, more NULLs than rows, arrays of different lengths).
    """
    if problem := _contradiction(metadata):
        raise MetadataError(f"the metadata contradicts itself: {problem}; this is a mistake of whoever built it")
    names = sorted(metadata.settings)
    sections = [
        (_BLOCKS, [struct.pack("<Q", len(metadata)), _integers(metadata.row_group), _integers(metadata.n_rows)]),
        (_SETTINGS, [_u32(len(names)), *(_text(part) for name in names for part in (name, metadata.settings[name]))]),
        *((_COLUMN, _column_parts(column)) for column in metadata.columns),
        *((_PAIR, [*map(_text, pair.columns), _payloads(pair.hulls)]) for pair in metadata.pairs),
        *((_BOXES, _box_parts(boxes)) for boxes in metadata.boxes),
    ]
    parts = [_HEADER.pack(_MAGIC, _VERSION, tie.size, tie.mtime_ns, tie.footer)]
    for kind, payload in sections:
        parts += [_SECTION.pack(kind, sum(map(len, payload))), *payload]
    body = b"".join(parts)
    return body + _checksum(body)


def decode(data: bytes) -> tuple[Metadata, Tie]:
    """The metadata in some bytes and the state of the file it describes; its arrays are read-only.

    Raises MetadataError, and nothing else, for bytes that are cut off, changed, of another version or contradictory.
    Allocates in proportion to the bytes that are there, whatever the lengths in them say.
    """
    if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
        raise MetadataError("this is no skipml metadata; remove it and enrich the file again")
    if len(data) < _HEADER.size + HASH_BYTES:
        raise _damage(f"{len(data)} bytes are too few")
    _, version, size, mtime_ns, footer = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise MetadataError(f"this is metadata of version {version}, and this skipml reads {_VERSION}; enrich it again")
    body = memoryview(data)[:-HASH_BYTES]
    if _checksum(body) != data[-HASH_BYTES:]:
        raise _damage("the checksum does not match")
    metadata = _decode_sections(_Reader(body[_HEADER.size :]))
    if problem := _contradiction(metadata):
        raise _damage(problem)
    return metadata, Tie(size, mtime_ns, footer)


def _damage(what: str) -> MetadataError:
    return MetadataError(f"the metadata is damaged ({what}); enrich the file again")


def _checksum(body: bytes | memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=HASH_BYTES).digest()


def _contradiction(metadata: Metadata) -> str:
    """What is wrong with the blocks, '' if nothing: a reader that trusts wrong counts would lose rows."""
    n_rows, groups = metadata.n_rows, metadata.row_group
    arrays = [groups, metadata.first_row, *_column_arrays(metadata)]
    if any(array.shape != n_rows.shape for array in arrays) or n_rows.ndim != 1:
        return "arrays of different lengths"
    if any(a.ndim != 2 or len(a) != len(n_rows) or a.dtype != np.uint8 for a in _payload_arrays(metadata)):
        return "payloads are not one row of bytes per block"
    if (n_rows < 0).any() or n_rows.sum(dtype=np.float64) > _MAX_ROWS:
        return "impossible numbers of rows"
    if (groups < 0).any() or (np.diff(groups) < 0).any():
        return "blocks out of order"
    if not np.array_equal(metadata.first_row, np.cumsum(n_rows) - n_rows):
        return "blocks that do not follow each other"
    if len({column.name for column in metadata.columns}) < len(metadata.columns):
        return "two columns of one name"
    return next(filter(None, (_column_contradiction(column, n_rows) for column in metadata.columns)), "")


def _column_contradiction(column: ColumnMetadata, n_rows: NDArray[np.int64]) -> str:
    nulls, nans = column.null_count, column.nan_count
    if (nulls < 0).any() or (nans < 0).any() or (nulls > n_rows).any() or (nans > n_rows - nulls).any():
        return f"column '{column.name}' has more NULLs and NaNs than rows"
    empty = (column.lower == np.inf) & (column.upper == -np.inf)
    if (empty != (nulls + nans == n_rows)).any() or not (empty | (column.lower <= column.upper)).all():
        return f"column '{column.name}' has limits that do not fit its rows"
    return ""


def _column_arrays(metadata: Metadata) -> list[NDArray[Any]]:
    return [array for c in metadata.columns for array in (c.lower, c.upper, c.null_count, c.nan_count)]


def _payload_arrays(metadata: Metadata) -> list[NDArray[np.uint8]]:
    return [*(pair.hulls for pair in metadata.pairs), *(boxes.boxes for boxes in metadata.boxes)]


def _column_parts(column: ColumnMetadata) -> list[bytes]:
    limits = [np.asarray(limit, dtype="<f8").tobytes() for limit in (column.lower, column.upper)]
    counts = [_integers(column.null_count), _integers(column.nan_count)]
    return [_text(column.name), _text(column.sql_type), *limits, *counts]


def _box_parts(boxes: BoxMetadata) -> list[bytes]:
    return [_u32(len(boxes.columns)), *map(_text, boxes.columns), _u32(boxes.bits), _payloads(boxes.boxes)]


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _text(text: str) -> bytes:
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise MetadataError(f"{text!r} is no Unicode text, which metadata needs; rename the column") from error
    return _u32(len(raw)) + raw


def _integers(values: NDArray[np.int64]) -> bytes:
    largest = int(values.max(initial=0))
    width = next(width for width in _WIDTHS if largest < 1 << 8 * width)
    return bytes([width]) + values.astype(f"<u{width}").tobytes()


def _payloads(payloads: NDArray[np.uint8]) -> bytes:
    return _u32(payloads.shape[1]) + payloads.tobytes()


class _Reader:
    """Takes values from bytes one after the other; raises MetadataError where they end too early."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            raise _damage("a length passes the end")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        try:
            return str(self.take(self.number(4)), "utf-8")
        except UnicodeDecodeError as error:
            raise _damage("a text is no UTF-8") from error

    def floats(self, n: int) -> NDArray[np.float64]:
        return _frozen(np.frombuffer(self.take(8 * n), dtype="<f8").astype(np.float64))

    def integers(self, n: int) -> NDArray[np.int64]:
        width = self.number(1)
        if width not in _WIDTHS:
            raise _damage(f"an integer of {width} bytes")
        return _frozen(np.frombuffer(self.take(width * n), dtype=f"<u{width}").astype(np.int64))

    def payloads(self, n: int) -> NDArray[np.uint8]:
        size = self.number(4)
        return np.frombuffer(self.take(n * size), dtype=np.uint8).reshape(n, size)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _decode_sections(reader: _Reader) -> Metadata:
    blocks: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    settings: dict[str, str] | None = None
    columns, pairs, boxes = [], [], []
    while not reader.at_end:
        kind, section = reader.number(4), _Reader(reader.take(reader.number(8)))
        if (kind == _BLOCKS) != (blocks is None):
            raise _damage("the blocks are not the first section, or come twice")
        if blocks is None:
            n = section.number(8)
            blocks = section.integers(n), section.integers(n)
        elif kind == _SETTINGS:
            if settings is not None:
                raise _damage("the settings come twice")
            settings = {section.text(): section.text() for _ in range(section.number(4))}
        elif kind == _COLUMN:
            columns.append(_decode_column(section, n))
        elif kind == _PAIR:
            pairs.append(PairMetadata((section.text(), section.text()), section.payloads(n)))
        elif kind == _BOXES:
            names = tuple(section.text() for _ in range(section.number(4)))
            boxes.append(BoxMetadata(names, section.number(4), section.payloads(n)))
        else:
            continue
        if not section.at_end:
            raise _damage("a section is longer than what it holds")
    if blocks is None or settings is None:
        raise _damage("a section is missing")
    first_row = _frozen(np.cumsum(blocks[1]) - blocks[1])
    return Metadata(blocks[0], first_row, blocks[1], tuple(columns), tuple(pairs), tuple(boxes), settings)


def _decode_column(section: _Reader, n: int) -> ColumnMetadata:
    return ColumnMetadata(
        name=section.text(),
        sql_type=section.text(),
        lower=section.floats(n),
        upper=section.floats(n),
        null_count=section.integers(n),
        nan_count=section.integers(n),
    )
