"""Universal Binary JSON (draft 12) as XGBoost writes it, read as plain values and numpy arrays."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from skipml.errors import ModelError

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_CONSTANTS: dict[bytes, Any] = {b"Z": None, b"T": True, b"F": False}
_DEEPEST = 64


def read_ubjson(data: bytes) -> Any:
    """The value that the bytes hold; arrays of one number type as numpy arrays. Raises ModelError where they make no
    sense.
    """
    reader = _Reader(data)
    try:
        value = reader.value(reader.take(1), 0)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"is no UBJSON: {error}; is the file damaged?") from error
    if reader.at != len(data):
        raise ModelError("has bytes behind its end; is the file damaged?")
    return value


class _Reader:
    """A place in the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if not 0 <= n <= len(self._data) - self.at:
            raise ValueError("it ends too early")
        self.at += n
        return self._data[self.at - n : self.at]

    def value(self, marker: bytes, depth: int) -> Any:
        """The value behind a marker."""
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in _NUMBERS:
            return self._numbers(marker, 1)[0].item()
        readers: dict[bytes, Callable[[], Any]] = {
            b"S": self._text,
            b"C": lambda: self.take(1).decode("ascii"),
            b"[": lambda: self._array(depth),
            b"{": lambda: self._object(depth),
        }
        if marker not in readers:
            raise ValueError(f"there is no type {marker!r}")
        return readers[marker]()

    def _numbers(self, marker: bytes, n: int) -> Any:
        kind = np.dtype(_NUMBERS[marker])
        return np.frombuffer(self.take(n * kind.itemsize), kind).astype(kind.newbyteorder("="))

    def _length(self) -> int:
        length = self.value(self.take(1), _DEEPEST)
        if not isinstance(length, int) or length < 0:
            raise ValueError("a length is no number")
        return length

    def _text(self) -> str:
        return self.take(self._length()).decode()

    def _header(self) -> tuple[bytes | None, int | None]:
        """The type and the number of the elements, where they are given before them."""
        kind = count = None
        if self._data[self.at : self.at + 1] == b"$":
            self.take(1)
            kind = self.take(1)
        if self._data[self.at : self.at + 1] == b"#":
            self.take(1)
            count = self._length()
        if kind is not None and count is None:
            raise ValueError("elements have a type but no number")
        return kind, count

    def _array(self, depth: int) -> Any:
        kind, count = self._header()
        if kind in _NUMBERS and count is not None:
            return self._numbers(kind, count)
        values: list[Any] = []
        while count is None or len(values) < count:
            marker = self.take(1) if kind is None else kind
            if count is None and marker == b"]":
                break
            values.append(self.value(marker, depth + 1))
        return values

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._header()
        values: dict[str, Any] = {}
        while count is None or len(values) < count:
            if count is None and self._data[self.at : self.at + 1] == b"}":
                self.take(1)
                break
            name = self._text()
            values[name] = self.value(self.take(1) if kind is None else kind, depth + 1)
        return values
