"""Which share of the row groups without a row that passes is proved, by each kind of metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

import skipml
from benchmarks.embeddings.codes import BITS, codes, distances
from benchmarks.embeddings.heads import KINDS, SELECTIVITIES, Head
from skipml.bounds.heads import HeadVerifier
from skipml.enclosing import Directions, enclose, metadata_of_vectors, principal, unit
from skipml.metadata.contents import Metadata
from skipml.metadata.enclosures import Vectors, enclosures
from skipml.regions import Regions

COMPONENTS, SLICES = (16, 64, 256), 16
ORACLE = "oracle: row groups that can be skipped"
_SAMPLE = 20_000
_AT_A_TIME = 1 << 14

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of blocks of rows, a number of which make up each row group: `starts` [G] is the first of each."""

    vectors: Vectors
    starts: NDArray[np.int64]
    bytes_per_row: float

    def above(self, head: Head) -> Floats:
        """What no score of a block [B] is above."""
        verifier = HeadVerifier(head.model.function)  # type: ignore[arg-type]
        found = []
        for start in range(0, len(self.vectors.known), _AT_A_TIME):
            number = np.arange(len(self.vectors.known))
            vectors = self.vectors.take((number >= start) & (number < start + _AT_A_TIME))
            boxes = verifier.blocks(_regions(vectors))
            found.append(verifier.linear(boxes.lower, boxes.upper).upper[:, 0])
        return np.concatenate(found)


class Table:
    """A file with what enrichment would store of it, of every kind, computed once."""

    def __init__(self, path: Path, before: Sequence[skipml.Model]) -> None:
        table, footer = pq.read_table(path, columns=["id", "embedding"]), pq.read_metadata(path)
        self.ids = table["id"].to_numpy()
        self.rows = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(self.ids), -1)
        self.sizes = np.array([footer.row_group(g).num_rows for g in range(footer.num_row_groups)])
        self.starts = np.cumsum(self.sizes) - self.sizes
        weights = [model.function.first.weight for model in before]  # type: ignore[attr-defined]
        sample = self.rows[np.random.default_rng(0).permutation(len(self.rows))[:_SAMPLE]]
        bases = (*(principal(sample, k) for k in COMPONENTS), *map(unit, weights))
        self._wanted = Directions("embedding", self.rows.shape[1], SLICES, bases)
        blocks = np.split(self.rows, self.starts[1:])
        self._stored = [enclose(block, np.ones(len(block), np.bool_), self._wanted) for block in blocks]

    @cached_property
    def vectors(self) -> Vectors:
        """All that is known of the row groups."""
        found, boxes = metadata_of_vectors(self._stored, self._wanted)
        metadata = Metadata(
            row_group=np.arange(len(self.sizes)),
            first_row=self.starts,
            n_rows=self.sizes,
            columns=(),
            pairs=(),
            boxes=(),
            settings={},
            vectors=(found,),
            projections=tuple(boxes),
        )
        vectors = enclosures("embedding", [metadata], [len(self.sizes)])
        assert vectors is not None
        return vectors

    def of_row_groups(self) -> dict[str, Known]:
        """Each kind of metadata by itself, with its bytes by row."""
        whole = self.vectors
        ball, size = replace(whole, slices=None, projections=()), 4 * whole.dimension + 16
        found = {"ball": (ball, size), f"ball and {SLICES} slices": (replace(ball, slices=whole.slices), size + 64)}
        for i, k in enumerate(COMPONENTS):
            boxed = replace(ball, projections=whole.projections[i : i + 1])
            found[f"ball and PCA box of {k}"] = boxed, size + 8 * k + 8
        everything = replace(whole, projections=whole.projections[: len(COMPONENTS)])
        found["all of these"] = everything, size + 64 + 8 * sum(COMPONENTS)
        each = np.arange(len(self.sizes))
        return {kind: Known(v, each, n * len(self.sizes) / len(self.ids)) for kind, (v, n) in found.items()}

    def of_head(self, name: str, number: int) -> tuple[str, Known]:
        """The ball and the limits along the weights of the model of that number."""
        box = self.vectors.projections[len(COMPONENTS) + number]
        vectors = replace(self.vectors, slices=None, projections=(box,))
        size = (4 * vectors.dimension + 32) * len(self.sizes) / len(self.ids)
        return f"ball and head trained on {name}", Known(vectors, np.arange(len(self.sizes)), size)

    def of_rows(self) -> Iterator[tuple[str, Known]]:
        """What is known of single rows."""
        centers = np.repeat(self.vectors.center, self.sizes, axis=0)
        vectors, size = distances(self.rows, centers)
        yield "each row's distance from the centroid", Known(vectors, self.starts, size)
        for bits in BITS:
            vectors, size = codes(self.rows, centers, bits)
            yield f"each row's code, {bits} bits a value", Known(vectors, self.starts, size)

    def skippable(self, head: Head, limit: float) -> Bools:
        """The row groups [G] in which no row passes."""
        return np.asarray(np.maximum.reduceat(head.scores[self.ids], self.starts) <= limit)


def shares(table: Table, heads: Sequence[Head], *, by_row: bool) -> dict[str, dict[str, float]]:
    """By kind of metadata, `bytes_per_row` and by kind of head and selectivity the mean share of the skippable row
    groups that is proved; of what is known of rows, which is left out unless `by_row`, also the mean share of the rows
    that is left. The oracle has the share of all row groups.
    """
    found: dict[str, dict[str, list[float]]] = {}
    sizes: dict[str, float] = {}

    def add(kind: str, column: str, value: float) -> None:
        found.setdefault(kind, {}).setdefault(column, []).append(value)

    def prove(kind: str, known: Known, head: Head) -> None:
        above = known.above(head)
        sizes[kind] = known.bytes_per_row
        for selectivity in SELECTIVITIES:
            limit, column = head.limit(selectivity), column_of(head.kind, selectivity)
            skippable = table.skippable(head, limit)
            proved = np.maximum.reduceat(above, known.starts) <= limit
            assert not (proved & ~skippable).any(), "a row was lost"
            if skippable.any():
                add(kind, column, float(proved.sum() / skippable.sum()))
            if len(above) == len(table.ids):
                assert (above >= head.scores[table.ids]).all(), "a row was lost"
                add(kind, f"rows left, {column}", float((above > limit).mean()))

    known_of_groups = table.of_row_groups()
    before = [model for head in heads for model in head.before.values()]
    for head in heads:
        for selectivity in SELECTIVITIES:
            skippable = table.skippable(head, head.limit(selectivity))
            add(ORACLE, column_of(head.kind, selectivity), float(skippable.mean()))
        for kind, known in known_of_groups.items():
            prove(kind, known, head)
        for name, model in head.before.items():
            prove(*table.of_head(name, before.index(model)), head)
    for kind, known in table.of_rows() if by_row else ():
        for head in heads:
            prove(kind, known, head)
    means = {kind: {column: float(np.mean(v)) for column, v in columns.items()} for kind, columns in found.items()}
    return {kind: {"bytes_per_row": sizes.get(kind, 0.0), **columns} for kind, columns in means.items()}


def column_of(kind: str, selectivity: float) -> str:
    """What the results of heads of a kind are called."""
    assert kind in KINDS
    return f"{kind}, {selectivity:.1%}"


def _regions(vectors: Vectors) -> Regions:
    n, nothing = len(vectors.known), np.zeros((len(vectors.known), 1))
    no, one = nothing > 0, np.ones(n, np.int64)
    return Regions(("e",), nothing, nothing, np.arange(n), one, no, no, no, no, vectors={0: vectors})
