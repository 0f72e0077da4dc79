"""A lazy DuckDB relation that is planned each time it is executed, so that it never rests on metadata of files that
have changed since.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from types import FrameType
from typing import Any, Protocol

import duckdb

from skipml.engines import scope
from skipml.engines.query_plan import QueryPlan
from skipml.errors import FileChangedError

_FINISHES = {
    *("arrow", "create", "df", "fetch_arrow_reader", "fetch_arrow_table", "fetch_record_batch"),
    *("fetchall", "fetchdf", "fetchnumpy", "insert_into", "pl", "record_batch", "show", "tf", "to_arrow_reader"),
    *("to_arrow_table", "to_csv", "to_df", "to_parquet", "to_table", "torch", "write_csv", "write_parquet"),
}
_GOES_ON = {"close", "execute", "fetchone", "fetchmany", "fetch_df_chunk"}
"""Methods of a result that stays: it is read further, or is closed."""


class RelationPlanner(Protocol):
    """The connection of a relation."""

    def plan_relation(self, sql: str, variables: Mapping[str, Any]) -> tuple[duckdb.DuckDBPyRelation, QueryPlan] | None:
        """A relation that reads what is left of a query, and its plan; None where the query runs as it is."""

    def follow_models(self) -> None:
        """Have the models that are registered now, whichever connection has registered them."""


class Relation:
    """A DuckDBPyRelation whose results skip row groups; every other attribute is the relation's own.

    `sql` is its text where it is known better than the relation knows it, `variables` those of the caller that it
    reads.
    """

    def __init__(
        self,
        plain: duckdb.DuckDBPyRelation,
        sql: str | None,
        variables: Mapping[str, Any],
        connection: RelationPlanner,
    ) -> None:
        self._plain = plain
        self._sql = sql
        self._variables = variables
        self._connection = connection
        self._running: tuple[Any, QueryPlan | None] | None = None
        self._at_end = False

    @property
    def plain(self) -> duckdb.DuckDBPyRelation:
        """The relation without skipping."""
        return self._plain

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._plain, name)
        if not callable(attribute):
            return self._wrapped(attribute)
        if name in _FINISHES or name in _GOES_ON:
            return partial(self._execute, name)
        return partial(self._derive, attribute)

    def _derive(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a method that makes another relation, perhaps from SQL that names variables of the caller."""
        visible = self._visible(sys._getframe(1))
        self._connection.follow_models()
        given = {name: plain_value(value) for name, value in kwargs.items()}
        value = scope.call(visible, method, *map(plain_value, args), **given)
        return self._wrapped(value, scope.named(visible, *args, *kwargs.values()))

    def _visible(self, frame: FrameType) -> dict[str, Any]:
        """The caller's variables; those that were found when the relation was made come first."""
        found = {name: plain_value(value) for name, value in scope.visible(frame).items()}
        return {**found, **self._variables}

    def _wrapped(self, value: Any, variables: Mapping[str, Any] | None = None) -> Any:
        if not isinstance(value, duckdb.DuckDBPyRelation):
            return value
        return Relation(value, None, {**(variables or {}), **self._variables}, self._connection)

    def _execute(self, name: str, *args: Any, **kwargs: Any) -> Any:
        variables = self._visible(sys._getframe(1))
        if name == "execute":
            self._running, self._at_end = None, False
        is_new = self._running is None
        running, plan = self._running or self._planned()
        self._running = (running, plan)
        read = {**variables, **plan.variables} if plan is not None else variables
        with file_changes_named():
            try:
                value = scope.call(read, getattr(running, name), *args, **kwargs)
            except duckdb.Error as error:
                if not is_new or plan is None or isinstance(error, duckdb.InterruptException):
                    raise
                plan.check_files(has_failed=True)
                self._running = (self._plain, None)
                with original_error(error):
                    value = scope.call(variables, getattr(self._plain, name), *args, **kwargs)
        if plan is not None:
            plan.check_files()
        self._at_end = self._at_end or name == "close" or (name in _GOES_ON and _is_empty(value))
        if name in _FINISHES and not self._at_end:
            self._running = None
        return self if name == "execute" else self._wrapped(value)

    def _planned(self) -> tuple[Any, QueryPlan | None]:
        """The relation to execute now: a rewritten one where the query calls a model, else the plain one."""
        try:
            sql = self._sql if self._sql is not None else self._plain.sql_query()
        except duckdb.Error:
            return self._plain, None
        return self._connection.plan_relation(sql, self._variables) or (self._plain, None)

    def __len__(self) -> int:
        return len(self._plain)

    def __getitem__(self, name: str) -> Any:
        return self._wrapped(self._plain[name])

    def __contains__(self, name: str) -> bool:
        return name in self._plain

    def __repr__(self) -> str:
        running, _ = self._planned()
        return repr(running)

    def __str__(self) -> str:
        running, _ = self._planned()
        return str(running)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        running, _ = self._planned()
        return running.__arrow_c_stream__(requested_schema)


def plain_value(value: Any) -> Any:
    """DuckDB's own relation for one of ours; anything else as it is."""
    return value.plain if isinstance(value, Relation) else value


def plain_relations(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The same variables, with DuckDB's own relations for ours."""
    return {name: plain_value(value) for name, value in variables.items()}


def relation_or_none(value: Any) -> duckdb.DuckDBPyRelation | None:
    """A relation of DuckDB; None for anything else."""
    return value if isinstance(value, duckdb.DuckDBPyRelation) else None


def _is_empty(rows: Any) -> bool:
    return rows is None or (hasattr(rows, "__len__") and not len(rows))


@contextlib.contextmanager
def original_error(error: duckdb.Error) -> Iterator[None]:
    """Raise the first error where trying again fails only because that one has aborted the transaction."""
    try:
        yield
    except duckdb.TransactionException:
        raise error from None


@contextlib.contextmanager
def file_changes_named() -> Iterator[None]:
    """Turn DuckDB's wrapping of our FileChangedError, raised while it opens a virtual file, back into that error."""
    try:
        yield
    except duckdb.Error as error:
        if "was rewritten between plan and scan" in str(error):
            raise FileChangedError(str(error)) from error
        raise
