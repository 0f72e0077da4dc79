"""What enrichment knows of the blocks of one Parquet file: a struct of arrays per kind of metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.metadata import hulls
from skipml.metadata.hulls import HalfPlanes

_MAX_ROWS = 2**62
_KEPT_BLOCKS = 4096


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


@dataclass(frozen=True, eq=False)
class PairMetadata:
    """The hulls of one pair of columns: payloads [N, size] of `skipml.metadata.hulls`."""

    columns: tuple[str, str]
    hulls: NDArray[np.uint8]
    merged: NDArray[np.uint8] | None = None
    """[1, size], the hull of the file, or [G + 1, size], those of its G row groups before it, if blocks are finer."""

    @property
    def half_planes(self) -> HalfPlanes:
        """What the payloads stand for; of a small file it is kept, as plans ask again and again."""
        return self._kept_half_planes if len(self.hulls) <= _KEPT_BLOCKS else hulls.decode(self.hulls)

    @cached_property
    def _kept_half_planes(self) -> HalfPlanes:
        return hulls.decode(self.hulls)


@dataclass(frozen=True, slots=True, eq=False)
class BoxMetadata:
    """The boxes over some columns: payloads [N, size] of `skipml.metadata.boxes`."""

    columns: tuple[str, ...]
    bits: int
    boxes: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreMetadata:
    """The scores of one output of a model in N blocks: limits [N] and payloads [N, size] of
    `skipml.metadata.scoremaps`, widened by how far another evaluation of the same network may be off.
    """

    model: str
    """The hash of the network: graph, weights and dtype."""
    columns: tuple[str, ...]
    """The inputs in order."""
    output: int
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    cells: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class LabelMetadata:
    """The classes of the rows of N blocks: bitmaps [N, size] of `skipml.metadata.scoremaps`, keyed as scores are."""

    model: str
    columns: tuple[str, ...]
    n_labels: int
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class WitnessMetadata:
    """A few rows of N blocks: payloads [N, size] of `skipml.metadata.witnesses`."""

    columns: tuple[str, ...]
    rows: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ProjectionMetadata:
    """A box over k directions in N blocks: for x minus the block's centre, `basis` [k, d] times it lies between `lower`
    and `upper` [N, k], and what is left when the basis times that is taken away is at most `rest` [N] long.
    """

    column: str
    basis: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    rest: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class VectorMetadata:
    """The vectors of `dimension` values of one column in N blocks: those that are finite lie within `radius` [N] of
    `center` [N, dimension] and are at most `length` [N] long; in each of S slices of the values, as equal as can be,
    they are within `slices` [N, S] of the centre's.
    """

    column: str
    dimension: int
    lacking: NDArray[np.int64]
    """Rows without such a vector: NULL, of another length, with a NULL in it."""
    odd: NDArray[np.int64]
    """Vectors that hold NaN, infinity or numbers beyond what is bounded."""
    center: NDArray[np.float32]
    radius: NDArray[np.float64]
    length: NDArray[np.float64]
    slices: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TextMetadata:
    """The distinct texts of one column in N blocks: bitmaps [N, size] of `skipml.metadata.texts` over the words, bytes
    in ascending order.
    """

    column: str
    words: tuple[bytes, ...]
    null_count: NDArray[np.int64]
    sets: NDArray[np.uint8]


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
    scores: tuple[ScoreMetadata, ...] = ()
    labels: tuple[LabelMetadata, ...] = ()
    witnesses: tuple[WitnessMetadata, ...] = ()
    vectors: tuple[VectorMetadata, ...] = ()
    projections: tuple[ProjectionMetadata, ...] = ()
    texts: tuple[TextMetadata, ...] = ()

    def __len__(self) -> int:
        return len(self.n_rows)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        words = sum(len(word) for text in self.texts for word in text.words)
        return 3 * self.n_rows.nbytes + words + sum(array.nbytes for array in _all_arrays(self))

    @property
    def group_starts(self) -> NDArray[np.int64]:
        """The first block of each row group."""
        return np.flatnonzero(np.diff(self.row_group, prepend=-1))


def contradiction(metadata: Metadata) -> str:
    """What is wrong with the blocks, '' if nothing: a reader that trusts wrong counts would lose rows."""
    n_rows, groups = metadata.n_rows, metadata.row_group
    arrays = [groups, metadata.first_row, *_number_arrays(metadata)]
    if any(array.shape != n_rows.shape for array in arrays) or n_rows.ndim != 1:
        return "arrays of different lengths"
    if any(a.ndim != 2 or len(a) != len(n_rows) or a.dtype != np.uint8 for a in _payload_arrays(metadata)):
        return "payloads are not one row of bytes per block"
    if any(np.isnan(limit).any() for score in metadata.scores for limit in (score.lower, score.upper)):
        return "limits of scores that are NaN"
    if (n_rows < 0).any() or n_rows.sum(dtype=np.float64) > _MAX_ROWS:
        return "impossible numbers of rows"
    if (groups < 0).any() or (np.diff(groups) < 0).any():
        return "blocks out of order"
    if not np.array_equal(metadata.first_row, np.cumsum(n_rows) - n_rows):
        return "blocks that do not follow each other"
    if any(not _is_merged(pair, len(metadata.group_starts), len(n_rows)) for pair in metadata.pairs):
        return "merged hulls that do not fit the row groups"
    if len({column.name for column in metadata.columns}) < len(metadata.columns):
        return "two columns of one name"
    found = (_column_contradiction(column, n_rows) for column in metadata.columns)
    return next(filter(None, found), "") or _vector_contradiction(metadata) or _text_contradiction(metadata)


def _text_contradiction(metadata: Metadata) -> str:
    """A block whose set is known has a word if and only if it has a row with a text."""
    n_rows = metadata.n_rows
    for text in metadata.texts:
        if (text.null_count < 0).any() or (text.null_count > n_rows).any():
            return f"column '{text.column}' has more NULLs than rows"
        if any(a >= b for a, b in pairwise(text.words)):
            return f"column '{text.column}' has words out of order"
        n_bits = 1 + len(text.words)
        if text.sets.shape[1] != -(-n_bits // 8):
            return f"column '{text.column}' has sets that do not fit its words"
        bits = np.unpackbits(text.sets, axis=1).astype(np.bool_)
        known, some = bits[:, 0], bits[:, 1:].any(axis=1)
        if bits[:, n_bits:].any() or (some & ~known).any() or (known & (some != (text.null_count < n_rows))).any():
            return f"column '{text.column}' has sets that do not fit its rows"
    if len({text.column for text in metadata.texts}) < len(metadata.texts):
        return "two columns of text of one name"
    return ""


def _vector_contradiction(metadata: Metadata) -> str:
    n_rows = metadata.n_rows
    dimensions: dict[str, int] = {}
    for v in metadata.vectors:
        if (
            (v.lacking < 0).any()
            or (v.odd < 0).any()
            or (v.lacking > n_rows).any()
            or (v.odd > n_rows - v.lacking).any()
        ):
            return f"column '{v.column}' has more rows without a vector than rows"
        if v.dimension < 1 or v.center.shape != (len(n_rows), v.dimension) or len(v.slices) != len(n_rows):
            return f"column '{v.column}' has vectors of different dimensions"
        if not np.isfinite(v.center).all() or not (_is_size(v.radius) and _is_size(v.length) and _is_size(v.slices)):
            return f"column '{v.column}' has vectors that are not bounded"
        dimensions[v.column] = v.dimension
    if len(dimensions) < len(metadata.vectors):
        return "two columns of vectors of one name"
    for box in metadata.projections:
        shape = (len(n_rows), len(box.basis))
        if box.basis.ndim != 2 or box.basis.shape[1] != dimensions.get(box.column):
            return f"directions of vectors that column '{box.column}' does not have"
        if box.lower.shape != shape or box.upper.shape != shape or not np.isfinite(box.basis).all():
            return f"column '{box.column}' has boxes that do not fit their directions"
        if not (box.lower <= box.upper).all() or not np.isfinite([box.lower, box.upper]).all():
            return f"column '{box.column}' has boxes that are not bounded"
        if not _is_size(box.rest):
            return f"column '{box.column}' has vectors that are not bounded"
    return ""


def _is_size(array: NDArray[Any]) -> bool:
    """Whether no number is negative, NaN or infinite."""
    return bool(((array >= 0) & (array < np.inf)).all())


def _column_contradiction(column: ColumnMetadata, n_rows: NDArray[np.int64]) -> str:
    nulls, nans = column.null_count, column.nan_count
    if (nulls < 0).any() or (nans < 0).any() or (nulls > n_rows).any() or (nans > n_rows - nulls).any():
        return f"column '{column.name}' has more NULLs and NaNs than rows"
    empty = (column.lower == np.inf) & (column.upper == -np.inf)
    if (empty != (nulls + nans == n_rows)).any() or not (empty | (column.lower <= column.upper)).all():
        return f"column '{column.name}' has limits that do not fit its rows"
    return ""


def _is_merged(pair: PairMetadata, n_groups: int, n_blocks: int) -> bool:
    """Whether there are as many merged hulls as row groups and files, or none."""
    if pair.merged is None:
        return True
    wanted = 1 if n_groups == n_blocks else n_groups + 1
    return pair.merged.dtype == np.uint8 and pair.merged.shape == (wanted, pair.hulls.shape[1])


def _number_arrays(metadata: Metadata) -> list[NDArray[Any]]:
    columns = [array for c in metadata.columns for array in (c.lower, c.upper, c.null_count, c.nan_count)]
    columns += [array for v in metadata.vectors for array in (v.lacking, v.odd, v.radius, v.length)]
    columns += [box.rest for box in metadata.projections]
    columns += [text.null_count for text in metadata.texts]
    return columns + [array for score in metadata.scores for array in (score.lower, score.upper)]


def _all_arrays(metadata: Metadata) -> list[NDArray[Any]]:
    tables: list[NDArray[Any]] = [array for v in metadata.vectors for array in (v.center, v.slices)]
    tables += [array for box in metadata.projections for array in (box.basis, box.lower, box.upper)]
    return [*_number_arrays(metadata), *_payload_arrays(metadata), *tables]


def _payload_arrays(metadata: Metadata) -> list[NDArray[np.uint8]]:
    return [
        *(pair.hulls for pair in metadata.pairs),
        *(boxes.boxes for boxes in metadata.boxes),
        *(score.cells for score in metadata.scores),
        *(label.labels for label in metadata.labels),
        *(witness.rows for witness in metadata.witnesses),
        *(text.sets for text in metadata.texts),
    ]
