"""Zone maps: what the footers of many Parquet files say about the model inputs of each row group.

Unknown is a value: a statistic that is missing, deprecated, out of order or not a value of its type is not used, and
`reason` says so. No file can make `read_footers` raise unless `strict` is set.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from skipml.errors import FooterError
from skipml.identity import FileIdentity, is_settled, listed_identity
from skipml.parquet.footer import FileColumn, Footer, read_files
from skipml.parquet.texts import TextLimits
from skipml.parquet.types import INTEGER_TYPES
from skipml.recent import Recent
from skipml.stores import RemoteFile

Scalar = TypeVar("Scalar", bound=np.generic)

_CACHED_ROW_GROUPS = 1_000_000


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """One column over N row groups, arrays [N].

    `sql_type` is the type DuckDB gives the column in the first file that has it ('' if none has, or the files
    disagree). A reader that gives the column another type may change its values: compare before use.
    """

    sql_type: str
    lower: NDArray[np.float64]
    """Model inputs rounded outward; -inf where unknown or all NULL."""
    upper: NDArray[np.float64]
    """Model inputs rounded outward; inf where unknown or all NULL."""
    known: NDArray[np.bool_]
    """Every value that is neither NULL nor NaN lies in [lower, upper]."""
    all_null: NDArray[np.bool_]
    """Every row is NULL here (also where there are no rows)."""
    null_count: NDArray[np.int64]
    """-1 where it is not known."""
    may_be_nan: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    """The file has no such column; with union_by_name every row is NULL, otherwise the query fails."""
    reason: NDArray[np.object_]
    """Why the column is unknown or may be NaN, in a few words; '' where nothing is missing."""
    text: TextLimits | None = None
    """Limits of a column of text, which is unknown otherwise."""

    def divided(self, group: NDArray[np.int64]) -> ColumnStats:
        """What holds for parts of row groups [M]."""
        taken = {f.name: getattr(self, f.name)[group] for f in fields(self) if f.name not in ("sql_type", "text")}
        taken["text"] = None if self.text is None else self.text.take(group)
        return ColumnStats(self.sql_type, **{**taken, "null_count": np.where(taken["null_count"] == 0, 0, -1)})

    def merged(self, starts: NDArray[np.int64]) -> ColumnStats:
        """What holds for runs of row groups; a row group of nothing but NULL has no limits to count in."""
        counted = (self.null_count >= 0).all()
        null_count = np.add.reduceat(self.null_count, starts) if counted else np.full(len(starts), -1)
        lower = np.minimum.reduceat(np.where(self.all_null, np.inf, self.lower), starts)
        upper = np.maximum.reduceat(np.where(self.all_null, -np.inf, self.upper), starts)
        all_null = np.logical_and.reduceat(self.all_null, starts)
        return ColumnStats(
            sql_type=self.sql_type,
            lower=np.where(all_null, -np.inf, lower),
            upper=np.where(all_null, np.inf, upper),
            known=np.logical_and.reduceat(self.known | self.all_null, starts),
            all_null=all_null,
            null_count=null_count,
            may_be_nan=np.logical_or.reduceat(self.may_be_nan, starts),
            missing=np.logical_and.reduceat(self.missing, starts),
            reason=self.reason[starts],
            text=None if self.text is None else self.text.merged(starts, self.all_null),
        )


@dataclass(frozen=True, slots=True)
class Footers:
    """The row groups of the files, in order: arrays [N] and one ColumnStats per wanted column, by the name it was asked
    for.
    """

    files: tuple[str, ...]
    identities: tuple[FileIdentity | None, ...]
    """None for a file that could not be opened or read."""
    errors: tuple[str, ...]
    """Per file why it has no row groups here, '' if it was read."""
    file_index: NDArray[np.int64]
    row_group: NDArray[np.int64]
    """Number within its file."""
    first_row: NDArray[np.int64]
    """Number within its file of the first row."""
    n_rows: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    """Compressed size of all columns."""
    columns: Mapping[str, ColumnStats]

    def __len__(self) -> int:
        return len(self.n_rows)

    @property
    def n_row_groups(self) -> int:
        """How many row groups the blocks make up."""
        return int(
            np.count_nonzero((np.diff(self.file_index, prepend=-1) != 0) | (np.diff(self.row_group, prepend=-1) != 0))
        )

    def of_file(self, file: int) -> slice:
        """The blocks of a file, by its number."""
        return slice(*np.searchsorted(self.file_index, (file, file + 1)).tolist())

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why something is unknown, each reason once with the column and how many row groups it concerns."""
        found = [message for message in self.errors if message]
        for name, stats in self.columns.items():
            if stats.text is not None:  # text that goes into a pipeline has limits of its own
                continue
            counts = Counter(stats.reason.tolist())
            found += [f"column {name}: {text} ({count} row groups)" for text, count in sorted(counts.items()) if text]
        return tuple(found)

    @property
    def texts_told(self) -> tuple[str, ...]:
        """Of which columns of text, and of how many blocks, it is known which texts occur."""
        sets = {name: stats.text.sets for name, stats in self.columns.items() if stats.text is not None}
        counts = {name: sum(each is not None for each in of.tolist()) for name, of in sets.items() if of is not None}
        return tuple(f"column {name}: which texts occur is known ({n} blocks)" for name, n in counts.items() if n)

    def divided(self, group: NDArray[np.int64], n_rows: NDArray[np.int64]) -> Footers:
        """Blocks in place of the row groups: the row group [M] here that each is a run of, in order, and rows [M].

        What holds for a row group holds for each of its blocks, but for the count of NULLs.
        """
        first = np.diff(group, prepend=-1) > 0
        before = np.cumsum(n_rows) - n_rows
        return replace(
            self,
            file_index=self.file_index[group],
            row_group=self.row_group[group],
            first_row=self.first_row[group] + before - np.maximum.accumulate(np.where(first, before, 0)),
            n_rows=n_rows,
            n_bytes=np.where(first, self.n_bytes[group], 0),
            columns={name: stats.divided(group) for name, stats in self.columns.items()},
        )

    def per_file(self) -> Footers:
        """One block for each file that has row groups, with what holds for all of them."""
        starts = np.flatnonzero(np.diff(self.file_index, prepend=-1))
        return replace(
            self,
            file_index=self.file_index[starts],
            row_group=self.row_group[starts],
            first_row=self.first_row[starts],
            n_rows=np.add.reduceat(self.n_rows, starts),
            n_bytes=np.add.reduceat(self.n_bytes, starts),
            columns={name: stats.merged(starts) for name, stats in self.columns.items()},
        )


def read_footers(files: Sequence[str], columns: Sequence[str], *, strict: bool = False) -> Footers:
    """Read the zone maps of the columns from the files' footers, many files at once.

    Column names are resolved as DuckDB does it; one that is missing or cannot be a model input is unknown. A file that
    cannot be read is recorded in `errors`; with `strict` it raises FooterError. Footers of files that did not change
    are remembered.
    """
    wanted = tuple(dict.fromkeys(columns))
    footers = _load(files, wanted)
    ordered = tuple(footers[file] for file in files)
    if strict and (message := next((footer.error for footer in ordered if footer.error), "")):
        raise FooterError(message)
    if any(isinstance(file, RemoteFile) for file in files):  # each plan has its own, which count what they take
        return together(files, wanted, ordered)
    key = (tuple(files), wanted)
    held = _joined_cache.get(key)
    if held is None or any(a is not b for a, b in zip(held.parts, ordered, strict=True)):
        held = _Joined(ordered, together(files, wanted, ordered))
        _joined_cache.put(key, held)
    return held.footers


def together(files: Sequence[str], wanted: tuple[str, ...], ordered: Sequence[Footer]) -> Footers:
    """The footers of files behind each other."""
    sizes = np.array([len(footer.n_rows) for footer in ordered], dtype=np.int64)
    return Footers(
        files=tuple(files),
        identities=tuple(footer.identity for footer in ordered),
        errors=tuple(footer.error for footer in ordered),
        file_index=np.repeat(np.arange(len(ordered)), sizes),
        row_group=_concatenate((np.arange(size) for size in sizes), np.int64),
        first_row=_concatenate((np.cumsum(footer.n_rows) - footer.n_rows for footer in ordered), np.int64),
        n_rows=_concatenate((footer.n_rows for footer in ordered), np.int64),
        n_bytes=_concatenate((footer.n_bytes for footer in ordered), np.int64),
        columns={name: _join([footer.columns[name] for footer in ordered if not footer.error]) for name in wanted},
    )


def common_type(types: Sequence[str]) -> str | None:
    """The type of a column to which files give these different types, '' if there are none; None where a reader may
    have to reconcile them by rounding.
    """
    if len(types) > 1 and not INTEGER_TYPES.issuperset(types):
        return None
    return types[0] if types else ""


def _join(parts: Sequence[FileColumn]) -> ColumnStats:
    """One column over all files; where the files give it types that a reader may have to reconcile by rounding, nothing
    is known.
    """
    types = list(dict.fromkeys(part.sql_type for part in parts if not part.missing))
    sizes = [len(part.known) for part in parts]
    n = sum(sizes)
    agree = (sql_type := common_type(types)) is not None
    reason = _concatenate((part.reason for part in parts), np.object_)
    missing = np.repeat(np.array([part.missing for part in parts], dtype=bool), sizes)
    if not agree:
        reason = np.where(missing, reason, f"files disagree on the type: {', '.join(filter(None, types))}").astype(
            object
        )
    return ColumnStats(
        sql_type=sql_type or "",
        lower=_concatenate((part.lower for part in parts), np.float64) if agree else np.full(n, -np.inf),
        upper=_concatenate((part.upper for part in parts), np.float64) if agree else np.full(n, np.inf),
        known=_concatenate((part.known for part in parts), np.bool_) if agree else np.zeros(n, dtype=bool),
        all_null=_concatenate((part.all_null for part in parts), np.bool_),
        null_count=_concatenate((part.null_count for part in parts), np.int64),
        may_be_nan=_concatenate((part.may_be_nan for part in parts), np.bool_) if agree else np.ones(n, dtype=bool),
        missing=missing,
        reason=reason,
        text=_joined_text(parts) if agree and types == ["VARCHAR"] else None,
    )


def _joined_text(parts: Sequence[FileColumn]) -> TextLimits:
    """Those of all files; a file without the column has no text."""
    return TextLimits.joined(
        [TextLimits.unknown(len(part.known)) if part.text is None else part.text for part in parts]
    )


def _concatenate(arrays: Iterable[NDArray[Scalar]], dtype: type[Scalar]) -> NDArray[Scalar]:
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays])


def _joined(old: Footer | None, footer: Footer) -> Footer:
    """A footer together with what is held of other columns in the same state of the file."""
    if old is None or old.identity != footer.identity:
        return footer
    return Footer(footer.identity, footer.n_rows, footer.n_bytes, {**old.columns, **footer.columns})


def _size(footer: Footer) -> int:
    return 1 + len(footer.n_rows) * (1 + len(footer.columns))


_cache: Recent[str, Footer] = Recent(_CACHED_ROW_GROUPS, _size)
"""Footers by absolute path."""


@dataclass(frozen=True, slots=True, eq=False)
class _Joined:
    """The footers of some files together, as long as each is the same object."""

    parts: tuple[Footer, ...]
    footers: Footers


_joined_cache: Recent[tuple[tuple[str, ...], tuple[str, ...]], _Joined] = Recent(
    _CACHED_ROW_GROUPS, lambda held: 1 + len(held.footers) * (1 + len(held.footers.columns))
)


def _key(file: str) -> str:
    return str(file) if isinstance(file, RemoteFile) else os.path.abspath(file)


def _load(files: Sequence[str], columns: Sequence[str]) -> dict[str, Footer]:
    footers: dict[str, Footer] = {}
    for file in dict.fromkeys(files):
        if (footer := _remembered(file, columns)) is not None:
            footers[file] = footer
    unread = [file for file in dict.fromkeys(files) if file not in footers]
    for file, footer in zip(unread, read_files(unread, columns) if unread else (), strict=True):
        footers[file] = footer
        if footer.identity is not None and is_settled(footer.identity.written_ns, time.time_ns()):
            remember(file, footer)
    return footers


def remember(file: str, footer: Footer) -> None:
    """Take a footer for that of a file, as long as the file is in the state that the footer names."""
    _cache.change(_key(file), partial(_joined, footer=footer))


def is_remembered(file: str, columns: Sequence[str]) -> bool:
    """Whether the file need not be read."""
    return _remembered(file, columns) is not None


def _remembered(file: str, columns: Sequence[str]) -> Footer | None:
    """A footer that is held, of the file as it is and with these columns."""
    try:
        state = listed_identity(file)
    except (OSError, ValueError):
        return None
    footer = _cache.get(_key(file))
    if footer is None or footer.identity != state or not footer.columns.keys() >= set(columns):
        return None
    return footer
