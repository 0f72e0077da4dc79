"""One Parquet file that holds what the footers and sidecars of a table's many files say.

An entry is used only for a file, and a sidecar, in the state that it was made of; every other file's footer is read.
What is damaged or of another version is as if it were not there. Entries are made of settled files only: one written a
moment ago may be written again without a later time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.errors import EnrichmentError, FooterError, MetadataError
from skipml.identity import FileIdentity, Path, expand, is_settled
from skipml.lake.buffers import indices, numbers
from skipml.lake.cache_file import CacheFile, write_cache
from skipml.lake.entries import FILE, Entry, fold, table_of
from skipml.metadata.loading import Loaded, States, load, states
from skipml.metadata.refine import fits
from skipml.parquet.footer import Footer, read_files

_FILES_PER_GROUP = 1024
_WORTH_WRITING = 100
"""A cache is written when more than one of so many files is not in it."""
_READER = f"DuckDB {duckdb.__version__.partition('.')[0]}"
"""Which types columns have depends on it."""

Indices = NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Called with how many of how many files were read."""


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What a cache holds now: how many of its files were `read` for it, and how many files could not be read or were
    written just now, and are `left_out`.
    """

    path: str
    files: int
    row_groups: int
    read: int
    left_out: int
    columns: tuple[str, ...]
    bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.files:,} files with {self.row_groups:,} row groups and {len(self.columns)} columns, "
            f"{self.bytes:,} bytes; {self.read:,} files read in {self.seconds:.1f} s"
            + (f"; {self.left_out:,} left out (not readable, or written just now)" if self.left_out else "")
        )


@dataclass(slots=True, eq=False)
class Known:
    """The entries of some files: each in the cache, among those that were read (`fresh`), or, where the file cannot be
    read, nowhere; -1 where it is not.
    """

    files: Sequence[str]
    states: list[States | None]
    cached: CacheFile | None
    in_cache: Indices
    in_fresh: Indices
    fresh: list[pa.Table] = field(default_factory=list)
    settled: list[NDArray[np.bool_]] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def has_entry(self) -> NDArray[np.bool_]:
        """Whether a file has one, per file."""
        return (self.in_cache >= 0) | (self.in_fresh >= 0)

    def read(self, names: Sequence[str], files: Indices) -> pa.Table:
        """Some columns of the entries of some files, each of which has one; raises MetadataError for damage."""
        fresh = pa.concat_tables(self.fresh).select(names) if self.fresh else None
        parts, numbers = [], []
        for source, rows in ((self.cached, self.in_cache[files]), (fresh, self.in_fresh[files])):
            mine = np.flatnonzero(rows >= 0)
            if source is None or not len(mine):
                continue
            chosen, back = np.unique(rows[mine], return_inverse=True)
            table = source.read(names, chosen) if isinstance(source, CacheFile) else source.take(indices(chosen))
            parts.append(table if np.array_equal(back, np.arange(len(chosen))) else table.take(indices(back)))
            numbers.append(mine)
        if not parts:
            return table_of([], [name.partition(":")[2] for name in names if ":" in name]).select(names)
        whole = pa.concat_tables(parts)
        return whole if len(parts) == 1 else whole.take(indices(np.argsort(np.concatenate(numbers))))

    def identities(self, files: Indices) -> list[FileIdentity | None]:
        """The states of some files."""
        found = [self.states[i] for i in files.tolist()]
        return [None if state is None else state[0] for state in found]


def current(files: Sequence[str], root: Path | None) -> list[States | None]:
    """The state of each file and of its sidecar now, None for a file that is not there."""
    return [_state(file, root) for file in files]


def look_up(
    files: Sequence[str], now: list[States | None], columns: Sequence[str], path: str, root: Path | None
) -> Known:
    """The entries of files that are in these states. A cache that lacks more than one of a hundred of them, or a
    column, is written again; where that fails a note says so. Raises MetadataError where the cache is damaged in a way
    that is seen only now.
    """
    wanted = tuple(dict.fromkeys(map(fold, columns)))
    opened, note = _opened(path)
    known = _matched(files, now, opened, wanted)
    known.notes += [note] if note else []
    if opened is not None:
        wanted = tuple(dict.fromkeys([*opened.about["columns"], *wanted]))
    missing = np.flatnonzero(known.in_cache < 0)
    _read(known, missing, wanted, root)
    if len(missing) * _WORTH_WRITING > len(files):
        try:
            _write(path, known, wanted, root, others=True)
        except OSError as error:
            known.notes.append(f"the metadata cache '{path}' cannot be written: {error.strerror or error}")
    return known


def held_entries(files: Sequence[str], now: list[States | None], columns: Sequence[str], path: Path) -> Known:
    """The entries of files that a cache has and that hold; raises MetadataError where it is damaged."""
    opened, _ = _opened(os.fspath(path))
    return _matched(files, now, opened, tuple(dict.fromkeys(map(fold, columns))))


def read_anew(files: Sequence[str], now: list[States | None], columns: Sequence[str], root: Path | None) -> Known:
    """The entries of files, all read from their footers."""
    known = _matched(files, now, None, ())
    _read(known, np.arange(len(files)), tuple(dict.fromkeys(map(fold, columns))), root)
    return known


def build_cache(
    paths: Path | Sequence[Path],
    cache: Path,
    columns: Sequence[str] | None = None,
    *,
    root: Path | None = None,
    progress: Progress | None = None,
) -> CacheReport:
    """Write what the footers and sidecars of the files say into one Parquet file, for `plan(..., cache=)` and
    `connect(metadata_cache=)`; entries that are up to date are taken over, those of other files are left out.

    `columns` are those that plans will ask for, by default all of the first file. Sidecars are looked for below `root`
    if it is given. Raises FooterError where a path matches no file, EnrichmentError where the cache cannot be written.
    """
    started = time.perf_counter()
    files = list(dict.fromkeys(expand(paths)))
    path, wanted = os.fspath(cache), tuple(dict.fromkeys(map(fold, columns or _all_columns(files))))
    opened, _ = _opened(path)
    known = _matched(files, current(files, root), opened, wanted, exactly=True)
    missing = np.flatnonzero(known.in_cache < 0)
    _read(known, missing, wanted, root, progress)
    try:
        _write(path, known, wanted, root, others=False)
    except (OSError, MetadataError) as error:
        why = getattr(error, "strerror", None) or error
        raise EnrichmentError(f"the metadata cache '{path}' cannot be written: {why}; its old state stays") from error
    written = CacheFile(path)
    groups = written.read(["n_groups"], np.arange(len(written))).column(0)
    return CacheReport(
        path=path,
        files=len(written),
        row_groups=int(numbers(groups).sum()),
        read=len(missing),
        left_out=len(files) - len(written),
        columns=wanted,
        bytes=os.path.getsize(path),
        seconds=time.perf_counter() - started,
    )


def inspect_cache(path: Path) -> dict[str, Any]:
    """What a cache holds, and for how many of its files that is what they hold; raises MetadataError where it is
    damaged or of another version.
    """
    cache = CacheFile(os.fspath(path))
    table = cache.read([*FILE, "n_rows", "n_groups", "metadata"], np.arange(len(cache)))
    files = table.column("path").to_pylist()
    known = _matched(files, current(files, cache.about["root"]), cache, ())
    return {
        "file": os.fspath(path),
        "files": len(cache),
        "up_to_date": int((known.in_cache >= 0).sum()),
        "row_groups": int(numbers(table.column("n_groups")).sum()),
        "rows": int(numbers(table.column("n_rows")).sum()),
        "enriched": len(cache) - table.column("metadata").null_count,
        "columns": list(cache.about["columns"]),
        "bytes": os.path.getsize(path),
    }


def _state(file: str, root: Path | None) -> States | None:
    try:
        return states(file, root)
    except (OSError, ValueError):
        return None


def _opened(path: str) -> tuple[CacheFile | None, str]:
    """The cache, or None and why it is of no use: '' where there is none."""
    if not os.path.exists(path):
        return None, ""
    try:
        cache = CacheFile(path)
    except MetadataError as error:
        return None, str(error)
    return (cache, "") if cache.about["reader"] == _READER else (None, "")


def _matched(
    files: Sequence[str],
    now: list[States | None],
    cache: CacheFile | None,
    columns: Sequence[str],
    *,
    exactly: bool = False,
) -> Known:
    """The files of which a cache has an entry that holds and has the columns, and `exactly` those."""
    none = np.full(len(files), -1, np.int64)
    known = Known(files, now, cache, none, none.copy())
    held = set(cache.about["columns"]) if cache is not None else set()
    if cache is None or not (held == set(columns) if exactly else held >= set(columns)):
        return known
    table = cache.read(FILE, np.arange(len(cache)))
    rows = {entry: i for i, entry in enumerate(zip(*(table.column(name).to_pylist() for name in FILE), strict=True))}
    for i, (file, state) in enumerate(zip(files, now, strict=True)):
        if state is not None:
            known.in_cache[i] = rows.get((_key(file), *_texts(state)), -1)
    return known


def _key(file: str) -> str:
    return file if "://" in file else os.path.abspath(file)


def _texts(state: States) -> tuple[str, str]:
    """States as text: an identity may be of any kind whose `repr` tells all of it."""
    return repr(state[0]), "" if state[1] is None else repr(state[1])


def _read(
    known: Known, missing: Indices, columns: tuple[str, ...], root: Path | None, progress: Progress | None = None
) -> None:
    """Add the entries of files that have none."""
    count = 0
    for start in range(0, len(missing), _FILES_PER_GROUP):
        numbers = missing[start : start + _FILES_PER_GROUP].tolist()
        began = time.time_ns()
        footers = read_files([known.files[i] for i in numbers], columns)
        entries, settled = [], []
        for i, footer in zip(numbers, footers, strict=True):
            if footer.error:
                known.errors[i] = footer.error
                continue
            loaded = _loaded(load(known.files[i], root), footer)
            before = known.states[i]
            entries.append(
                Entry(_key(known.files[i]), *(("", "") if before is None else _texts(before)), footer, loaded)
            )
            settled.append(_is_settled(before, footer, loaded, began))
            known.states[i] = _state_of(footer, before)
            known.in_fresh[i] = count
            count += 1
        known.fresh.append(table_of(entries, columns))
        known.settled.append(np.array(settled, np.bool_))
        if progress is not None:
            progress(start + len(numbers), len(missing))


def _state_of(footer: Footer, before: States | None) -> States | None:
    return None if footer.identity is None else (footer.identity, None if before is None else before[1])


def _loaded(loaded: Loaded, footer: Footer) -> Loaded:
    """Metadata that fits the footer, else none."""
    metadata = loaded.metadata
    if metadata is None or (loaded.identity == footer.identity and fits(metadata, footer.n_rows)):
        return loaded
    return replace(loaded, metadata=None, reason="metadata is of another state of its file, or of other row groups")


def _is_settled(before: States | None, footer: Footer, loaded: Loaded, now_ns: int) -> bool:
    """Whether an entry may be kept: nothing changed while it was made, nor can it have just before."""
    if before is None or footer.identity != before[0] or loaded.identity != before[0]:
        return False
    return all(state is None or is_settled(state.written_ns, now_ns) for state in before)


def _write(path: str, known: Known, columns: tuple[str, ...], root: Path | None, *, others: bool) -> None:
    """Write the entries of the files, and those that the cache has of `others`; raises OSError and MetadataError."""
    tables = _tables(known, columns, others)
    about = {
        "columns": columns,
        "reader": _READER,
        "root": None if root is None else os.path.abspath(root),
    }
    mode = next((os.stat(file).st_mode & 0o666 for file in known.files if os.path.exists(file)), 0o644)
    write_cache(path, tables, about, mode)


def _tables(known: Known, columns: tuple[str, ...], others: bool) -> Iterator[pa.Table]:
    """What is to be written, in pieces of the size of row groups."""
    names = table_of([], columns).schema.names
    yield table_of([], columns)
    cache = known.cached
    if cache is not None and set(cache.about["columns"]) == set(columns):
        kept = np.zeros(len(cache), np.bool_)
        kept[known.in_cache[known.in_cache >= 0]] = True
        if others:
            mine = set(map(_key, known.files))
            paths = cache.read(["path"], np.arange(len(cache))).column(0).to_pylist()
            kept |= np.array([path not in mine for path in paths], np.bool_)
        yield from _pieces(np.flatnonzero(kept), partial(cache.read, names))
    if known.fresh:
        fresh = pa.concat_tables(known.fresh).select(names)
        settled = np.flatnonzero(np.concatenate(known.settled))
        yield from _pieces(settled, lambda rows: fresh.take(indices(rows)))


def _pieces(rows: Indices, read: Callable[[Indices], pa.Table]) -> Iterator[pa.Table]:
    for start in range(0, len(rows), _FILES_PER_GROUP):
        yield read(rows[start : start + _FILES_PER_GROUP])


def _all_columns(files: Sequence[str]) -> list[str]:
    """The columns at the top of the first file's schema that are not nested."""
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(files[0])
    except (pa.ArrowException, OSError) as error:
        raise FooterError(f"'{files[0]}' cannot be read: {error}; name the columns") from error
    return [field.name for field in schema if not pa.types.is_nested(field.type)]
