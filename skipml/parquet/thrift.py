"""The Thrift compact protocol: one value at a time (`read_struct`) and many values in step (`scan`).

Parquet footers are Thrift. A footer holds thousands of equally shaped column chunks one after the other; reading them
one by one in Python costs about 170 ns a byte. `scan` walks many of them at once instead: a *lane* is one position in a
byte buffer, and all lanes take the same step together with numpy. A lane that leaves the buffer, or meets something no
Parquet footer holds, is parked on the buffer's last byte (`dead`) for good: its owner sees that it never arrived.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Buffer = NDArray[np.uint8]
Positions = NDArray[np.int64]
Field = tuple[int, int]
"""A field id and its wire type."""

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
PADDING = 16
_MAX_FIELDS = 64
_MAX_ELEMENTS = 256
_MAX_DEPTH = 8


class ThriftError(ValueError):
    """The bytes are not the Thrift structure they should be."""


def read_struct(
    raw: bytes, at: int, field: int = 0, stop: int | None = None, depth: int = 0
) -> tuple[dict[int, Any], int]:
    """Read one struct, or what is left of it behind field number `field`: its values by field id and the position
    behind it.

    With `stop`, reading ends in front of the value of that field and the position is the value's. Raises ThriftError or
    IndexError on garbage.
    """
    if depth > _MAX_DEPTH:
        raise ThriftError("structs are nested too deeply")
    fields: dict[int, Any] = {}
    while header := raw[at]:
        at += 1
        if delta := header >> 4:
            field += delta
        else:
            field, at = _read_zigzag(raw, at)
        if field == stop:
            return fields, at
        fields[field], at = _read_value(raw, at, header & 15, depth)
    if stop is not None:
        raise ThriftError(f"field {stop} is missing")
    return fields, at + 1


def read_list_header(raw: bytes, at: int) -> tuple[int, int, int]:
    """Number of elements, their wire type, and the position of the first."""
    header = raw[at]
    count = header >> 4
    at += 1
    if count == 15:
        count, at = _read_varint(raw, at)
    if count > len(raw):
        raise ThriftError("a list is longer than the footer")
    return count, header & 15, at


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := raw[at]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise ThriftError("an integer is longer than 64 bits")
    return value | byte << shift, at + 1


def _read_zigzag(raw: bytes, at: int) -> tuple[int, int]:
    value, at = _read_varint(raw, at)
    return value >> 1 ^ -(value & 1), at


def _read_value(raw: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind in (I16, I32, I64):
        return _read_zigzag(raw, at)
    if kind == BINARY:
        size, at = _read_varint(raw, at)
        if at + size > len(raw):
            raise ThriftError("a string ends behind the footer")
        return raw[at : at + size], at + size
    if kind == STRUCT:
        return read_struct(raw, at, depth=depth + 1)
    if kind in (LIST, SET):
        count, element, at = read_list_header(raw, at)
        values = []
        for _ in range(count):
            value, at = (
                (raw[at] == TRUE, at + 1) if element in (TRUE, FALSE) else _read_value(raw, at, element, depth + 1)
            )
            values.append(value)
        return values, at
    if kind == BYTE:
        return raw[at], at + 1
    if kind == DOUBLE:
        return raw[at : at + 8], at + 8
    raise ThriftError(f"wire type {kind} has no place in a Parquet footer")


def varint(buffer: Buffer, at: Positions) -> tuple[NDArray[np.uint64], Positions]:
    """The unsigned integer at each lane and the position behind it."""
    byte = buffer[at]
    value = (byte & 0x7F).astype(np.uint64)
    more = byte >= 0x80
    at = at + 1
    shift = 7
    while shift < 70 and more.any():
        byte = np.where(more, buffer[at], 0)
        value |= (byte & 0x7F).astype(np.uint64) << np.uint64(min(shift, 63))
        at += more
        more = byte >= 0x80
        shift += 7
    return value, np.where(more, _dead(buffer), _clip(buffer, at))


def zigzag(buffer: Buffer, at: Positions) -> NDArray[np.int64]:
    """The signed integer at each lane."""
    value, _ = varint(buffer, at)
    return (value >> np.uint64(1)).view(np.int64) ^ -(value & np.uint64(1)).view(np.int64)


def scan(
    buffer: Buffer,
    at: Positions,
    field: int = 0,
    *,
    found: Mapping[Field, Positions] | None = None,
    until: Field | None = None,
    depth: int = 0,
) -> Positions:
    """Walk one struct per lane and return the positions behind it, or, with `until`, of the value of that field.

    `at` [n] are positions inside the struct behind field number `field`; `found[wanted]` [n] receives the position of
    each wanted field's value where the lane has it.
    """
    end = np.full(len(at), _dead(buffer))
    if depth > _MAX_DEPTH:
        return end
    lanes = np.arange(len(at))
    ids = np.full(len(at), field)
    for _ in range(_MAX_FIELDS):
        header = buffer[at]
        stopped = header == 0
        if stopped.any():
            if until is None:
                end[lanes[stopped]] = at[stopped] + 1
            lanes, at, ids, header = _keep(~stopped, lanes, at, ids, header)
        if not len(lanes):
            break
        kind = header & 15
        ids, at = _field_ids(buffer, at, ids, header)
        for wanted, positions in (found or {}).items():
            hit = (ids == wanted[0]) & (kind == wanted[1])
            positions[lanes[hit]] = at[hit]
        if until is not None and (hit := (ids == until[0]) & (kind == until[1])).any():
            end[lanes[hit]] = at[hit]
            lanes, at, ids, kind = _keep(~hit, lanes, at, ids, kind)
        at = _skip_mixed(buffer, at, kind, depth)
    return _clip(buffer, end)


def _dead(buffer: Buffer) -> int:
    return len(buffer) - PADDING


def _clip(buffer: Buffer, at: Positions) -> Positions:
    clipped: Positions = np.minimum(at, _dead(buffer))
    return clipped


def _keep(mask: NDArray[np.bool_], *arrays: NDArray[Any]) -> list[NDArray[Any]]:
    return [array[mask] for array in arrays]


def _field_ids(buffer: Buffer, at: Positions, ids: Positions, header: Buffer) -> tuple[Positions, Positions]:
    delta = header >> 4
    at = at + 1
    ids = ids + delta
    if (long := delta == 0).any():
        ids[long] = zigzag(buffer, at[long])
        at[long] = varint(buffer, at[long])[1]
    return ids, _clip(buffer, at)


def _skip_mixed(buffer: Buffer, at: Positions, kind: NDArray[Any], depth: int) -> Positions:
    kinds = np.flatnonzero(np.bincount(kind, minlength=16))
    if len(kinds) == 1:
        return _skip(buffer, at, int(kinds[0]), depth)
    at = at.copy()
    for each in kinds:
        lanes = np.flatnonzero(kind == each)
        at[lanes] = _skip(buffer, at[lanes], int(each), depth)
    return at


def _skip(buffer: Buffer, at: Positions, kind: int, depth: int) -> Positions:
    """Positions behind one value of `kind` per lane."""
    dead = _dead(buffer)
    if kind in (TRUE, FALSE):
        return at
    if kind in (I16, I32, I64):
        return _skip_varint(buffer, at)
    if kind == BINARY:
        size, at = varint(buffer, at)
        return _clip(buffer, at + np.minimum(size, np.uint64(dead)).astype(np.int64))
    if kind == STRUCT:
        return scan(buffer, at, depth=depth + 1)
    if kind in (LIST, SET):
        return _skip_list(buffer, at, depth)
    if kind in (BYTE, DOUBLE):
        return _clip(buffer, at + (1 if kind == BYTE else 8))
    return np.full(len(at), dead)


def _skip_varint(buffer: Buffer, at: Positions) -> Positions:
    at = at.copy()
    for _ in range(10):
        more = buffer[at] >= 0x80
        if not more.any():
            return _clip(buffer, at + 1)
        at += more
    return np.full(len(at), _dead(buffer))


def _skip_list(buffer: Buffer, at: Positions, depth: int) -> Positions:
    header = buffer[at]
    count = (header >> 4).astype(np.int64)
    kind = header & 15
    at = at + 1
    if (long := count == 15).any():
        size, at[long] = varint(buffer, at[long])
        count[long] = np.minimum(size, np.uint64(_MAX_ELEMENTS + 1)).astype(np.int64)
    at = np.where(count > _MAX_ELEMENTS, _dead(buffer), _clip(buffer, at))
    kind = np.where(
        (kind == TRUE) | (kind == FALSE), BYTE, kind
    )  # a list element takes a byte, a field's boolean sits in its header
    lanes = np.flatnonzero((count > 0) & (at < _dead(buffer)))
    step = 0
    while len(lanes):
        at[lanes] = _skip_mixed(buffer, at[lanes], kind[lanes], depth + 1)
        step += 1
        lanes = lanes[(count[lanes] > step) & (at[lanes] < _dead(buffer))]
    return at
