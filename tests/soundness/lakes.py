"""Random Parquet lakes: tables whose row groups hold what breaks readers, written by every writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.writers import write_duckdb, write_fastparquet, write_polars

Rng = np.random.Generator
Floats = NDArray[np.float64]

INF, NAN = float("inf"), float("nan")
_DAY = 86_400


@dataclass(frozen=True)
class Kind:
    """A type of column: ordinary values are `scale` apart around `centre`, as model inputs; `nasty` ones are not."""

    type: pa.DataType
    nasty: tuple[Any, ...]
    centre: float = 0.0
    scale: float = 1.0
    arguments: tuple[str, ...] = ("{}",)
    """SQL that makes a column a model input."""
    unit: float = 1.0
    """Model inputs per unit of the stored number."""
    least: float = -INF
    most: float = INF
    exact: bool = True
    """Whether DuckDB and `model_inputs` make the same double of every value; else they may differ in its last digit."""

    def value(self, x: float) -> Any:
        """The value that is `x` scales from the centre."""
        number = (self.centre + self.scale * x) / self.unit
        if pa.types.is_floating(self.type):
            return number
        if pa.types.is_boolean(self.type):
            return number > 0
        if pa.types.is_decimal(self.type):
            return Decimal(repr(number)).quantize(Decimal(1).scaleb(-self.type.scale))
        return round(min(max(number, self.least), self.most))

    def array(self, values: list[Any]) -> pa.Array:
        if not pa.types.is_temporal(self.type):
            return pa.array(values, self.type)
        return pa.array(values, pa.int32() if self.type.bit_width == 32 else pa.int64()).cast(self.type)


_FLOATING = ("{}", "{}", "{}", "{} * 2 - 1", "abs({})", "-{}")
KINDS: Mapping[str, Kind] = {
    "double": Kind(
        pa.float64(), (NAN, NAN, INF, -INF, -0.0, 0.0, 5e-324, -2e-310, 1.7e308, 2.0**53 + 2), arguments=_FLOATING
    ),
    "float": Kind(pa.float32(), (NAN, NAN, INF, -INF, -0.0, 1e-45, 3.4e38, 16777217.0), arguments=_FLOATING),
    "int32": Kind(pa.int32(), (-(2**31), 2**31 - 1, 0), centre=1000, scale=300),
    "int64": Kind(pa.int64(), (-(2**63), 2**63 - 1, -(2**53) - 1), centre=2.0**53, scale=4),
    "uint64": Kind(pa.uint64(), (0, 2**64 - 1, 2**53 + 1), centre=2.0**63, scale=4096, least=0),
    "decimal": Kind(pa.decimal128(18, 3), (Decimal("999999999999999.999"), Decimal("-0.001")), exact=False),
    "wide_decimal": Kind(pa.decimal128(38, 12), (Decimal("9" * 26 + "." + "9" * 12), Decimal(2**53 + 1)), exact=False),
    "boolean": Kind(pa.bool_(), (True,), arguments=("{}::INTEGER",)),
    "date": Kind(pa.date32(), (-700_000, 700_000, 0), 1.6e9, 30 * _DAY, ("epoch({})",), unit=_DAY),
    "timestamp": Kind(
        pa.timestamp("us"), (-(10**16) - 1, 2**61 + 1), 1.7e9, 5000, ("epoch({})",), unit=1e-6, exact=False
    ),
    "timestamp_ns": Kind(pa.timestamp("ns"), (-(2**60) - 1, -1), 1.7e9, 5000, ("epoch({})",), unit=1e-9, exact=False),
    "time": Kind(
        pa.time64("us"), (0, 86_399_999_999), 40_000, 9000, ("epoch({})",), 1e-6, 0, 86_399_999_999, exact=False
    ),
}
NASTY: Mapping[str, Callable[[Any], bool]] = {
    "anything": lambda value: True,
    "NaN": lambda value: str(value) == "nan",
    "infinity": lambda value: abs(value) == INF,
    "negative zero": lambda value: str(value) == "-0.0",
    "denormal": lambda value: 0 < abs(value) < 1e-37,
    "beyond 2^53": lambda value: 2**24 < abs(value) < INF,
}
"""Which nasty values there may be."""
PLACES: Mapping[str, Callable[[Rng, int], list[int]]] = {
    "anywhere": lambda rng, rows: np.flatnonzero(rng.random(rows) < 0.2).tolist(),
    "first row": lambda rng, rows: [0],
    "last row": lambda rng, rows: [rows - 1],
    "all rows": lambda rng, rows: list(range(rows)),
}
"""Where they lie in a row group."""
FASTPARQUET_KINDS = ("double", "float", "int32", "int64")
_FLAVOURS = ("ordinary", "ordinary", "ordinary", "constant", "some null", "all null", "nasty", "nasty and null")


@dataclass(frozen=True)
class Lake:
    """A shape of a lake; the data follow from it and the seed alone."""

    kinds: tuple[str, ...]
    writer: str
    group_rows: tuple[int, ...]
    n_files: int
    ascending: bool
    """Whether later row groups hold larger values, so that there is something to skip."""
    seed: int
    what: str = "anything"
    """Which of the nasty values there are, one of NASTY."""
    where: str = "anywhere"
    """Where they lie in a row group, one of PLACES."""

    @property
    def columns(self) -> str:
        return "abc"[: len(self.kinds)]

    def table(self, rng: Rng) -> list[pa.Table]:
        """The row groups, an `id` and the columns a, b, c in each."""
        starts = np.cumsum((0, *self.group_rows)).tolist()
        groups = [
            [self._column(rng, KINDS[kind], self._position(i), shape) for kind in self.kinds]
            for i, rows in enumerate(self.group_rows)
            for shape in [rng.standard_normal(rows)]
        ]
        return [
            pa.table([pa.array(range(start, start + rows), pa.int64()), *group], ["id", *self.columns])
            for start, rows, group in zip(starts, self.group_rows, groups, strict=False)
        ]

    def _position(self, group: int) -> float:
        return 4.0 * group / len(self.group_rows) - 2.0 if self.ascending else 0.0

    def _column(self, rng: Rng, kind: Kind, position: float, shape: Floats) -> pa.Array:
        """Values around a position; those of some columns follow the `shape` [rows] that the columns share."""
        rows = len(shape)
        flavour = str(rng.choice(_FLAVOURS))
        spread = 0.0 if flavour == "constant" else float(rng.choice([0.3, 1.0, 3.0]))
        centre = position + 0.3 * rng.standard_normal()
        noise = rng.standard_normal(rows)
        deviation = shape + 0.1 * noise if rng.random() < 0.5 else noise
        values = [kind.value(x) for x in (centre + spread * deviation).tolist()]
        if flavour == "constant":
            values = values[:1] * rows
        nasty = [value for value in kind.nasty if NASTY[self.what](value)]
        for i in PLACES[self.where](rng, rows) if "nasty" in flavour and nasty else ():
            values[i] = nasty[int(rng.integers(len(nasty)))]
        share = 1.0 if flavour == "all null" else 0.2 if "null" in flavour else 0.0
        return kind.array([None if missing else v for v, missing in zip(values, rng.random(rows) < share, strict=True)])

    def write(self, folder: Path, rng: Rng) -> tuple[list[Path], pa.Table]:
        """Write the files into an empty folder, and read back what the writer made of the values."""
        return write_groups(self.writer, self.table(rng), self.n_files, folder)


def write_groups(writer: str, groups: list[pa.Table], n_files: int, folder: Path) -> tuple[list[Path], pa.Table]:
    """Write row groups into files of an empty folder, and read back what the writer made of the values."""
    size = -(-len(groups) // n_files)
    paths = []
    for number in range(0, len(groups), size):
        path = folder / f"part{number:02}.parquet"
        _write(writer, groups[number : number + size], path)
        paths.append(path)
    return paths, pa.concat_tables([pq.read_table(path) for path in paths])


def _write(writer: str, groups: list[pa.Table], path: Path) -> None:
    table = pa.concat_tables(groups)
    if writer == "pyarrow":  # row groups of different sizes
        with pq.ParquetWriter(path, table.schema) as file:
            for group in groups:
                file.write_table(group)
        return
    write = {"polars": write_polars, "fastparquet": write_fastparquet, "duckdb": write_duckdb}[writer]
    write(table, path, groups[0].num_rows)


@st.composite
def lakes(draw: st.DrawFn, *, by_duckdb: bool = False) -> Lake:
    """Lakes of 2 to 8 small row groups, or of fewer large ones, which is all that DuckDB writes."""
    writer = "duckdb" if by_duckdb else draw(st.sampled_from(["pyarrow", "pyarrow", "polars", "fastparquet"]))
    names = FASTPARQUET_KINDS if writer == "fastparquet" else tuple(KINDS)
    kinds = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
    if by_duckdb:
        group_rows = (2048,) * draw(st.integers(2, 3))
    elif writer == "pyarrow":
        group_rows = tuple(draw(st.lists(st.integers(1, 40), min_size=2, max_size=8)))
    else:
        group_rows = (draw(st.integers(5, 40)),) * draw(st.integers(2, 8))
    return Lake(
        kinds=tuple(kinds),
        writer=writer,
        group_rows=group_rows,
        n_files=1 if writer == "fastparquet" else draw(st.sampled_from([1, 1, 2])),
        ascending=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
