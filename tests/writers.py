"""The same table written to Parquet by every writer the tests know, and footers edited into files no writer makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import polars
import pyarrow as pa
import pyarrow.parquet as pq

from skipml.parquet.thrift import BINARY, BYTE, DOUBLE, FALSE, I16, I64, LIST, SET, STRUCT, TRUE, read_list_header

ROW_GROUP_ROWS = 2048
"""The smallest row group that DuckDB writes."""


def write_pyarrow(table: pa.Table, path: Path, row_group_rows: int = ROW_GROUP_ROWS, **options: Any) -> None:
    pq.write_table(table, path, row_group_size=row_group_rows, **options)


def write_duckdb(table: pa.Table, path: Path, row_group_rows: int = ROW_GROUP_ROWS) -> None:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("source", table)
        connection.execute(f"COPY (FROM source) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE {row_group_rows})")


def write_polars(table: pa.Table, path: Path, row_group_rows: int = ROW_GROUP_ROWS) -> None:
    frame = polars.from_arrow(table)
    assert isinstance(frame, polars.DataFrame)
    frame.write_parquet(path, row_group_size=row_group_rows)


def write_fastparquet(table: pa.Table, path: Path, row_group_rows: int = ROW_GROUP_ROWS) -> None:
    starts = list(range(0, table.num_rows, row_group_rows)) or [0]
    fastparquet.write(str(path), table.to_pandas(), row_group_offsets=starts, stats=True)


WRITERS: Mapping[str, Callable[[pa.Table, Path], None]] = {
    "pyarrow": write_pyarrow,
    "duckdb": write_duckdb,
    "polars": write_polars,
    "fastparquet": write_fastparquet,
}


@dataclass
class Struct:
    """A Thrift struct that can be edited: wire type and value by field id."""

    fields: dict[int, tuple[int, Any]] = field(default_factory=dict)

    def __getitem__(self, number: int) -> Any:
        return self.fields[number][1]

    def __contains__(self, number: int) -> bool:
        return number in self.fields

    def put(self, number: int, kind: int, value: Any) -> None:
        self.fields[number] = (kind, value)

    def drop(self, *numbers: int) -> None:
        for number in numbers:
            self.fields.pop(number, None)


def edit_footer(path: Path, edit: Callable[[Struct], None]) -> None:
    """Let `edit` change the footer of a file (a FileMetaData struct) in place; the pages stay as they are."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer, _ = _read(data[-8 - length : -8], 0, STRUCT)
    edit(footer)
    encoded = _encode(STRUCT, footer)
    path.write_bytes(data[: -8 - length] + encoded + len(encoded).to_bytes(4, "little") + b"PAR1")


def statistics(footer: Struct, row_group: int, column: int) -> Struct:
    """The statistics of one column chunk, to be edited."""
    found: Struct = footer[4][1][row_group][1][1][column][3][12]
    return found


def _read(raw: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == STRUCT:
        struct, number = Struct(), 0
        while header := raw[at]:
            at += 1
            number, at = (number + (header >> 4), at) if header >> 4 else _read(raw, at, I64)
            wire = header & 15
            value, at = (wire == TRUE, at) if wire in (TRUE, FALSE) else _read(raw, at, wire)
            struct.put(number, BYTE if wire == BYTE else wire, value)
        return struct, at + 1
    if kind in (LIST, SET):
        count, element, at = read_list_header(raw, at)
        values = []
        for _ in range(count):
            value, at = _read(raw, at, BYTE if element in (TRUE, FALSE) else element)
            values.append(value)
        return (element, values), at
    if kind == BYTE:
        return raw[at], at + 1
    if kind == DOUBLE:
        return raw[at : at + 8], at + 8
    value = shift = 0
    while raw[at] & 0x80:
        value |= (raw[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    value |= raw[at] << shift
    if kind == BINARY:
        return raw[at + 1 : at + 1 + value], at + 1 + value
    return value >> 1 ^ -(value & 1), at + 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _encode(kind: int, value: Any) -> bytes:
    if kind == STRUCT:
        out, last = b"", 0
        for number, (wire, content) in sorted(value.fields.items()):
            header = (TRUE if content else FALSE) if wire in (TRUE, FALSE) else wire
            delta = number - last
            out += bytes([delta << 4 | header]) if 0 < delta < 16 else bytes([header]) + _encode(I16, number)
            out += b"" if wire in (TRUE, FALSE) else _encode(wire, content)
            last = number
        return out + b"\0"
    if kind in (LIST, SET):
        element, values = value
        size = (
            bytes([len(values) << 4 | element]) if len(values) < 15 else bytes([0xF0 | element]) + _varint(len(values))
        )
        return size + b"".join(_encode(BYTE if element in (TRUE, FALSE) else element, v) for v in values)
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == BYTE:
        return bytes([value])
    if kind == DOUBLE:
        return bytes(value)
    return _varint(((value << 1) ^ (value >> 63)) & (2**64 - 1))
