"""How DuckDB is made to read only the row groups that are left, by the cheapest route that is right for the query.

- `native`: nothing is skipped; the reference stays as it was written.
- `virtual files`: footers that list only the kept row groups (any version, any number of files).
- `row groups`: a condition on DuckDB 2.0's virtual column `file_row_group_number`, which prunes exactly.
- `rows`: a condition on `file_row_number`, one range per gap (DuckDB 1.5, one file).

DuckDB asks every row that is read for a condition once more, by a join where the list is long: on lineitem a scan of 5,
20 and 95 % of the row groups takes 2.3, 1.4 and 1.8 times as long as through virtual files. But a condition keeps file
names and row numbers real, so it is the choice for queries that read them. DuckDB 2.0 fails on a virtual column under
ORDER BY with LIMIT, so conditions are not used there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.engines import dialect
from skipml.engines.dialect import Node
from skipml.engines.places import Served
from skipml.engines.sql import Parser, Query, Reference
from skipml.engines.virtual import VirtualFiles
from skipml.footers import Footers
from skipml.identity import FileIdentity
from skipml.partitions import may_be_partitioned
from skipml.stores import RemoteFile

_MAX_GAPS = 32
"""Longer lists of row ranges cost more per row than they save (measured on DuckDB 1.5)."""

_ROW_GROUP_COLUMNS = ("file_index", "file_row_group_number")
_ROW_COLUMNS = ("file_row_number",)

_NEARLY_ALL = 0.9
"""A file is read as it is if more than this share of its row groups is kept: reading through Python costs a little."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of one reference: per file its kept row groups, or None where all are kept."""

    files: tuple[str, ...]
    states: tuple[FileIdentity | None, ...]
    row_groups: tuple[NDArray[np.int64] | None, ...]
    first_rows: tuple[NDArray[np.int64], ...]
    """Per file the first row of every row group, and behind the last."""
    exactly: bool = False
    """Whether a file is worth to be read without the few row groups that are not kept."""

    @classmethod
    def of(cls, footers: Footers, wanted: NDArray[np.bool_]) -> Kept:
        """The wanted row groups [N] of footers, and all of a file that cannot be read."""
        row_groups: list[NDArray[np.int64] | None] = []
        first_rows = []
        for i, error in enumerate(footers.errors):
            mine = footers.file_index == i
            unreadable = bool(error) or footers.identities[i] is None
            row_groups.append(None if unreadable or wanted[mine].all() else footers.row_group[mine & wanted])
            first_rows.append(np.concatenate([[0], np.cumsum(footers.n_rows[mine])]).astype(np.int64))
        return cls(footers.files, footers.identities, tuple(row_groups), tuple(first_rows))

    @property
    def everything(self) -> bool:
        """Whether nothing is skipped."""
        return all(kept is None for kept in self.row_groups)

    @property
    def is_remote(self) -> bool:
        """Whether the files are in a store: their footers are at hand, and DuckDB would read them once more."""
        return any(isinstance(file, RemoteFile) for file in self.files)


@dataclass(frozen=True, slots=True)
class Route:
    """The name of a route, and the table reference to run, or None to leave it as it is."""

    name: str
    node: Node | None
    note: str = ""
    served: Served = ()
    """The files that DuckDB is given, as `places` has them; with a condition those that it reads."""
    is_condition: bool = False
    """Whether a condition chooses the row groups, in a subquery without virtual columns."""


def choose(parser: Parser, query: Query, reference: Reference, kept: Kept, files: VirtualFiles) -> Route:
    """The route for one reference; raises FooterError or FileChangedError where a virtual file cannot be made."""
    whole = tuple((i, None) for i in range(len(kept.files)))
    if kept.everything and not kept.is_remote:
        return Route("native", None, served=whole)
    real = {name.lower() for name, _ in reference.schema}
    extra = [name for name in query.virtual_columns if name not in real]
    if not (extra or reference.option("filename") or reference.option("file_row_number")):
        found = listed(reference, kept, files, nearly_all=1.0 if kept.exactly else _NEARLY_ALL)
        served = tuple((i, None if path == kept.files[i] else kept.row_groups[i]) for i, path in found)
        return Route("virtual files", parser.read(reference, [path for _, path in found], None, ()), served=served)
    if kept.everything:
        return Route("native", None, served=whole)
    # A real column of that name hides the virtual one.
    hidden = bool(real & set(_ROW_GROUP_COLUMNS if dialect.ROW_GROUP_COLUMN else _ROW_COLUMNS))
    condition = _condition(kept, allowed=not hidden and not (dialect.ROW_GROUP_COLUMN and query.may_be_limited))
    if condition is None:
        note = "the query reads file names or row numbers, and no route keeps them real here"
        return Route("native", None, note, whole)
    if extra and query.names_columns_implicitly(reference):
        return Route(
            "native",
            None,
            f"the query reads {', '.join(extra)} beside a star, a whole row or a natural join; "
            "name the columns to let it skip",
            whole,
        )
    name = "row groups" if dialect.ROW_GROUP_COLUMN else "rows"
    read = tuple(enumerate(kept.row_groups))
    return Route(name, parser.read(reference, kept.files, condition, extra), served=read, is_condition=True)


def _condition(kept: Kept, *, allowed: bool) -> str | None:
    if not allowed:
        return None
    if dialect.ROW_GROUP_COLUMN:
        return _row_group_condition(kept.row_groups)
    if len(kept.files) != 1 or kept.row_groups[0] is None:
        return None
    return _row_condition(kept.row_groups[0], kept.first_rows[0])


def _row_group_condition(row_groups: Sequence[NDArray[np.int64] | None]) -> str:
    if len(row_groups) == 1:
        return _group_list(row_groups[0])
    parts = [
        f"(file_index = {i} AND {_group_list(groups)})"
        for i, groups in enumerate(row_groups)
        if groups is None or len(groups)
    ]
    return "(" + " OR ".join(parts) + ")" if parts else "FALSE"


def _group_list(groups: NDArray[np.int64] | None) -> str:
    if groups is None:
        return "file_row_group_number >= 0"
    return f"file_row_group_number IN ({', '.join(map(str, groups.tolist()))})" if len(groups) else "FALSE"


def _row_condition(groups: NDArray[np.int64], first_rows: NDArray[np.int64]) -> str | None:
    """Every gap between kept row groups as an excluded range of row numbers: DuckDB 1.5 prunes row groups by each."""
    if not len(groups):
        return "FALSE"
    breaks = np.flatnonzero(np.diff(groups) > 1)
    if len(breaks) + 2 > _MAX_GAPS:
        return None
    parts = [f"file_row_number >= {first_rows[groups[0]]}", f"file_row_number < {first_rows[groups[-1] + 1]}"]
    parts += [
        f"(file_row_number < {first_rows[groups[b] + 1]} OR file_row_number >= {first_rows[groups[b + 1]]})"
        for b in breaks
    ]
    return " AND ".join(parts)


def listed(
    reference: Reference, kept: Kept, files: VirtualFiles, *, nearly_all: float = _NEARLY_ALL
) -> list[tuple[int, str]]:
    """The files to read with their numbers: partly kept ones made virtual, those of which more than a share is kept as
    they are, and empty ones left out, where DuckDB's schema does not depend on them.

    The first file gives the schema; with union_by_name or hive partitions every file has a say.
    """
    all_matter = reference.option("union_by_name") or any(map(may_be_partitioned, kept.files))
    found: list[tuple[int, str | None]] = []
    virtual: list[tuple[str, FileIdentity, list[int] | None]] = []
    for i, (path, state, groups) in enumerate(zip(kept.files, kept.states, kept.row_groups, strict=True)):
        n_groups = len(kept.first_rows[i]) - 1
        if state is None or (not isinstance(path, RemoteFile) and _is_nearly_all(groups, n_groups, nearly_all)):
            found.append((i, path))
        elif groups is None:
            found.append((i, None))
            virtual.append((path, state, None))
        elif len(groups) or i == 0 or all_matter:
            found.append((i, None))
            virtual.append((path, state, groups.tolist()))
    urls = iter(files.add(virtual))
    return [(i, path if path is not None else next(urls)) for i, path in found]


def _is_nearly_all(groups: NDArray[np.int64] | None, n_groups: int, nearly_all: float) -> bool:
    return groups is None or len(groups) > nearly_all * n_groups
