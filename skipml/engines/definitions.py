"""What one connection defines in SQL: macros and views for what any connection has registered, and the user's own."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import duckdb

from skipml.engines.indexes import Indexes, Views
from skipml.engines.macros import Macros
from skipml.engines.registry import Registry


class Definitions:
    """The macros of registered models and the views of registered indexes on one connection, and what the registry has
    to know about those of the user.
    """

    def __init__(self, plain: duckdb.DuckDBPyConnection, registry: Registry, indexes: Indexes) -> None:
        self._plain = plain
        self._registry = registry
        self._indexes = indexes
        self._macros = Macros()
        self._views = Views()

    def follow(self, *, takes_result: bool) -> None:
        """Have the models and indexes that are registered now; `takes_result` as in UserSession."""
        run = partial(_rows, self._plain.execute if takes_result else self._plain.sql)
        with contextlib.suppress(duckdb.Error):  # in an aborted transaction: the next statement tries again
            self._macros.follow(self._registry.functions, run)
            self._views.follow(self._indexes, run)

    def note_existing(self) -> None:
        """Take note of the views and macros that are there already."""
        views = self._plain.execute("SELECT sql FROM duckdb_views() WHERE NOT internal").fetchall()
        macros = self._plain.execute(
            "SELECT function_name, macro_definition FROM duckdb_functions() "
            "WHERE macro_definition IS NOT NULL AND NOT internal"
        ).fetchall()
        self._registry.note_existing([str(sql) for (sql,) in views], macros)


def _rows(method: Any, sql: str) -> list[tuple[object, ...]]:
    """The rows of the last of some statements, none if it gives none."""
    result = method(sql)
    rows: list[tuple[object, ...]] = result.fetchall() if result is not None else []
    return rows
