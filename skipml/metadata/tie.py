"""What ties metadata to one state of one Parquet file, and the entry that carries metadata inside a footer.

A footer names the place, size and statistics of every column chunk, so its hash tells nearly all contents apart; the
same values in another order may give the same footer. A sidecar is therefore tied to the file's size and times too.
Embedded metadata is trusted as the footer's own statistics are: it is wrong only if pages were overwritten below it.
Embedded metadata must not change it: the hash is of the footer without the entry. The entry is the first of
`key_value_metadata`, a Thrift KeyValue in compact encoding:

    18 06 "skipml"            field 1, key
    18 <length> <base64>      field 2, value: what `skipml.metadata.format` encodes, in base64
    F8 <length> <undo>        field 17, which readers skip as they skip every field they do not know
    00

`undo` makes cutting the entry out exact without parsing the footer. It holds two bytes, l and r, the l bytes that stand
before the entry (a list header) and the r bytes that stand behind it (the next field's header), and the bytes that
stood there instead before.
Programs that copy key-values into a file they write know no field 17: their copy, which describes the old rows, is
recognised by its absence even where the new footer happens to be the same.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from skipml.identity import FileIdentity, Path, listed_again
from skipml.parquet.chunks import Extent, locate, pack
from skipml.parquet.footer_bytes import read_bytes as read_footer_bytes
from skipml.parquet.thrift import BINARY, LIST, STRUCT, ThriftError, read_list_header, read_struct

_KEY = b"skipml"
_ENTRY = bytes([1 << 4 | BINARY, len(_KEY)]) + _KEY
_ROW_GROUPS, _KEY_VALUES, _ENCRYPTION = 4, 5, 8  # fields of FileMetaData
_UNDO = 17  # field of KeyValue
HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Tie:
    """The state of a data file that metadata describes: size in bytes, modification time in ns (both 0 in embedded
    metadata, which travels with the file), and the hash of its footer without the embedded entry. In a store the tag of
    the version stands for the time, as a hash; without either it is 0.
    """

    size: int
    mtime_ns: int
    footer: bytes


@dataclass(frozen=True, slots=True)
class SplitFooter:
    """A footer without the embedded entry, and the entry's value (None if there is none); `copied`: it has an entry
    that another program copied there.
    """

    base: bytes
    value: bytes | None
    copied: bool = False


def tie(path: Path) -> Tie:
    """The state a file is in now; raises OSError, and FooterError for what is not a readable Parquet footer."""
    state, raw = read_footer(listed_again(path))
    return Tie(state.size, state.stamp, footer_hash(split(raw).base))


def read_footer(path: Path) -> tuple[FileIdentity, bytes]:
    """The state of a Parquet file and its footer in that state; raises OSError and FooterError."""
    return read_footer_bytes(os.fspath(path))


def footer_hash(base: bytes) -> bytes:
    """The hash of a footer that has no embedded entry."""
    return hashlib.blake2b(base, digest_size=HASH_BYTES).digest()


def split(raw: bytes) -> SplitFooter:
    """Cut the embedded entry out of a footer; never raises.

    Bytes in a statistic that look like an entry do no harm: the result still depends on every other byte, and metadata
    is taken from it only if the hash of the rest is the one it names.
    """
    entries = list(_entries(raw))
    for start, fields, end in entries:
        value, undo = fields.get(2), fields.get(_UNDO)
        if isinstance(value, bytes) and isinstance(undo, bytes) and len(undo) >= 2:
            left, right, edges = start - undo[0], end + undo[1], 2 + undo[0] + undo[1]
            if left >= 0 and undo[2:edges] == raw[left:start] + raw[end:right]:
                return SplitFooter(raw[:left] + undo[edges:] + raw[right:], value)
    return SplitFooter(raw, None, copied=bool(entries))


def without_copies(base: bytes) -> bytes:
    """The footer without entries that another program copied; raises ValueError, IndexError or ThriftError."""
    at = _key_values(base)
    if at is None:
        return base
    count, _, first = read_list_header(base, at)
    kept, end = [], first
    for _ in range(count):
        start = end
        fields, end = read_struct(base, start)
        kept += [] if fields.get(1) == _KEY else [base[start:end]]
    if len(kept) == count:
        return base
    return base[:at] + _list_header(len(kept)) + b"".join(kept) + base[end:]


def insert(base: bytes, value: bytes) -> bytes:
    """The footer with an embedded entry of this value; every other byte stays, save the count of key-values or, where
    there were none, the next field's header.

    Raises ValueError, IndexError or ThriftError for a footer that is not laid out as Parquet says, or that is signed.
    """
    at = _key_values(base)
    if at is not None:
        count, _, stop = read_list_header(base, at)
        left, right = _list_header(count + 1), b""
    else:
        at = _behind_row_groups(base)
        left = bytes([(_KEY_VALUES - _ROW_GROUPS) << 4 | LIST]) + _list_header(1)
        # a field's header counts from the field before it: now field 5, not 4
        right = bytes([base[at] - (1 << 4)]) if base[at] >> 4 else b""
        stop = at + len(right)
    undo = bytes([len(left), len(right)]) + left + right + base[at:stop]
    entry = _ENTRY + _binary(1, value) + _binary(_UNDO - 2, undo) + b"\0"
    return base[:at] + left + entry + right + base[stop:]


def _entries(raw: bytes) -> Iterator[tuple[int, dict[int, object], int]]:
    """What reads as a KeyValue with our key, the last first: start, fields, end."""
    start = raw.rfind(_ENTRY)
    while start >= 0:
        try:
            fields, end = read_struct(raw, start)
        except (ThriftError, IndexError):
            fields, end = {}, start
        if fields:
            yield start, fields, end
        start = raw.rfind(_ENTRY, 0, start)


def _key_values(base: bytes) -> int | None:
    """Position of the list of key-values, None if the footer has none."""
    before, _ = read_struct(base, 0, stop=_ROW_GROUPS)
    at = _behind_row_groups(base)
    fields, end = read_struct(base, at, field=_ROW_GROUPS)
    if max(before) > _ROW_GROUPS:
        raise ValueError("its fields are out of order")
    if _ENCRYPTION in fields or end != len(base):
        raise ValueError("it is signed, so that nothing can be added")
    if _KEY_VALUES not in fields:
        return None
    return read_struct(base, at, field=_ROW_GROUPS, stop=_KEY_VALUES)[1]


def _behind_row_groups(base: bytes) -> int:
    _, at = read_struct(base, 0, stop=_ROW_GROUPS)
    count, _, at = read_list_header(base, at)
    if not count:
        return at
    n_columns, _, _ = read_list_header(base, at + 1)  # a row group begins with the list of its column chunks
    buffer, _ = pack([base])
    (chunks,) = locate(buffer, [Extent(at, count, n_columns)])
    if chunks is None:
        raise ValueError("its row groups are encrypted or not laid out as Parquet says")
    return chunks.end


def _binary(delta: int, value: bytes) -> bytes:
    return bytes([delta << 4 | BINARY]) + _varint(len(value)) + value


def _list_header(count: int) -> bytes:
    return bytes([count << 4 | STRUCT]) if count < 15 else bytes([0xF0 | STRUCT]) + _varint(count)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
