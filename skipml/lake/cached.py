"""The files of a table with what a metadata cache knows of each as a whole, and of the row groups of some."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from skipml.errors import MetadataError
from skipml.footers import ColumnStats, Footers, together
from skipml.identity import Path
from skipml.lake.buffers import numbers
from skipml.lake.cache import Known, current, look_up, read_anew
from skipml.lake.entries import footers_of, group_names, loaded_of, whole_names, whole_stats
from skipml.lake.listing import Listing, unknown_stats
from skipml.metadata.contents import Metadata
from skipml.metadata.loading import Loaded, States
from skipml.metadata.refine import Refined, level, refine_loaded
from skipml.parquet.footer import Footer
from skipml.recent import Recent

Indices = NDArray[np.int64]

_HELD_FILES = 100_000


def listed(files: Sequence[str], columns: Sequence[str], path: Path, root: Path | None = None) -> Listing:
    """The files with what is known of each as a whole, out of a cache as far as it holds, which is kept up to date (see
    `cache.look_up`).
    """
    now, wanted = current(files, root), tuple(dict.fromkeys(columns))
    key = (os.path.abspath(path), tuple(files), wanted, None if root is None else os.fspath(root))
    held = _held.get(key)
    if held is not None and held.states == now:
        return held.listing
    try:
        known = look_up(files, list(now), wanted, os.fspath(path), root)
        listing = _listing(known, wanted, root)
    except MetadataError as error:  # damage is seen when what is damaged is read
        known = read_anew(files, list(now), wanted, root)
        listing = _listing(known, wanted, root)
        listing = replace(listing, notes=(str(error), *listing.notes))
    if all(settled.all() for settled in known.settled):
        _held.put(key, _Held(now, listing))
    return listing


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """What the files in some states were found to be."""

    states: list[States | None]
    listing: Listing


_held: Recent[tuple[str, tuple[str, ...], tuple[str, ...], str | None], _Held] = Recent(
    _HELD_FILES, lambda held: len(held.states)
)


def forget() -> None:
    """Begin as a new process does."""
    _held.clear()


def _listing(known: Known, columns: tuple[str, ...], root: Path | None) -> Listing:
    has_entry = np.flatnonzero(known.has_entry)
    table = known.read(whole_names(columns), has_entry)
    n_groups = numbers(table.column("n_groups"))
    some = np.flatnonzero(n_groups)
    files = has_entry[some]
    footers = Footers(
        files=tuple(known.files),
        identities=tuple(known.identities(np.arange(len(known.files)))),
        errors=tuple(known.errors.get(i, "") for i in range(len(known.files))),
        file_index=files,
        row_group=np.zeros(len(files), np.int64),
        first_row=np.zeros(len(files), np.int64),
        n_rows=numbers(table.column("n_rows"))[some],
        n_bytes=numbers(table.column("n_bytes"))[some],
        columns={name: whole_stats(table, name, some) for name in columns},
    )
    loaded = loaded_of(table, "whole", known.identities(has_entry))
    found: list[Metadata | None] = [None] * len(known.files)
    for i in some.tolist():
        found[has_entry[i]] = loaded[i].metadata
    whole = level(footers, found)
    is_empty = np.zeros(len(known.files), np.bool_)
    is_empty[has_entry[n_groups == 0]] = True
    narrow = partial(_narrowed, known, whole.footers, root)
    return Listing(whole, narrow, n_groups[some], is_empty, notes=tuple(known.notes))


def _narrowed(known: Known, whole: Footers, root: Path | None, files: Indices) -> Refined:
    """The row groups of some of the files; the cache may have been found damaged meanwhile."""
    columns = tuple(whole.columns)
    paths = [known.files[i] for i in files.tolist()]
    try:
        footers, loaded = _of_row_groups(known, columns, files)
    except MetadataError:
        anew = read_anew(paths, current(paths, root), columns, root)
        footers, loaded = _of_row_groups(anew, columns, np.arange(len(files)))
    joined = together(paths, columns, footers)
    agreed = {name: _as_of_all(stats, whole.columns[name]) for name, stats in joined.columns.items()}
    return refine_loaded(replace(joined, columns=agreed), loaded)


def _of_row_groups(known: Known, columns: tuple[str, ...], files: Indices) -> tuple[list[Footer], list[Loaded]]:
    """The footers of some files, and what enrichment has stored of each."""
    chosen = files[known.has_entry[files]]
    table = known.read(group_names(columns), chosen)
    states = known.identities(chosen)
    number = {file: i for i, file in enumerate(chosen.tolist())}
    footers, loaded = footers_of(table, columns, states), loaded_of(table, "metadata", states)
    none = np.zeros(0, np.int64)
    broken = [Footer(None, none, none, {}, known.errors.get(i, "")) for i in files.tolist()]
    return (
        [footers[number[i]] if i in number else broken[k] for k, i in enumerate(files.tolist())],
        [loaded[number[i]] if i in number else Loaded(None, "", None) for i in files.tolist()],
    )


def _as_of_all(stats: ColumnStats, whole: ColumnStats) -> ColumnStats:
    """A column of some files as it is among all files, which a reader may give one type."""
    if whole.sql_type or whole.missing.all():
        return replace(stats, sql_type=whole.sql_type)
    unknown = unknown_stats(len(stats.known))
    reason = np.where(stats.missing, stats.reason, "files disagree on the type").astype(object)
    return replace(unknown, all_null=stats.all_null, null_count=stats.null_count, missing=stats.missing, reason=reason)
