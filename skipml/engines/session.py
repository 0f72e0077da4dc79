"""What only the user's own connection knows: its tables, views, settings and the caller's variables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from skipml.engines import scope
from skipml.engines.dialect import KEEPS_CASE, PLANS_FOLLOW_SETTINGS, quote_name, quote_text
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.sql import STANDIN_DATABASE, Schema, schema_of

_OWN_VIEW = (
    "(NOT internal AND (database_name, schema_name) IN ((current_database(), current_schema()), ('temp', 'main')))"
)


class FileNameTakenError(NotAnalysableError):
    """A table or a view has a name that was taken for that of a file."""


@dataclass(frozen=True, slots=True)
class UserSession:
    """The user's connection while one query is planned (see `sql.Session`).

    With `takes_result` the query is about to replace the connection's pending result anyway; without, that result is
    left alone.
    """

    plain: duckdb.DuckDBPyConnection
    variables: Mapping[str, object]
    takes_result: bool
    trusts_names: bool = True
    """A name that ends as files do is taken for one, which `logical_plan` makes sure of; else it is looked up."""
    _trusted: set[str] = field(default_factory=set)
    _known: dict[str, bool] = field(default_factory=dict)
    """The names of tables and views, and whether a name is that of a view whose text counts."""

    def catalog(self, names: Sequence[str]) -> Mapping[str, str | None]:
        """Tables and views among the names, of all databases and schemas; a view's text only where no other table or
        view has its name and DuckDB would find it under that name alone.
        """
        if self.trusts_names and all(name.endswith(".parquet") and '"' not in name for name in names):
            self._trusted.update(names)
            return {}
        if not self._known:  # all names at once: DuckDB goes through all of them for each question
            rows = self._rows(
                "SELECT lower(table_name), false FROM duckdb_tables() WHERE database_name <> ? "
                f"UNION ALL SELECT lower(view_name), {_OWN_VIEW} FROM duckdb_views()",
                [STANDIN_DATABASE],
            )
            for name, is_view in rows:
                self._known[str(name)] = str(name) not in self._known and bool(is_view)
        texts = self._view_texts([name for name in names if self._known.get(name)])
        return {name: texts.get(name) for name in names if name in self._known}

    def _view_texts(self, names: Sequence[str]) -> dict[str, str]:
        """The SQL of views; DuckDB takes long to print them all."""
        if not names:
            return {}
        wanted = ", ".join(map(quote_text, names))
        rows = self._rows(
            f"SELECT lower(view_name), sql FROM duckdb_views() WHERE lower(view_name) IN ({wanted}) AND {_OWN_VIEW}"
        )
        return {str(name): str(sql) for name, sql in rows if sql is not None}

    def variable(self, name: str) -> Schema | None:
        """The schema DuckDB sees in a variable of the caller."""
        if name not in self.variables:
            return None
        return schema_of(self._rows(f"DESCRIBE SELECT * FROM {quote_name(name)}"))

    def logical_plan(self, sql: str) -> tuple[str, int]:
        """The serialized plan of a query, and the threads that DuckDB may use; raises FileNameTakenError if a name that
        was taken for that of a file is a table or a view.
        """
        names = sorted(self._trusted) if self.trusts_names else []
        rows = self._rows(
            "SELECT json_serialize_plan(?, skip_null := true, skip_empty := true), "
            "current_setting('integer_division'), current_setting('preserve_identifier_case'), "
            "current_setting('threads')" + ", json_serialize_plan(?)" * len(names),
            [sql, *map(_describes, names)],
        )
        plan, divides_integers, case, threads, *looked_up = map(str, rows[0])
        for name, found in zip(names, looked_up, strict=True):
            if not _is_missing(name, found):
                raise FileNameTakenError(f"{name} is a table or a view")
        if divides_integers == "True" and not PLANS_FOLLOW_SETTINGS:
            raise NotAnalysableError("DuckDB 1.5 does not serialize plans rightly under integer_division")
        if case.lower() not in KEEPS_CASE:
            raise NotAnalysableError("DuckDB does not print names back rightly without preserve_identifier_case")
        return plan, int(threads)

    def output_names(self, sql: str) -> list[str]:
        """The names of the columns that a query gives."""
        return [str(row[0]) for row in self._rows(f"DESCRIBE {sql}")]

    def search_path(self) -> bool:
        """Whether DuckDB looks for relative paths elsewhere than in the working directory."""
        return bool(self._rows("SELECT current_setting('file_search_path')")[0][0])

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """The rows of the result of a query."""
        return self._rows(sql)

    def arrays(self, sql: str) -> dict[str, NDArray[np.generic]]:
        """The columns of the result of a query, masked where they are NULL."""
        found: dict[str, NDArray[np.generic]] = self._result(sql, None).fetchnumpy()
        return found

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = self._result(sql, list(parameters) or None).fetchall()
        return rows

    def _result(self, sql: str, given: list[object] | None) -> Any:
        if self.takes_result:
            return scope.call(self.variables, self.plain.execute, sql, given)
        return scope.call(self.variables, self.plain.sql, sql, params=given)


def _describes(name: str) -> str:
    """A query that DuckDB can bind only if a table or a view has the name."""
    return f"SELECT 1 FROM system.main.pragma_table_info({quote_text(quote_name(name))})"


def _is_missing(name: str, serialized: str) -> bool:
    """Whether DuckDB says of that query that there is no such table."""
    answer = json.loads(serialized)
    message = str(answer.get("error_message", ""))
    return answer.get("error_type") == "catalog" and message.startswith(f"Table with name {name} does not exist")
