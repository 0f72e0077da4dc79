"""Samples: some rows of some row groups, and the regions that metadata of these rows would give.

A sample is a small table of its own: limits, hulls and boxes are those of its rows, so that what they let a filter skip
can be compared with what holds no row that passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.errors import EnrichmentError, SchemaError
from skipml.features import input_columns, model_inputs
from skipml.footers import Footers, read_footers
from skipml.metadata import boxes as boxes_of
from skipml.metadata import hulls
from skipml.regions import PairHull, Regions
from skipml.summaries import Summary, Wanted, box_bits, summarise

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SAMPLE_ROWS = 4096
"""Of each row group."""

_PAIRS_OF_ALL_ROWS = 1000
"""Of so many pairs all sampled rows are looked at, of more of them fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """Boxes `lower`, `upper` [M, d] that together hold every row of the blocks `block` [M], ascending."""

    lower: Floats
    upper: Floats
    block: Integers


class Sample:
    """At most a few thousand rows of each of G row groups, evenly spread and in order, as model inputs.

    `values`, `null` [n, d] and `group` [n] are all rows together; `n_rows` [G] are the row groups' own rows, `share`
    of the rows of the table.
    """

    def __init__(
        self, columns: Sequence[str], row_groups: Iterable[pa.Table], n_rows: int = SAMPLE_ROWS, share: float = 1.0
    ) -> None:
        self.columns = tuple(columns)
        self.share = share
        counts, self._rows = [], list[pa.Table]()
        for rows in row_groups:
            counts.append(rows.num_rows)
            chosen = np.unique(np.linspace(0, max(rows.num_rows - 1, 0), min(n_rows, rows.num_rows)).astype(np.int64))
            values, null = model_inputs(rows.take(chosen), columns)
            arrays = [pa.array(values[:, i], mask=null[:, i]) for i in range(len(self.columns))]
            self._rows.append(pa.table(arrays, list(self.columns)))
        self.n_rows = np.array(counts, np.int64)
        self.group = np.repeat(np.arange(len(counts)), [rows.num_rows for rows in self._rows])
        none = np.zeros((0, len(self.columns)))
        inputs = [(none, none.astype(np.bool_)), *(model_inputs(rows, self.columns) for rows in self._rows)]
        self.values: Floats = np.concatenate([values for values, _ in inputs])
        self.null: Bools = np.concatenate([null for _, null in inputs])
        self._hulls: dict[tuple[tuple[str, str], int], NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def limits(self) -> Regions:
        """One box per row group, with exact flags."""
        found = [summarise(rows, Wanted(self.columns, (), hulls.SIZES[0], 0)) for rows in self._rows]
        lower, upper = _stacked(found, len(self.columns))
        null, nan = (np.array([getattr(s.limits, name) for s in found]).reshape(lower.shape) for name in _COUNTS)
        none = lower > upper
        all_null = null == np.array([rows.num_rows for rows in self._rows])[:, None]
        return Regions(
            columns=self.columns,
            lower=np.where(none, -np.inf, lower),
            upper=np.where(none, np.inf, upper),
            block=np.arange(len(self)),
            n_rows=self.n_rows,
            unknown=none & ~all_null,
            all_null=all_null,
            may_be_null=null > 0,
            may_be_nan=nan > 0,
        )

    def boxes(self, count: int) -> Cover:
        """That many boxes over all columns."""
        found = [summarise(rows, Wanted(self.columns, (), hulls.SIZES[0], count)).boxes for rows in self._rows]
        lower, upper = self.limits.lower, self.limits.upper
        finite = np.isfinite(lower) & np.isfinite(upper)
        low, high, block = boxes_of.decode(
            np.array(found), np.where(finite, lower, 0.0), np.where(finite, upper, 0.0), box_bits(count)
        )
        return Cover(np.where(finite[block], low, lower[block]), np.where(finite[block], high, upper[block]), block)

    def runs(self, count: int) -> Cover:
        """The limits of that many runs of rows in each row group."""
        if count == 1:
            return Cover(self.limits.lower, self.limits.upper, self.limits.block)
        wanted = Wanted(self.columns, (), hulls.SIZES[0], 0)
        found, block = list[Summary](), list[int]()
        for i, rows in enumerate(self._rows):
            bounds = np.linspace(0, rows.num_rows, count + 1).astype(np.int64).tolist()
            parts = [rows.slice(a, b - a) for a, b in pairwise(bounds) if b > a]
            found += [summarise(part, wanted) for part in parts]
            block += [i] * len(parts)
        lower, upper = _stacked(found, len(self.columns))
        none = lower > upper
        return Cover(np.where(none, -np.inf, lower), np.where(none, np.inf, upper), np.array(block, np.int64))

    def hull(self, pair: tuple[str, str], size: int) -> PairHull:
        """The hulls of a pair of columns, `size` bytes each."""
        planes = hulls.decode(self._payloads(pair, size))
        inputs = self.columns.index(pair[0]), self.columns.index(pair[1])
        lower, upper = self.limits.lower[:, inputs], self.limits.upper[:, inputs]
        with np.errstate(invalid="ignore", over="ignore"):  # of infinite limits
            usable = np.isfinite(planes.offset) & np.isfinite(upper - lower).all(axis=1, keepdims=True)
        normal, offset = np.where(usable[:, :, None], planes.normal, 0.0), np.where(usable, planes.offset, np.inf)
        return PairHull(inputs, lower, upper, normal, offset)

    @cached_property
    def _places(self) -> Floats:
        """Where the rows lie within the limits of their row groups [n, d], 0 to 1; NaN where a number is missing."""
        lower, upper = self.limits.lower[self.group], self.limits.upper[self.group]
        with np.errstate(all="ignore"):
            places = (self.values - lower) / np.where(upper > lower, upper - lower, 1.0)
        return np.where(self.null | ~np.isfinite(places), np.nan, places)

    def corners_cut(self, pair: tuple[str, str]) -> float:
        """About the mean share of the box of a pair that is free at its corners: a quick look before `share_cut`."""
        if not len(self.group):
            return 0.0
        step = 1 + len(self.columns) ** 2 // _PAIRS_OF_ALL_ROWS
        x, y = (self._places[::step, self.columns.index(name)] for name in pair)
        starts = np.flatnonzero(np.diff(self.group[::step], prepend=-1))
        sides = (x + y, 1.0 + y - x, 1.0 + x - y, 2.0 - x - y)
        free = np.stack([np.fmin.reduceat(side, starts) for side in sides])
        return float(np.nan_to_num(np.clip(free, 0.0, 1.0) ** 2 / 2).sum(axis=0).mean())

    def share_cut(self, pair: tuple[str, str], size: int) -> float:
        """The mean share of the box of a pair that its hulls cut off."""
        return float(np.mean([_outside(payload) for payload in self._payloads(pair, size)])) if len(self) else 0.0

    def regions(self, cover: Cover, polygons: Sequence[PairHull]) -> Regions:
        """The row groups with hulls, and with the boxes of a cover in place of their limits."""
        whole = replace(self.limits, hulls=tuple(polygons))
        if cover.block is self.limits.block:
            return whole
        parent = np.arange(len(self))
        return replace(whole, lower=cover.lower, upper=cover.upper, block=cover.block, coarser=whole, parent=parent)

    def _payloads(self, pair: tuple[str, str], size: int) -> NDArray[np.uint8]:
        if (pair, size) not in self._hulls:
            wanted = Wanted(pair, (pair,), size, 0)
            found = [summarise(rows.select(pair), wanted).hulls[0] for rows in self._rows]
            self._hulls[pair, size] = np.array(found, np.uint8).reshape(len(self), size)
        return self._hulls[pair, size]


_COUNTS = ("null_count", "nan_count")


def _stacked(found: Sequence[Summary], d: int) -> tuple[Floats, Floats]:
    lower, upper = (np.array([getattr(s.limits, side) for s in found], np.float64) for side in ("lower", "upper"))
    return lower.reshape(-1, d), upper.reshape(-1, d)


def _outside(payload: NDArray[np.uint8]) -> float:
    """The share of the unit square outside a hull."""
    x, y = hulls.vertices(payload).T
    return 1.0 - 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def read_sample(files: Sequence[str], columns: Sequence[str] | None, row_groups: int, n_rows: int) -> Sample:
    """Read row groups that are evenly spread over the files, each once; all columns that can be inputs by default.

    Raises FooterError for a file that cannot be read or may not be, SchemaError for a column that is no model input,
    EnrichmentError where there are no rows.
    """
    # Arrow ends the process on encrypted columns, so our own reader looks first.
    footers = read_footers(files, [], strict=True)
    filled = np.flatnonzero(footers.n_rows > 0)
    if not len(filled):
        raise EnrichmentError(f"{files[0]}: there is no row to sample; pass files that hold rows")
    names = input_columns(pq.read_schema(files[0]), columns, files[0])
    chosen = filled[np.unique(np.linspace(0, len(filled) - 1, row_groups).astype(np.int64))]
    share = float(footers.n_rows[chosen].sum() / footers.n_rows.sum())
    return Sample(names, _tables(footers, chosen.tolist(), names), n_rows, share)


def _tables(footers: Footers, chosen: Sequence[int], names: Sequence[str]) -> Iterator[pa.Table]:
    for i in chosen:
        path, group = footers.files[int(footers.file_index[i])], int(footers.row_group[i])
        try:
            with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
                spelled = {name.lower(): name for name in file.schema_arrow.names}
                rows = file.read_row_group(group, columns=[spelled.get(name.lower(), name) for name in names])
            model_inputs(rows.slice(0, 0), names)
        except SchemaError as error:
            raise SchemaError(f"{path}: {error}") from error
        except (OSError, pa.ArrowException) as error:
            raise EnrichmentError(f"{path}, row group {group}: cannot be read: {error}; repair the file") from error
        yield rows
