"""The vector indexes of a database by the names of their tables, and the views that show their rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb

from skipml.engines.dialect import quote_name, quote_text
from skipml.errors import RegistrationError

if TYPE_CHECKING:
    from skipml.ann.index import VectorIndex

_WORD = re.compile(r"\w+")


@dataclass(slots=True)
class Indexes:
    """What all cursors of one database know of its indexes, by name in lower case."""

    by_name: dict[str, VectorIndex] = field(default_factory=dict)
    is_scalar: dict[str, bool] = field(default_factory=dict)
    """Functions of which it is known whether a row gives them one value, always the same."""
    types: dict[str, dict[str, str]] = field(default_factory=dict)
    """The types of columns as DuckDB reads them, by the query that gives them."""

    def add(self, name: str, index: VectorIndex, private: duckdb.DuckDBPyConnection) -> None:
        """Add an index under a name in lower case; `private` is a connection to the same database. Raises
        RegistrationError for a name that is taken.
        """
        tables = "SELECT lower(table_name) FROM duckdb_tables() UNION ALL SELECT lower(view_name) FROM duckdb_views()"
        if name not in self.by_name and (name,) in private.execute(tables).fetchall():
            raise RegistrationError(f"{name!r} is a table or a view already: choose another name")
        self.by_name = {**self.by_name, name: index}

    def may_be_named(self, sql: str) -> bool:
        """Whether the text may read an index; false positives cost an analysis, never a row."""
        return bool(self.by_name) and not self.by_name.keys().isdisjoint(_WORD.findall(sql.lower()))


@dataclass(slots=True)
class Views:
    """The views of one connection; each shows the rows of an index as it was when it was last opened or refreshed."""

    _made: dict[str, str] = field(default_factory=dict)

    def follow(self, indexes: Indexes, run: Callable[[str], object]) -> None:
        """Make the views that are missing or of another state."""
        for name, index in indexes.by_name.items():
            sql = view_sql(index)
            if self._made.get(name) != sql:
                run(f"CREATE OR REPLACE TEMP VIEW {quote_name(name)} AS {sql}")
                self._made[name] = sql
        for name in self._made.keys() - indexes.by_name.keys():
            run(f"DROP VIEW IF EXISTS temp.{quote_name(name)}")
            del self._made[name]


def view_sql(index: VectorIndex) -> str:
    """The rows of an index, each once: the user's columns, the vectors as arrays."""
    from skipml.ann.conditions import columns, rows_files
    from skipml.ann.postings import ROW_ID

    snapshot = index.snapshot
    files = ", ".join(quote_text(path) for path in rows_files(snapshot))
    deleted = snapshot.row_ids(snapshot.deleted).tolist()
    left_out = f" WHERE {ROW_ID} NOT IN ({', '.join(map(str, deleted))})" if deleted else ""
    return f"SELECT {columns(snapshot)} FROM read_parquet([{files}]){left_out}"
