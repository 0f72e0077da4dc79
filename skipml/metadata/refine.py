"""Footers made tighter by what enrichment knows of the same files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skipml.features import EXACT
from skipml.footers import ColumnStats, Footers
from skipml.identity import Path
from skipml.metadata import boxes, texts
from skipml.metadata.contents import ColumnMetadata, Metadata, TextMetadata
from skipml.metadata.enclosures import Vectors, enclosures
from skipml.metadata.evidence import Evidence, evidence
from skipml.metadata.hulls import HalfPlanes
from skipml.metadata.loading import Loaded, load_all
from skipml.metadata.merging import per_file, per_row_group
from skipml.recent import Recent

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_EXACT_TYPES = re.compile(r"BOOLEAN|FLOAT|DOUBLE|DATE|U?(TINY|SMALL|BIG)INT|U?INTEGER")
_TIMES = re.compile(r"TIME|TIMESTAMP(_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE")
_MICROSECOND = 1e-6
_ULPS = 2.0**-50
_CACHED_BYTES = 1 << 27
_BYTES_PER_BLOCK, _BYTES_PER_LIMIT = 128, 64
"""About what a block takes, and its limits of one column, here and in the regions made of it."""
_WORTH_A_LEVEL, _PER_FILE = 512, 8
"""Row groups in all and per file from which on a look at whole files may save more than it costs."""


@dataclass(frozen=True, slots=True, eq=False)
class ColumnHull:
    """Half-planes around two columns of N row groups, `normal` [N, K, 2] and `offset` [N, K], in the unit squares
    between `lower` and `upper` [N, 2]; without a constraint where nothing is known.
    """

    columns: tuple[str, str]
    lower: Floats
    upper: Floats
    normal: Floats
    offset: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ColumnBoxes:
    """M boxes [M, k] over some columns, which together hold every row of their row groups `block` [M]."""

    columns: tuple[str, ...]
    lower: Floats
    upper: Floats
    block: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Refined:
    """What footers and metadata know together of N blocks; `notes` say which metadata was ignored and why.

    The blocks are the row groups, or runs of rows inside them where metadata is finer; the footers are theirs.
    """

    footers: Footers
    hulls: tuple[ColumnHull, ...] = ()
    boxes: ColumnBoxes | None = None
    evidence: Evidence = field(default_factory=Evidence)
    notes: tuple[str, ...] = ()
    coarser: Refined | None = None
    """The same of fewer blocks that cover these: row groups, files."""
    parent: NDArray[np.int64] | None = None
    """The block of `coarser` that each block belongs to [N]."""
    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    """Those of columns of vectors, by the name that was asked for."""

    @property
    def nbytes(self) -> int:
        """About the memory that it takes."""
        arrays: list[NDArray[np.generic]] = []
        for hull in self.hulls:
            arrays += [hull.lower, hull.upper, hull.normal, hull.offset]
        # regions hold them once more
        arrays += 2 * [self.boxes.lower, self.boxes.upper, self.boxes.block] if self.boxes is not None else []
        arrays += [score.cells for score in self.evidence.scores]
        arrays += [self.evidence.witnesses.rows] if self.evidence.witnesses is not None else []
        limits = len(self.footers) * (_BYTES_PER_BLOCK + _BYTES_PER_LIMIT * len(self.footers.columns))
        limits += sum(vectors.nbytes for vectors in self.vectors.values())
        return sum(a.nbytes for a in arrays) + limits + (self.coarser.nbytes if self.coarser is not None else 0)

    @property
    def row_groups(self) -> Refined:
        """The level whose blocks are the row groups."""
        is_divided = self.footers.n_row_groups < len(self.footers)
        return self.coarser if self.coarser is not None and is_divided else self


def refine(footers: Footers, root: Path | None = None) -> Refined:
    """Intersect the limits of the footers' columns with those of the files' metadata, and add hulls, boxes and maps.

    Metadata of another state of a file than the footers', or whose blocks do not make up its row groups, is ignored.
    """
    loaded = tuple(load_all(footers.files, root))
    key = (footers.files, tuple(footers.columns), None if root is None else os.fspath(root))
    held = _cache.get(key)
    if held is None or held.footers is not footers or any(a is not b for a, b in zip(held.loaded, loaded, strict=True)):
        held = _Held(footers, loaded, _refine(footers, loaded))
        _cache.put(key, held)
    return held.refined


def refine_loaded(footers: Footers, loaded: Sequence[Loaded]) -> Refined:
    """The same with the metadata of each file as it is given, and without a level of whole files."""
    return _refine(footers, loaded, by_file=False)


def _refine(footers: Footers, loaded: Sequence[Loaded], *, by_file: bool = True) -> Refined:
    found: list[Metadata | None] = []
    notes = []
    for i, path in enumerate(footers.files):
        metadata, reason = loaded[i].metadata, loaded[i].reason
        rows = footers.n_rows[footers.of_file(i)]
        if metadata is not None and (loaded[i].identity != footers.identities[i] or not fits(metadata, rows)):
            metadata, reason = None, f"the metadata of {path} is of another state of the file or of other row groups"
        found.append(metadata)
        notes += [reason] if reason else []
    groups = replace(level(footers, [m and per_row_group(m) for m in found]), notes=tuple(notes))
    file = footers.file_index
    if by_file and len(file) >= max(_WORTH_A_LEVEL, _PER_FILE * len(np.unique(file))):
        files = level(footers.per_file(), [m and per_file(m) for m in found])
        groups = replace(groups, coarser=files, parent=np.unique(file, return_inverse=True)[1])
    group, n_rows = _blocks(footers, found)
    if len(group) == len(footers):
        return groups
    blocks = level(footers.divided(group, n_rows), found)
    return replace(blocks, notes=groups.notes, coarser=groups, parent=group)


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """What footers and metadata were refined to, as long as they are the same objects."""

    footers: Footers
    loaded: tuple[Loaded, ...]
    refined: Refined


_cache: Recent[tuple[tuple[str, ...], tuple[str, ...], str | None], _Held] = Recent(
    _CACHED_BYTES, lambda held: held.refined.nbytes
)


def level(footers: Footers, found: Sequence[Metadata | None]) -> Refined:
    """Footers of blocks with the metadata, by file, of the same blocks."""
    if not any(found):
        return Refined(footers)
    with np.errstate(all="ignore"):  # limits may be infinite, which every place below allows for
        columns = {
            name: _refined(name, stats, footers, found) if stats.text is None else _told(name, stats, footers, found)
            for name, stats in footers.columns.items()
        }
        refined = replace(footers, columns=columns)
        sizes = np.bincount(footers.file_index, minlength=len(footers.files)).tolist()
        known = evidence(found, sizes, lambda metadata: _asked(refined, metadata))
        vectors = {name: v for name in columns if (v := enclosures(name, found, sizes)) is not None}
        return Refined(refined, _hulls(refined, found), _boxes(refined, found), known, vectors=vectors)


def _blocks(footers: Footers, found: Sequence[Metadata | None]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row group of each block, and its rows."""
    group, n_rows = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for i, metadata in enumerate(found):
        mine = _numbers(footers.of_file(i))
        group.append(mine if metadata is None else mine[metadata.row_group])
        n_rows.append(footers.n_rows[mine] if metadata is None else metadata.n_rows)
    return np.concatenate(group), np.concatenate(n_rows)


def _numbers(blocks: slice) -> NDArray[np.int64]:
    return np.arange(blocks.start, blocks.stop)


def _asked(footers: Footers, metadata: Metadata) -> dict[str, str]:
    """The names by which the columns of a file's metadata were asked for, those of another type left out."""
    found = {column.name: _wanted(footers, metadata, column.name) for column in metadata.columns}
    asked = {wanted.lower(): wanted for wanted in footers.columns}
    vectors = {v.column: asked[v.column.lower()] for v in metadata.vectors if v.column.lower() in asked}
    return vectors | {name: wanted[0] for name, wanted in found.items() if wanted is not None}


def slack(sql_type: str, lower: Floats, upper: Floats) -> Floats:
    """By how much an engine's model input may differ from the one that enrichment saw, for limits [N].

    Sound because engines agree on exact types, and on the others up to the roundings that `features` allows for.
    """
    size = np.maximum(np.abs(lower), np.abs(upper))
    if _EXACT_TYPES.fullmatch(sql_type):
        wide = size > EXACT if "BIGINT" in sql_type else np.zeros(len(size), np.bool_)
        return np.where(wide, size * _ULPS, 0.0)
    return np.asarray(size * _ULPS + (_MICROSECOND if _TIMES.fullmatch(sql_type) else 0.0))


def fits(metadata: Metadata, n_rows: NDArray[np.int64]) -> bool:
    """Whether the blocks make up the row groups of a file, of so many rows each."""
    starts = metadata.group_starts
    if not np.array_equal(metadata.row_group[starts], np.arange(len(n_rows))):
        return False
    return np.array_equal(np.add.reduceat(metadata.n_rows, starts) if len(starts) else starts, n_rows)


def _column(metadata: Metadata | None, name: str) -> ColumnMetadata | None:
    """The column of that name, as DuckDB finds it: without regard to case."""
    if metadata is None:
        return None
    named = [column for column in metadata.columns if column.name.lower() == name.lower()]
    return named[0] if len(named) == 1 else None


def _refined(name: str, stats: ColumnStats, footers: Footers, found: Sequence[Metadata | None]) -> ColumnStats:
    lower, upper, known = stats.lower.copy(), stats.upper.copy(), stats.known.copy()
    all_null, null_count, may_be_nan = stats.all_null.copy(), stats.null_count.copy(), stats.may_be_nan.copy()
    reason = stats.reason.copy()
    for i, metadata in enumerate(found):
        column = _column(metadata, name)
        if column is None or column.sql_type != stats.sql_type:
            continue
        mine = footers.of_file(i)
        room = slack(column.sql_type, column.lower, column.upper)
        tight = np.fmax(lower[mine], column.lower - room), np.fmin(upper[mine], column.upper + room)
        some = (column.lower <= column.upper) & (tight[0] <= tight[1])
        lower[mine] = np.where(some, tight[0], lower[mine])
        upper[mine] = np.where(some, tight[1], upper[mine])
        # A row group of nothing but NaN has no limits, and no row with a number.
        known[mine] |= some
        null_count[mine] = column.null_count
        all_null[mine] = column.null_count == footers.n_rows[mine]
        may_be_nan[mine] = column.nan_count > 0
        reason[mine][known[mine] & ~may_be_nan[mine]] = ""
    return replace(
        stats,
        lower=lower,
        upper=upper,
        known=known,
        all_null=all_null,
        null_count=null_count,
        may_be_nan=may_be_nan,
        reason=reason,
    )


def _told(name: str, stats: ColumnStats, footers: Footers, found: Sequence[Metadata | None]) -> ColumnStats:
    """A column of text with the texts that occur. Sound because they were counted in the same state of the file."""
    known = [_texts(metadata, name) for metadata in found]
    if stats.text is None or not any(known):
        return stats
    sets, null_count, all_null = np.full(len(footers), None, object), stats.null_count.copy(), stats.all_null.copy()
    for i, column in enumerate(known):
        if column is None:
            continue
        mine = footers.of_file(i)
        sets[mine] = texts.decode(column)
        null_count[mine] = column.null_count
        all_null[mine] = column.null_count == footers.n_rows[mine]
    return replace(stats, text=stats.text.with_sets(sets), null_count=null_count, all_null=all_null)


def _texts(metadata: Metadata | None, name: str) -> TextMetadata | None:
    """What is known of a column of that name, as DuckDB finds it."""
    named = [text for text in metadata.texts if text.column.lower() == name.lower()] if metadata is not None else []
    return named[0] if len(named) == 1 else None


def _hulls(footers: Footers, found: Sequence[Metadata | None]) -> tuple[ColumnHull, ...]:
    pairs: dict[tuple[str, str], list[tuple[int, ColumnHull]]] = {}
    for i, metadata in enumerate(found):
        for pair in metadata.pairs if metadata is not None else ():
            columns = [_wanted(footers, metadata, name) for name in pair.columns]
            if metadata is None or columns[0] is None or columns[1] is None:
                continue
            names = columns[0][0], columns[1][0]
            sides = [column for _, column in (columns[0], columns[1])]
            pairs.setdefault(names, []).append((i, _decoded(names, sides, pair.half_planes)))
    return tuple(_spread(names, parts, footers) for names, parts in pairs.items())


def _wanted(footers: Footers, metadata: Metadata | None, name: str) -> tuple[str, ColumnMetadata] | None:
    """The name by which the footers were asked for a column of the metadata, and the column."""
    asked = next((wanted for wanted in footers.columns if wanted.lower() == name.lower()), None)
    column = _column(metadata, name)
    if asked is None or column is None or column.sql_type != footers.columns[asked].sql_type:
        return None
    return asked, column


def _decoded(names: tuple[str, str], sides: Sequence[ColumnMetadata], planes: HalfPlanes) -> ColumnHull:
    """Hulls widened by what an engine's inputs may differ from those that were enclosed."""
    lower = np.stack([side.lower for side in sides], axis=1)
    upper = np.stack([side.upper for side in sides], axis=1)
    room = np.stack([slack(side.sql_type, side.lower, side.upper) for side in sides], axis=1)
    share = np.where(room > 0, room / (upper - lower), 0.0)
    offset = planes.offset + np.einsum("nkc,nc->nk", np.abs(planes.normal), share)
    usable = np.isfinite(offset) & np.isfinite((upper - lower).sum(axis=1, keepdims=True))
    return ColumnHull(
        names,
        lower,
        upper,
        np.where(usable[:, :, None], planes.normal, 0.0),
        np.where(usable, offset, np.inf),
    )


def _spread(names: tuple[str, str], parts: Sequence[tuple[int, ColumnHull]], footers: Footers) -> ColumnHull:
    """The hulls of several files in their places among all row groups."""
    n, k = len(footers), max(part.offset.shape[1] for _, part in parts)
    whole = ColumnHull(names, np.zeros((n, 2)), np.zeros((n, 2)), np.zeros((n, k, 2)), np.full((n, k), np.inf))
    for file, part in parts:
        mine = _numbers(footers.of_file(file))
        whole.lower[mine], whole.upper[mine] = part.lower, part.upper
        planes = np.ix_(mine, np.arange(part.offset.shape[1]))
        whole.normal[planes], whole.offset[planes] = part.normal, part.offset
    return whole


def _boxes(footers: Footers, found: Sequence[Metadata | None]) -> ColumnBoxes | None:
    """The boxes over the most of the columns that the footers were asked for; a file without them has one box."""
    sets = [tuple(box.columns) for metadata in found if metadata is not None for box in metadata.boxes]
    asked = {name.lower(): name for name in footers.columns}
    covered = {columns: sum(name.lower() in asked for name in columns) for columns in sets}
    best = max(sorted(covered), key=lambda columns: covered[columns], default=())
    if not best or not covered[best]:
        return None
    names = tuple(asked[name.lower()] for name in best if name.lower() in asked)
    parts = [_file_boxes(footers, i, metadata, best, len(names)) for i, metadata in enumerate(found)]
    wanted = [i for i, name in enumerate(best) if name.lower() in asked]
    return ColumnBoxes(
        names,
        np.concatenate([low[:, wanted] for low, _, _ in parts]),
        np.concatenate([high[:, wanted] for _, high, _ in parts]),
        np.concatenate([block for _, _, block in parts]),
    )


def _file_boxes(
    footers: Footers, file: int, metadata: Metadata | None, columns: tuple[str, ...], n_wanted: int
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    mine = _numbers(footers.of_file(file))
    stored = [box for box in metadata.boxes if box.columns == columns] if metadata is not None else []
    types = {name.lower(): stats.sql_type for name, stats in footers.columns.items()}
    sides = [_column(metadata, name) for name in columns]
    same = [side for side in sides if side is not None and types.get(side.name.lower(), side.sql_type) == side.sql_type]
    if not stored or len(same) < len(columns):
        whole = np.full((len(mine), len(columns)), np.inf)
        return -whole, whole, mine
    lower, upper = np.stack([side.lower for side in same], axis=1), np.stack([side.upper for side in same], axis=1)
    finite = np.isfinite(lower) & np.isfinite(upper)
    lower, upper = np.where(finite, lower, 0.0), np.where(finite, upper, 0.0)
    low, high, block = boxes.decode(stored[0].boxes, lower, upper, stored[0].bits)
    room = np.stack([slack(side.sql_type, side.lower, side.upper) for side in same], axis=1)[block]
    # Without finite limits the numbers stand for nothing.
    known = finite[block]
    return np.where(known, low - room, -np.inf), np.where(known, high + room, np.inf), mine[block]
