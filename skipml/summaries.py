"""What enrichment stores of one block of rows, and the metadata of a file made of its blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.distinct import Distinct, distinct
from skipml.enclosing import Directions, Enclosure, enclose, metadata_of_vectors
from skipml.features import find_column, model_inputs
from skipml.footers import Footers
from skipml.heads import Head
from skipml.limits import Limits, limits
from skipml.metadata import boxes as boxes_of
from skipml.metadata import hulls, texts, witnesses
from skipml.metadata.contents import (
    BoxMetadata,
    ColumnMetadata,
    LabelMetadata,
    Metadata,
    PairMetadata,
    ScoreMetadata,
    TextMetadata,
    WitnessMetadata,
)
from skipml.metadata.merging import with_merged_hulls
from skipml.scored import Scored, Scorer
from skipml.vectors import vectors_of

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Payload = NDArray[np.uint8]

_MANY_BOXES = 32
_WITNESS_VALUE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to store of each block: hulls of pairs of columns, of `hull_bytes` each, `boxes` over all columns, maps of
    what models make of the rows, with `score_bytes` of cells each, rows that take up to `witness_bytes`, what lies
    around `vectors`, and which of at most so many `words` occur in columns of `texts`.
    """

    columns: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    hull_bytes: int = 45
    boxes: int = 0
    scorers: tuple[Scorer, ...] = ()
    score_bytes: int = 32
    witness_bytes: int = 0
    vectors: tuple[Directions, ...] = ()
    texts: tuple[str, ...] = ()
    words: int = 0

    @property
    def n_witnesses(self) -> int:
        """Rows stored of each block."""
        return self.witness_bytes // (_WITNESS_VALUE_BYTES * max(len(self.columns), 1))

    def shaped_columns(self) -> tuple[str, ...]:
        """The columns whose rows are looked at; limits need none."""
        if self.boxes or self.n_witnesses:
            return self.columns
        used = {name for names in (*self.pairs, *(scorer.columns for scorer in self.scorers)) for name in names}
        return tuple(name for name in self.columns if name in used)


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What one block holds: limits of its columns, payloads per pair, payload of the boxes, maps per model, rows, what
    lies around its vectors, its distinct texts.
    """

    n_rows: int
    limits: Limits
    hulls: tuple[Payload, ...]
    boxes: Payload
    scored: tuple[Scored, ...]
    witnesses: Payload
    vectors: tuple[Enclosure, ...] = ()
    texts: tuple[Distinct, ...] = ()


def summarise(rows: pa.Table, wanted: Wanted) -> Summary:
    """The summary of a block's rows; raises SchemaError for a column that is no model input."""
    found = limits(rows, wanted.columns)
    shaped = wanted.shaped_columns()
    values, null = model_inputs(rows, shaped)
    number: Bools = ~(null | np.isnan(values))
    of = [wanted.columns.index(name) for name in shaped]
    lower, upper = found.lower[of], found.upper[of]
    return Summary(
        n_rows=rows.num_rows,
        limits=found,
        hulls=tuple(
            _hull(values, number, (lower, upper), [shaped.index(a), shaped.index(b)], wanted.hull_bytes)
            for a, b in wanted.pairs
        ),
        boxes=_boxes(values, number, (lower, upper), wanted.boxes),
        scored=tuple(
            _scored_vectors(scorer, scorer.function, rows, wanted.score_bytes)
            if isinstance(scorer.function, Head)
            else _scored(scorer, values, null, shaped, wanted.score_bytes)
            for scorer in wanted.scorers
        ),
        witnesses=_witnesses(values, number, wanted.n_witnesses),
        vectors=tuple(_enclosed(rows, directions) for directions in wanted.vectors),
        texts=tuple(distinct(find_column(rows, name), wanted.words) for name in wanted.texts),
    )


def _enclosed(rows: pa.Table, wanted: Directions) -> Enclosure:
    return enclose(*vectors_of(find_column(rows, wanted.column), wanted.dimension, wanted.column), wanted)


def _scored_vectors(scorer: Scorer, head: Head, rows: pa.Table, size: int) -> Scored:
    """The maps of the rows that have a vector of numbers."""
    vectors, usable = vectors_of(find_column(rows, scorer.columns[0]), head.dimension, scorer.columns[0])
    wide = vectors.astype(np.float64)
    return scorer.scored(wide[scorer.has_score(wide, ~usable[:, None])], size)


def _hull(values: Floats, number: Bools, limits: tuple[Floats, Floats], pair: list[int], size: int) -> Payload:
    """The hull of the rows that have both numbers; the box where one is infinite or there is none."""
    lower, upper = (side[pair] for side in limits)
    mine = np.logical_and(number[:, pair[0]], number[:, pair[1]])
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and mine.any()):
        return np.zeros(size, np.uint8)
    points = values[:, pair] if mine.all() else values[mine][:, pair]
    return hulls.build(points, lower, upper, size)


def _boxes(values: Floats, number: Bools, limits: tuple[Floats, Floats], count: int) -> Payload:
    """Boxes around all rows; the whole box where a column has no or infinite limits.

    Sound because a row that lacks a number may be asked for by its others, and the row that is enclosed in its place
    has these.
    """
    if not count:
        return np.zeros(0, np.uint8)
    if not (np.isfinite(limits[0]).all() and np.isfinite(limits[1]).all()):
        zero, one = np.zeros(values.shape[1]), np.ones(values.shape[1])
        return np.tile(boxes_of.build(np.stack([zero, one]), zero, one, 1, box_bits(count)), count)
    points = values if number.all() else _filled(values, number)
    return boxes_of.build(points, *limits, count, box_bits(count))


def _filled(values: Floats, number: Bools) -> Floats:
    """The rows [n, d] with some number, those they lack taken from a row that is near in another column and has all, or
    where there is none from any row.
    """
    rows, has = values[number.any(axis=1)].copy(), number[number.any(axis=1)]
    whole = rows[has.all(axis=1)]
    if not len(whole):
        whole = np.array([[column[mine][0] for column, mine in zip(rows.T, has.T, strict=True)]])
    for key in range(rows.shape[1]):
        lacking = np.flatnonzero(has[:, key] & ~has.all(axis=1))
        order = np.argsort(whole[:, key], kind="stable")
        place = np.searchsorted(whole[order, key], rows[lacking, key]).clip(0, len(whole) - 1)
        rows[lacking] = np.where(has[lacking], rows[lacking], whole[order[place]])
        has[lacking] = True
    return rows


def _scored(scorer: Scorer, values: Floats, null: Bools, columns: Sequence[str], size: int) -> Scored:
    """The maps of the rows that have all inputs of a model: the others have no score, or that of a NaN."""
    inputs = [columns.index(name) for name in scorer.columns]
    rows = values[:, inputs]
    return scorer.scored(rows[scorer.has_score(rows, null[:, inputs])], size)


def _witnesses(values: Floats, number: Bools, count: int) -> Payload:
    """Some of the rows that have a finite number in every column."""
    if not count:
        return np.zeros(0, np.uint8)
    usable = number.all(axis=1) & np.isfinite(values).all(axis=1)
    return witnesses.encode(witnesses.choose(values[usable], count))


def box_bits(count: int) -> int:
    """Of the corners of that many boxes: with 8 bits many boxes would be wider than their rows by as much as these
    spread.
    """
    return 16 if count > _MANY_BOXES else 8


def metadata_of(
    groups: Sequence[Sequence[Summary]], wanted: Wanted, footers: Footers, settings: Mapping[str, str]
) -> Metadata:
    """The metadata of a file from the blocks of each of its row groups, in order."""
    blocks = [block for group in groups for block in group]
    n_rows = np.array([block.n_rows for block in blocks], np.int64)
    around = [metadata_of_vectors([b.vectors[i] for b in blocks], of) for i, of in enumerate(wanted.vectors)]
    metadata = Metadata(
        row_group=np.repeat(footers.row_group, [len(group) for group in groups]),
        first_row=np.cumsum(n_rows) - n_rows,
        n_rows=n_rows,
        columns=tuple(_column(blocks, i, name, footers) for i, name in enumerate(wanted.columns)),
        pairs=tuple(
            PairMetadata(pair, _payloads([block.hulls[i] for block in blocks], wanted.hull_bytes))
            for i, pair in enumerate(wanted.pairs)
        ),
        boxes=(_box_metadata(blocks, wanted),) if wanted.boxes else (),
        settings=settings,
        scores=tuple(score for i, s in enumerate(wanted.scorers) for score in _scores(blocks, i, s, wanted)),
        labels=tuple(_labels(blocks, i, scorer) for i, scorer in enumerate(wanted.scorers) if scorer.n_labels),
        witnesses=(_witness_metadata(blocks, wanted),) if wanted.n_witnesses else (),
        vectors=tuple(vectors for vectors, _ in around),
        projections=tuple(box for _, boxes in around for box in boxes),
        texts=tuple(_texts([block.texts[i] for block in blocks], of, wanted) for i, of in enumerate(wanted.texts)),
    )
    return with_merged_hulls(metadata)


def _column(blocks: Sequence[Summary], i: int, name: str, footers: Footers) -> ColumnMetadata:
    return ColumnMetadata(
        name=name,
        sql_type=footers.columns[name].sql_type,
        lower=np.array([block.limits.lower[i] for block in blocks], np.float64),
        upper=np.array([block.limits.upper[i] for block in blocks], np.float64),
        null_count=np.array([block.limits.null_count[i] for block in blocks], np.int64),
        nan_count=np.array([block.limits.nan_count[i] for block in blocks], np.int64),
    )


def _texts(found: Sequence[Distinct], name: str, wanted: Wanted) -> TextMetadata:
    null_count = np.array([block.null_count for block in found], np.int64)
    return texts.build(name, [block.words for block in found], null_count, wanted.words)


def _payloads(payloads: Sequence[Payload], size: int) -> Payload:
    return np.array(payloads, np.uint8).reshape(len(payloads), size)


def _box_metadata(blocks: Sequence[Summary], wanted: Wanted) -> BoxMetadata:
    size = boxes_of.size(wanted.boxes, len(wanted.columns), box_bits(wanted.boxes))
    return BoxMetadata(wanted.columns, box_bits(wanted.boxes), _payloads([block.boxes for block in blocks], size))


def _scores(blocks: Sequence[Summary], i: int, scorer: Scorer, wanted: Wanted) -> list[ScoreMetadata]:
    return [
        ScoreMetadata(
            model=scorer.function.hash,
            columns=scorer.columns,
            output=output,
            lower=np.array([block.scored[i].lower[output] for block in blocks], np.float64),
            upper=np.array([block.scored[i].upper[output] for block in blocks], np.float64),
            cells=_payloads([block.scored[i].cells[output] for block in blocks], wanted.score_bytes),
        )
        for output in range(scorer.function.n_outputs)
    ]


def _labels(blocks: Sequence[Summary], i: int, scorer: Scorer) -> LabelMetadata:
    labels = _payloads([block.scored[i].labels for block in blocks], -(-scorer.n_labels // 8))
    return LabelMetadata(scorer.function.hash, scorer.columns, scorer.n_labels, labels)


def _witness_metadata(blocks: Sequence[Summary], wanted: Wanted) -> WitnessMetadata:
    size = wanted.n_witnesses * len(wanted.columns) * _WITNESS_VALUE_BYTES
    return WitnessMetadata(wanted.columns, _payloads([block.witnesses for block in blocks], size))
