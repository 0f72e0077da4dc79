"""Which share of the row groups without a row that passes is proved, by each kind of metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

import skipml
from benchmarks.embeddings.heads import Head
from skipml.bounds.heads import HeadVerifier
from skipml.enclosing import Directions, enclose, metadata_of_vectors, principal, unit
from skipml.metadata.contents import Metadata
from skipml.metadata.enclosures import Vectors, enclosures
from skipml.regions import Regions

COMPONENTS, SLICES = (16, 64, 256), 16
_SAMPLE = 20_000

Bools = NDArray[np.bool_]


class Table:
    """A file with what enrichment would store of it, of every kind, computed once."""

    def __init__(self, path: Path, before: Sequence[skipml.Model]) -> None:
        table = pq.read_table(path)
        self.ids = table["id"].to_numpy()
        vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(self.ids), -1)
        self.sizes = np.array(
            [pq.read_metadata(path).row_group(g).num_rows for g in range(pq.read_metadata(path).num_row_groups)]
        )
        self.starts = np.cumsum(self.sizes) - self.sizes
        weights = [model.function.first.weight for model in before]  # type: ignore[attr-defined]
        sample = vectors[np.random.default_rng(0).permutation(len(vectors))[:_SAMPLE]]
        bases = (*(principal(sample, k) for k in COMPONENTS), *map(unit, weights))
        self._wanted = Directions("embedding", vectors.shape[1], SLICES, bases)
        blocks = np.split(vectors, self.starts[1:])
        self._stored = [enclose(block, np.ones(len(block), np.bool_), self._wanted) for block in blocks]

    @cached_property
    def vectors(self) -> Vectors:
        """All that is known."""
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

    def kinds(self, before: Mapping[str, int]) -> dict[str, tuple[Vectors, int]]:
        """Each kind of metadata by itself with its bytes per row group; `before` says which boxes are of heads."""
        whole, n = self.vectors, len(COMPONENTS)
        ball = replace(whole, slices=None, projections=())
        size = 4 * whole.dimension + 16
        boxes = {
            f"ball and PCA box of {k}": (replace(ball, projections=whole.projections[i : i + 1]), size + 8 * k + 8)
            for i, k in enumerate(COMPONENTS)
        }
        known = {
            f"ball and head trained on {name}": (replace(ball, projections=(whole.projections[n + i],)), size + 16)
            for name, i in before.items()
        }
        return {
            "ball": (ball, size),
            f"ball and {SLICES} slices": (replace(ball, slices=whole.slices), size + 4 * SLICES),
            **boxes,
            "all of these": (
                replace(whole, projections=whole.projections[:n]),
                size + 4 * SLICES + 8 * sum(COMPONENTS),
            ),
            **known,
        }

    def skippable(self, head: Head) -> Bools:
        """The row groups [G] in which no row passes."""
        return np.asarray(np.maximum.reduceat(head.scores[self.ids], self.starts) <= head.limit)

    def proved(self, head: Head, vectors: Vectors) -> Bools:
        """The row groups of which bounds show it."""
        verifier = HeadVerifier(head.model.function)  # type: ignore[arg-type]
        n, nothing = len(self.sizes), np.zeros((len(self.sizes), 1))
        flags = nothing > 0
        regions = Regions(
            ("e",), nothing, nothing, np.arange(n), self.sizes, flags, flags, flags, flags, vectors={0: vectors}
        )
        boxes = verifier.blocks(regions)
        return np.asarray(verifier.linear(boxes.lower, boxes.upper).upper[:, 0] <= head.limit)


def shares(
    table: Table, heads: Sequence[Head], numbers: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """By kind of metadata: bytes per row group, and the mean share of the skippable row groups; `numbers` says which
    box is of which head from before, by head.
    """
    found: dict[str, list[float]] = {}
    sizes: dict[str, float] = {}
    for head in heads:
        skippable = table.skippable(head)
        for kind, (vectors, size) in table.kinds(numbers[head.name]).items():
            proved = table.proved(head, vectors)
            assert not (proved & ~skippable).any(), "a row was lost"
            found.setdefault(kind, []).append(float((proved & skippable).sum() / max(1, skippable.sum())))
            sizes[kind] = size
        found.setdefault("oracle: row groups that can be skipped", []).append(float(skippable.mean()))
    return {kind: {"bytes": sizes.get(kind, 0), "share": float(np.mean(values))} for kind, values in found.items()}
