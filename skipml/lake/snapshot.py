"""A table of a catalog at one version: its files then, what the catalog says of each, and how their rows are read.

Files of a snapshot are never rewritten by the formats that have them; what is deleted from them later is in a later
snapshot. A column is found in a file by its name, so one whose name has meant something else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipml.errors import SnapshotError
from skipml.footers import ColumnStats, Footers, read_footers
from skipml.identity import Path
from skipml.lake.buffers import indices
from skipml.lake.cached import listed
from skipml.lake.listing import Listing
from skipml.lake.stated import Stated
from skipml.metadata.refine import Refined, refine

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """The value that a column has in every row of a file, for each of N files where it is `given` [N]."""

    values: pa.Array
    given: NDArray[np.bool_]

    def take(self, files: Indices) -> Constant:
        """That of some files."""
        return Constant(self.values.take(indices(files)), self.given[files])

    def in_place_of(self, stats: ColumnStats, files: Indices, chosen: NDArray[np.bool_]) -> ColumnStats:
        """The same for the chosen blocks [M], where it is given for their files [M]; what was there for the others."""
        constant = Stated.constant(self.values).stats().divided(files)
        chosen = chosen & self.given[files]
        names = ("lower", "upper", "known", "all_null", "null_count", "may_be_nan", "reason")
        arrays = {name: np.where(chosen, getattr(constant, name), getattr(stats, name)) for name in names}
        return replace(stats, **arrays, missing=stats.missing & ~chosen)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The files of a table at one version, for `skipml.plan(snapshot, predicate)`: `Snapshot.iceberg(table)` or
    `Snapshot.delta(path)`. Rows that are deleted in it do not come back; files are skipped before they are opened.
    """

    name: str
    version: int
    schema: pa.Schema
    """Of the table, which every file is read as."""
    files: tuple[str, ...]
    n_rows: Indices
    """Per file, deleted rows included; 1 where it is not known."""
    n_bytes: Indices
    stated: Mapping[str, Stated] = field(repr=False)
    """What the catalog says of columns, by the names that they have in the schema."""
    constants: Mapping[str, Constant] = field(default_factory=dict, repr=False)
    """By name the columns that the catalog has values of, which files may lack."""
    deleted: Mapping[str, Indices] = field(default_factory=dict, repr=False)
    """The numbers of the rows that are deleted, ascending, for the files that have any."""
    refused: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Columns that cannot be read by name, and why."""

    @classmethod
    def iceberg(cls, table: Any, snapshot_id: int | None = None) -> Snapshot:
        """An Iceberg table of pyiceberg, by default at its current snapshot.

        Positional deletes and deletion vectors are applied. Raises SnapshotError for equality deletes, files that are
        no Parquet, and a snapshot that is not there.
        """
        from skipml.lake.iceberg import snapshot

        return snapshot(table, snapshot_id)

    @classmethod
    def delta(cls, table: Any, version: int | None = None) -> Snapshot:
        """A Delta table, by path or as a `deltalake.DeltaTable`, by default at its newest version.

        Deletion vectors are applied. Raises SnapshotError for column mapping and for a table that cannot be opened.
        """
        from skipml.lake.delta import snapshot

        return snapshot(table, version)

    def column(self, name: str) -> str:
        """The name of a column as the schema has it, without regard to case; raises SnapshotError."""
        known: list[str] = self.schema.names
        names = [own for own in known if own == name] or [own for own in known if own.lower() == name.lower()]
        if len(names) != 1:
            raise SnapshotError(f"{self.name} has no column {name!r}; its columns are {', '.join(known)}")
        if names[0] in self.refused:
            raise SnapshotError(f"{self.name}: column {names[0]!r} {self.refused[names[0]]}")
        return names[0]

    def listing(self, columns: Sequence[str], root: Path | None, cache: Path | None) -> Listing:
        """The files with what the catalog says of each as a whole."""
        n, own = len(self.files), {name: self.column(name) for name in columns}
        footers = Footers(
            files=self.files,
            identities=(None,) * n,
            errors=("",) * n,
            file_index=np.arange(n),
            row_group=np.zeros(n, np.int64),
            first_row=np.zeros(n, np.int64),
            n_rows=self.n_rows,
            n_bytes=self.n_bytes,
            columns={name: self._stats(own[name]) for name in own},
        )
        narrow = partial(self._narrowed, own, root, cache)
        nothing = np.zeros(n, np.bool_)
        return Listing(Refined(footers), narrow, np.zeros(n, np.int64), nothing, may_keep=False, needs_first=False)

    def _stats(self, name: str) -> ColumnStats:
        n = len(self.files)
        stats = (self.stated.get(name) or Stated.nothing(n)).stats()
        constant = self.constants.get(name)
        return stats if constant is None else constant.in_place_of(stats, np.arange(n), np.ones(n, np.bool_))

    def _narrowed(
        self, own: Mapping[str, str], root: Path | None, cache: Path | None, files: Indices
    ) -> Listing | Refined:
        """What footers say of some of the files, with the values that these lack."""
        paths = [self.files[i] for i in files.tolist()]
        constants = {name: self.constants[c].take(files) for name, c in own.items() if c in self.constants}
        if cache is None or not paths:
            return _completed(refine(read_footers(paths, list(own)), root), constants)
        listing = listed(paths, list(own), cache, root)

        def narrow(left: Indices) -> Listing | Refined:
            known = listing.narrow(left)
            taken = {name: constant.take(left) for name, constant in constants.items()}
            return _completed(known, taken) if isinstance(known, Refined) else known

        return replace(listing, whole=_completed(listing.whole, constants), narrow=narrow, needs_first=False)

    def check_as_stored(self, path: str) -> None:
        """Raise SnapshotError if the rows of a file are others than the table's: an engine that reads the file itself
        would give back what is deleted, or not know what is not in it.
        """
        if path in self.deleted:
            raise SnapshotError(f"{self.name}: rows of '{path}' are deleted; use plan.scan(), which leaves them out")
        stored = pq.read_schema(path)
        for column in self.schema:
            if column.name not in stored.names or not _is_alike(stored.field(column.name).type, column.type):
                raise SnapshotError(
                    f"{self.name}: '{path}' has no column {column.name!r} of type {column.type}; "
                    "use plan.scan(), which reads it as the table says"
                )


def _is_alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether types differ at most in how long a text may be."""
    return str(one).replace("large_", "") == str(other).replace("large_", "") or pa.types.is_nested(one)


def _completed(known: Refined, constants: Mapping[str, Constant]) -> Refined:
    """With the values of columns that files lack."""
    if not constants:
        return known
    footers, columns = known.footers, dict(known.footers.columns)
    for name, constant in constants.items():
        columns[name] = constant.in_place_of(columns[name], footers.file_index, columns[name].missing)
    coarser = None if known.coarser is None else _completed(known.coarser, constants)
    return replace(known, footers=replace(footers, columns=columns), coarser=coarser)
