"""Regions: what metadata knows about the model inputs of N blocks of rows, as a struct of arrays.

Unknown is a value, never a guess: an input whose metadata is missing, inexact or not understood is `unknown` for that
block, and nothing may be concluded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from skipml.footers import Footers
from skipml.metadata.enclosures import Vectors
from skipml.metadata.evidence import Evidence
from skipml.metadata.refine import ColumnBoxes, Refined
from skipml.parquet.texts import TextLimits
from skipml.recent import Derived

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class PairHull:
    """Half-planes around two inputs of N blocks: `normal` [N, K, 2] times the place in the unit square is at most
    `offset` [N, K] for every row whose two inputs are numbers; the square lies between `lower` and `upper` [N, 2].
    """

    inputs: tuple[int, int]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    normal: NDArray[np.float64]
    offset: NDArray[np.float64]

    def moved(self, inputs: tuple[int, int]) -> PairHull:
        """The same around other inputs that hold the same values."""
        return replace(self, inputs=inputs)

    def take(self, blocks: NDArray[np.bool_]) -> PairHull:
        """Those of some of the blocks, chosen by a mask [N]."""
        return PairHull(self.inputs, self.lower[blocks], self.upper[blocks], self.normal[blocks], self.offset[blocks])


@dataclass(frozen=True, slots=True, eq=False)
class Balls:
    """Balls around the vectors that a column holds in N blocks: `centers` [N, width] and `radii` [N], in the space of a
    metric, and between which lengths `norms` [N, 2] the vectors themselves lie.
    """

    centers: NDArray[np.float32] | NDArray[np.float64]
    radii: NDArray[np.float64]
    norms: NDArray[np.float64]

    def take(self, blocks: NDArray[np.bool_] | NDArray[np.int64]) -> Balls:
        """Those of some of the blocks, chosen by a mask [N] or by number."""
        return Balls(self.centers[blocks], self.radii[blocks], self.norms[blocks])


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Regions:
    """N blocks, each covered by the union of its parts (axis-parallel boxes over d model inputs).

    Shapes: `lower`, `upper` float64 [M, d], model inputs rounded outward, infinite where a side is unbounded or
    unknown; `block` int64 [M], ascending, the block of each part, every block having at least one; `n_rows` int64 [N];
    the flags bool [N, d], one per block and input.
    """

    columns: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    block: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    unknown: NDArray[np.bool_]
    """Nothing may be concluded from this input of the block."""
    all_null: NDArray[np.bool_]
    """Every row is NULL here, so no row has a score."""
    may_be_null: NDArray[np.bool_]
    """Some row may be NULL here, hence has a NULL score."""
    may_be_nan: NDArray[np.bool_]
    """Some row may be NaN here, hence has a NaN score."""
    hulls: tuple[PairHull, ...] = ()
    """Polygons around pairs of inputs, for whole blocks."""
    sources: tuple[str | None, ...] = ()
    """The column whose values an input is, if evidence speaks of it; empty where there is no evidence."""
    evidence: Evidence = field(default_factory=Evidence)
    """What is known of scores and single rows of the blocks."""
    coarser: Regions | None = None
    """Fewer blocks that cover these."""
    parent: NDArray[np.int64] | None = None
    """The block of `coarser` that each block belongs to [N]."""
    texts: Mapping[int, TextLimits] = field(default_factory=dict)
    """Limits of the inputs that are text, by number; as a number such an input is unknown."""
    balls: Mapping[str, Balls] = field(default_factory=dict)
    """Around the vectors of a column, by its name."""
    vectors: Mapping[int, Vectors] = field(default_factory=dict)
    """Around the vectors that an input is, by number; as a number such an input is unknown."""

    def __len__(self) -> int:
        return len(self.n_rows)

    def project(self, columns: Sequence[str]) -> Regions:
        """The same blocks seen through some of the inputs, in the order given; a repeated input is allowed, an absent
        one is a KeyError. Coarser blocks are left out, unless these are all inputs.
        """
        if tuple(columns) == self.columns:
            return self
        position = {name: i for i, name in enumerate(self.columns)}
        chosen = [position[name] for name in columns]
        number = {old: new for new, old in reversed(list(enumerate(chosen)))}
        hulls = (hull for hull in self.hulls if number.keys() >= set(hull.inputs))
        return Regions(
            columns=tuple(columns),
            lower=self.lower[:, chosen],
            upper=self.upper[:, chosen],
            block=self.block,
            n_rows=self.n_rows,
            unknown=self.unknown[:, chosen],
            all_null=self.all_null[:, chosen],
            may_be_null=self.may_be_null[:, chosen],
            may_be_nan=self.may_be_nan[:, chosen],
            hulls=tuple(hull.moved((number[hull.inputs[0]], number[hull.inputs[1]])) for hull in hulls),
            sources=tuple(self.sources[i] for i in chosen) if self.sources else (),
            evidence=self.evidence,
            texts={new: self.texts[old] for new, old in enumerate(chosen) if old in self.texts},
            balls=self.balls,
            vectors={new: self.vectors[old] for new, old in enumerate(chosen) if old in self.vectors},
        )

    def take(self, blocks: NDArray[np.bool_]) -> Regions:
        """Some of the blocks, chosen by a mask [N], numbered anew, without coarser ones."""
        parts = blocks[self.block]
        number = np.cumsum(blocks) - 1
        return Regions(
            columns=self.columns,
            lower=self.lower[parts],
            upper=self.upper[parts],
            block=number[self.block[parts]],
            n_rows=self.n_rows[blocks],
            unknown=self.unknown[blocks],
            all_null=self.all_null[blocks],
            may_be_null=self.may_be_null[blocks],
            may_be_nan=self.may_be_nan[blocks],
            hulls=tuple(hull.take(blocks) for hull in self.hulls),
            sources=self.sources,
            evidence=self.evidence.take(blocks),
            texts={i: limits.take(blocks) for i, limits in self.texts.items()},
            balls={name: balls.take(blocks) for name, balls in self.balls.items()},
            vectors={i: vectors.take(blocks) for i, vectors in self.vectors.items()},
        )


def from_refined(refined: Refined, columns: Sequence[str]) -> Regions:
    """One region per block from its footer and metadata, made once; see `from_footers`."""
    made, names = _made(refined), tuple(columns)
    if names not in made:
        inputs: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            inputs.setdefault(name, []).append(i)
        made[names] = with_metadata(refined, inputs, lambda footers: from_footers(footers, names))
    return made[names]


def _nothing(_: Refined) -> dict[tuple[str, ...], Regions]:
    return {}


_made = Derived(_nothing)
"""The regions of what is refined, by their columns."""


def with_metadata(
    refined: Refined, inputs: Mapping[str, Sequence[int]], regions_of: Callable[[Footers], Regions]
) -> Regions:
    """Regions of one box per block, made from footers, cut down by hulls and boxes over those columns whose values are
    `inputs`, with what is known of their scores; and the same for coarser blocks. Blocks of several boxes have the same
    blocks of one box as the coarser ones.
    """
    regions = regions_of(refined.footers)
    hulls = tuple(
        PairHull((inputs[a][0], inputs[b][0]), hull.lower, hull.upper, hull.normal, hull.offset)
        for hull in refined.hulls
        for a, b in [hull.columns]
        if inputs.get(a) and inputs.get(b)
    )
    names = {i: name for name, places in inputs.items() for i in places}
    whole = replace(
        regions,
        hulls=hulls,
        sources=tuple(names.get(i) for i in range(len(regions.columns))),
        evidence=refined.evidence,
        coarser=None if refined.coarser is None else with_metadata(refined.coarser, inputs, regions_of),
        parent=refined.parent,
        vectors={i: vectors for name, vectors in refined.vectors.items() for i in inputs.get(name, ())},
    )
    boxes = refined.boxes
    if boxes is None or not any(inputs.get(name) for name in boxes.columns):
        return whole
    return replace(_divided(whole, boxes, inputs), coarser=whole, parent=np.arange(len(whole)))


def _divided(regions: Regions, boxes: ColumnBoxes, inputs: Mapping[str, Sequence[int]]) -> Regions:
    """The same with boxes in place of the limits."""
    lower, upper = regions.lower[boxes.block], regions.upper[boxes.block]
    for k, name in enumerate(boxes.columns):
        for i in inputs.get(name, ()):
            lower[:, i] = np.fmax(lower[:, i], boxes.lower[:, k])
            upper[:, i] = np.fmin(upper[:, i], boxes.upper[:, k])
    # A block keeps its own box where none is left of it: nothing may follow from metadata that contradicts itself.
    left = (lower <= upper).all(axis=1)
    bare = np.bincount(boxes.block[left], minlength=len(regions)) == 0
    block = np.concatenate([boxes.block[left], np.flatnonzero(bare)])
    order = np.argsort(block, kind="stable")
    return replace(
        regions,
        lower=np.concatenate([lower[left], regions.lower[bare]])[order],
        upper=np.concatenate([upper[left], regions.upper[bare]])[order],
        block=block[order],
    )


def from_footers(footers: Footers, columns: Sequence[str]) -> Regions:
    """One box per row group over the columns, which must be among those the footers were read for (KeyError otherwise);
    a column given twice is two inputs.
    """
    stats = [footers.columns[name] for name in columns]
    shape = (len(footers), len(stats))

    def stack(arrays: Iterable[NDArray[Scalar]], dtype: type[Scalar]) -> NDArray[Scalar]:
        stacked = np.empty(shape, dtype=dtype)
        for i, array in enumerate(arrays):
            stacked[:, i] = array
        return stacked

    return Regions(
        columns=tuple(columns),
        lower=stack((column.lower for column in stats), np.float64),
        upper=stack((column.upper for column in stats), np.float64),
        block=np.arange(len(footers)),
        n_rows=footers.n_rows,
        unknown=~stack((column.known for column in stats), np.bool_),
        all_null=stack((column.all_null for column in stats), np.bool_),
        may_be_null=stack((column.null_count != 0 for column in stats), np.bool_),
        may_be_nan=stack((column.may_be_nan for column in stats), np.bool_),
        texts={i: column.text for i, column in enumerate(stats) if column.text is not None},
    )
