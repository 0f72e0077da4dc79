"""Row groups of virtual files in stores, read before DuckDB asks for them.

DuckDB reads a row group at a time and waits for each. What it reads of the first ones tells which columns it wants; of
the next ones the same is fetched meanwhile, more with every guess that was right. A guess that was wrong costs bytes,
never a row: what is not at hand is read when it is asked for.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skipml.identity import FileIdentity
from skipml.parquet.reading import RangedFile, RowGroup, extent, read_metadata
from skipml.stores import Range, RemoteFile

_MOST_BYTES = 1 << 26
_MOST_GROUPS = 16
_BEHIND = 16
"""Row groups before the one that is read that may still be wanted: as many as DuckDB may have threads."""
_FIRST_GROUPS = 2


@dataclass(frozen=True, slots=True)
class _Unit:
    """A row group that is left, by its place among all of them, and where its bytes begin and end."""

    place: int
    number: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Guess:
    ranges: tuple[Range, ...]
    data: Future[list[Any]]

    @property
    def n_bytes(self) -> int:
        """How much is held."""
        return sum(r.stop - r.start for r in self.ranges)


class ReadAhead:
    """The row groups that are left of the files of one plan, in order. Threads may share it."""

    def __init__(self, files: Sequence[tuple[RemoteFile, FileIdentity, Sequence[int] | None]]) -> None:
        self._metadata = {str(path): read_metadata(path) for path, _, _ in files}
        self._paths = {str(path): path for path, _, _ in files}
        self._units: dict[str, list[_Unit]] = {}
        self._order: list[tuple[str, _Unit]] = []
        for path, _, groups in files:
            metadata = self._metadata[str(path)]
            numbers = range(metadata.num_row_groups) if groups is None else groups
            units = [_unit(len(self._order) + i, number, metadata) for i, number in enumerate(numbers)]
            self._units[str(path)] = sorted(units, key=lambda unit: unit.start)
            self._order += [(str(path), unit) for unit in units]
        self._columns: set[str] = set()
        self._guesses: dict[int, _Guess] = {}
        self._next = 0
        self._many = _FIRST_GROUPS
        self._lock = threading.Lock()

    def pread(self, source: RangedFile, start: int, stop: int) -> bytes:
        """The bytes of a file between two positions; raises OSError and FileChangedError."""
        with self._lock:
            unit = self._unit(source.file, start)
            guess = None if unit is None else self._guesses.get(unit.place)
        found = None if guess is None else _taken(guess, start, stop)
        if found is not None and unit is not None:
            with self._lock:
                self._many = min(2 * self._many, _MOST_GROUPS)
                self._continue(unit)
            return found
        if unit is not None:
            with self._lock:
                self._learn(source.file, unit, start, stop)
                self._continue(unit)
        return source.pread(start, stop)

    def forget(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._guesses.clear()
            self._next = len(self._order)

    def _unit(self, file: RemoteFile, start: int) -> _Unit | None:
        """The row group that a position of a file lies in."""
        units = self._units.get(str(file), [])
        at = bisect_right([unit.start for unit in units], start) - 1
        return units[at] if at >= 0 and start < units[at].stop else None

    def _learn(self, file: RemoteFile, unit: _Unit, start: int, stop: int) -> None:
        group = self._metadata[str(file)].row_group(unit.number)
        for i in range(group.num_columns):
            begin, end = extent(group.column(i))
            if start < end and begin < stop:
                self._columns.add(group.column(i).path_in_schema)

    def _continue(self, unit: _Unit) -> None:
        """Fetch what comes after a row group that is read, and hold no longer what lies far before it."""
        order = self._order
        self._next = max(self._next, unit.place + 1)
        for place in [place for place in self._guesses if place < unit.place - _BEHIND]:
            del self._guesses[place]
        while self._next < min(unit.place + 1 + self._many, len(order)):
            if sum(guess.n_bytes for guess in self._guesses.values()) > _MOST_BYTES:
                return
            name, following = order[self._next]
            path = self._paths[name]
            wanted = RowGroup(path, following.number, tuple(sorted(self._columns)))
            ranges = tuple(wanted.ranges(self._metadata[name]))
            if ranges:
                self._guesses[following.place] = _Guess(ranges, _pool().submit(path.store.read, ranges))
            self._next += 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_GROUPS, thread_name_prefix="skipml-read-ahead")


def _unit(place: int, number: int, metadata: pq.FileMetaData) -> _Unit:
    group = metadata.row_group(number)
    extents = [extent(group.column(i)) for i in range(group.num_columns)]
    return _Unit(place, number, min(start for start, _ in extents), max(stop for _, stop in extents))


def _taken(guess: _Guess, start: int, stop: int) -> bytes | None:
    """The bytes out of what was fetched, None if they are not in it or did not come."""
    for i, wanted in enumerate(guess.ranges):
        if wanted.start <= start and stop <= wanted.stop:
            data = guess.data.result()[i]
            return None if isinstance(data, Exception) else data[start - wanted.start : stop - wanted.start]
    return None


def read_ahead(files: Sequence[tuple[str, FileIdentity, Sequence[int] | None]]) -> ReadAhead | None:
    """What reads ahead in those files that lie in stores; None where Arrow cannot say where their row groups are."""
    remote = [(path, state, groups) for path, state, groups in files if isinstance(path, RemoteFile)]
    if not remote:
        return None
    try:
        return ReadAhead(remote)
    except (OSError, ValueError, pa.ArrowException):
        return None
