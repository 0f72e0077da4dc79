"""Metadata of whole row groups and files, out of that of their blocks: one small region that stands for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from skipml.metadata import hulls, texts
from skipml.metadata.contents import ColumnMetadata, LabelMetadata, Metadata, PairMetadata, ScoreMetadata

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Payloads = NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)


def with_merged_hulls(metadata: Metadata) -> Metadata:
    """The same with the hulls of the file and, where blocks are finer than row groups, of the row groups.

    Sound because `hulls.merge` contains every hull that goes into it.
    """
    sides = {column.name: column for column in metadata.columns}
    pairs = [_with_merged(pair, [sides[name] for name in pair.columns], metadata) for pair in metadata.pairs]
    return replace(metadata, pairs=tuple(pairs))


def per_row_group(metadata: Metadata) -> Metadata:
    """What is known of the row groups. Sound because each part contains what its blocks contain."""
    starts = metadata.group_starts
    if len(starts) == len(metadata):
        return metadata
    pairs = (replace(p, hulls=p.merged[:-1], merged=p.merged[-1:]) for p in metadata.pairs if p.merged is not None)
    return _merged(metadata, starts, tuple(pairs))


def per_file(metadata: Metadata) -> Metadata:
    """What is known of the file as one block; nothing if it has none. Sound as `per_row_group` is."""
    pairs = (replace(p, hulls=p.merged[-1:], merged=None) for p in metadata.pairs if p.merged is not None)
    return _merged(metadata, np.zeros(min(len(metadata), 1), np.int64), tuple(pairs))


def _with_merged(pair: PairMetadata, sides: Sequence[ColumnMetadata], metadata: Metadata) -> PairMetadata:
    lower, upper = (np.stack(limits, axis=1) for limits in ([s.lower for s in sides], [s.upper for s in sides]))
    size, starts = pair.hulls.shape[1], metadata.group_starts
    if not len(metadata):
        return pair
    if len(starts) == len(metadata):
        return replace(pair, merged=_merge(pair.hulls, lower, upper)[0][None])
    ends = [*starts[1:].tolist(), len(metadata)]
    blocks = [slice(start, end) for start, end in zip(starts.tolist(), ends, strict=True)]
    parts = [_merge(pair.hulls[block], lower[block], upper[block]) for block in blocks]
    groups = np.array([payload for payload, _, _ in parts], np.uint8).reshape(len(parts), size)
    whole, _, _ = _merge(groups, np.stack([low for _, low, _ in parts]), np.stack([high for _, _, high in parts]))
    return replace(pair, merged=np.concatenate([groups, whole[None]]))


def _merge(payloads: Payloads, lower: Floats, upper: Floats) -> tuple[Payloads, Floats, Floats]:
    """The hull of some blocks and their limits; the box where limits are infinite. Blocks without a row that has both
    numbers count for nothing.
    """
    has_number = lower <= upper
    some = has_number.all(axis=1)
    low, high = lower.min(axis=0), upper.max(axis=0)
    # Where only one of the columns has numbers, the union has other limits than the hulls.
    fits = bool(some.any() and (some == has_number.any(axis=1)).all())
    if not fits or not np.isfinite([lower[some], upper[some]]).all():
        return np.zeros(payloads.shape[1], np.uint8), low, high
    payload, _, _ = hulls.merge(payloads[some], lower[some], upper[some], payloads.shape[1])
    return payload, low, high


def _merged(metadata: Metadata, starts: Indices, pairs: tuple[PairMetadata, ...]) -> Metadata:
    n_rows = _reduced(np.add, metadata.n_rows, starts)
    return replace(
        metadata,
        row_group=metadata.row_group[starts],
        first_row=metadata.first_row[starts],
        n_rows=n_rows,
        columns=tuple(_column(column, starts) for column in metadata.columns),
        pairs=pairs,
        boxes=(),
        scores=tuple(_scores(score, starts) for score in metadata.scores),
        labels=tuple(_labels(label, starts) for label in metadata.labels),
        witnesses=(),
        vectors=(),
        projections=(),
        texts=tuple(
            replace(text, null_count=_reduced(np.add, text.null_count, starts), sets=texts.merged(text, starts))
            for text in metadata.texts
        ),
    )


def _column(column: ColumnMetadata, starts: Indices) -> ColumnMetadata:
    return replace(
        column,
        lower=_reduced(np.minimum, column.lower, starts),
        upper=_reduced(np.maximum, column.upper, starts),
        null_count=_reduced(np.add, column.null_count, starts),
        nan_count=_reduced(np.add, column.nan_count, starts),
    )


def _scores(score: ScoreMetadata, starts: Indices) -> ScoreMetadata:
    """Without cells: the limits hold for all parts."""
    lower, upper = _reduced(np.minimum, score.lower, starts), _reduced(np.maximum, score.upper, starts)
    return replace(score, lower=lower, upper=upper, cells=np.zeros((len(starts), 0), np.uint8))


def _labels(label: LabelMetadata, starts: Indices) -> LabelMetadata:
    return replace(label, labels=_reduced(np.bitwise_or, label.labels, starts))


def _reduced(ufunc: np.ufunc, values: NDArray[Scalar], starts: Indices) -> NDArray[Scalar]:
    return np.asarray(ufunc.reduceat(values, starts), values.dtype) if len(starts) else values[:0]
