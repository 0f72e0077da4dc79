"""What is known of the scores and of single rows of many blocks, in place of limits on their inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skipml.metadata import witnesses
from skipml.metadata.contents import LabelMetadata, Metadata, ScoreMetadata

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Payloads = NDArray[np.uint8]
Asked = Callable[[Metadata], Mapping[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Witnesses:
    """Some rows of N blocks: `rows` float64 [N, K, d] over the columns, NaN where there is none; those behind the first
    `extremes` are a sample.
    """

    columns: tuple[str, ...]
    rows: Floats
    extremes: int


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Score and label maps of N blocks with the names of the columns that were asked for, and witnesses."""

    scores: tuple[ScoreMetadata, ...] = ()
    labels: tuple[LabelMetadata, ...] = ()
    witnesses: Witnesses | None = None

    def take(self, blocks: Bools) -> Evidence:
        """That of some of the blocks, chosen by a mask [N]."""
        seen = self.witnesses
        return Evidence(
            tuple(replace(s, lower=s.lower[blocks], upper=s.upper[blocks], cells=s.cells[blocks]) for s in self.scores),
            tuple(replace(label, labels=label.labels[blocks]) for label in self.labels),
            replace(seen, rows=seen.rows[blocks]) if seen is not None else None,
        )


def evidence(found: Sequence[Metadata | None], sizes: Sequence[int], asked: Asked) -> Evidence:
    """That of the blocks of several files, `sizes` of them in each; `asked` gives, for a file's metadata, the name that
    each of its columns was asked for by.

    Sound because a block whose file lacks a map has unbounded scores and every label.
    """
    names = [asked(metadata) if metadata is not None else {} for metadata in found]
    scores: dict[tuple[str, tuple[str, ...], int], dict[int, ScoreMetadata]] = {}
    labels: dict[tuple[str, tuple[str, ...], int], dict[int, LabelMetadata]] = {}
    for i, metadata in enumerate(found):
        for score in metadata.scores if metadata is not None else ():
            if names[i].keys() >= set(score.columns):
                key = score.model, tuple(names[i][name] for name in score.columns)
                scores.setdefault((*key, score.output), {})[i] = score
        for label in metadata.labels if metadata is not None else ():
            if names[i].keys() >= set(label.columns):
                key = label.model, tuple(names[i][name] for name in label.columns)
                labels.setdefault((*key, label.n_labels), {})[i] = label
    ends = np.cumsum([0, *sizes]).tolist()
    places = [slice(start, end) for start, end in itertools.pairwise(ends)]
    return Evidence(
        tuple(_scores(key, parts, places) for key, parts in scores.items()),
        tuple(_labels(key, parts, places) for key, parts in labels.items()),
        _witnesses(found, places, names),
    )


def _scores(
    key: tuple[str, tuple[str, ...], int], parts: Mapping[int, ScoreMetadata], places: Sequence[slice]
) -> ScoreMetadata:
    """One map over all files; files whose maps have cells of different sizes have limits only."""
    n, widths = places[-1].stop, {part.cells.shape[1] for part in parts.values()}
    cells = np.full((n, widths.pop() if len(widths) == 1 else 0), 255, np.uint8)
    lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
    for i, part in parts.items():
        lower[places[i]], upper[places[i]] = part.lower, part.upper
        cells[places[i]] = part.cells[:, : cells.shape[1]]
    return ScoreMetadata(*key, lower, upper, cells)


def _labels(
    key: tuple[str, tuple[str, ...], int], parts: Mapping[int, LabelMetadata], places: Sequence[slice]
) -> LabelMetadata:
    size = -(-key[2] // 8)
    labels = np.full((places[-1].stop, size), 255, np.uint8)
    for i, part in parts.items():
        if part.labels.shape[1] == size:
            labels[places[i]] = part.labels
    return LabelMetadata(*key, labels)


def _witnesses(
    found: Sequence[Metadata | None], places: Sequence[slice], names: Sequence[Mapping[str, str]]
) -> Witnesses | None:
    stored = {i: m.witnesses[0] for i, m in enumerate(found) if m is not None and m.witnesses}
    columns = tuple(sorted({name for i in stored for name in names[i].values()}))
    decoded = {i: witnesses.decode(w.rows, len(w.columns)) for i, w in stored.items()}
    count = max((rows.shape[1] for rows in decoded.values()), default=0)
    if not count or not columns:
        return None
    rows = np.full((places[-1].stop, count, len(columns)), np.nan)
    for i, values in decoded.items():
        for k, name in enumerate(stored[i].columns):
            if values.shape[1] == count and name in names[i]:
                rows[places[i], :, columns.index(names[i][name])] = values[:, :, k]
    return Witnesses(columns, rows, witnesses.n_extremes(count))
