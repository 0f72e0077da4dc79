"""DuckDB: a connection on which registered models are SQL functions and filters on them skip row groups."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb

from skipml.engines import scope
from skipml.engines.definitions import Definitions
from skipml.engines.indexes import Indexes
from skipml.engines.planner import Planner
from skipml.engines.query_plan import QueryPlan
from skipml.engines.registry import Registry, check_identifier
from skipml.engines.relation import (
    Relation,
    file_changes_named,
    original_error,
    plain_relations,
    plain_value,
    relation_or_none,
)
from skipml.engines.remote import Stores
from skipml.engines.scan_regions import MetadataPlaces
from skipml.engines.scorers import Scorer, choose_scorer
from skipml.engines.session import UserSession
from skipml.engines.sql import STANDIN_DATABASE, Parser
from skipml.engines.statements import embedded_query, given_only
from skipml.engines.virtual import VirtualFiles
from skipml.errors import PredicateError, RegistrationError
from skipml.identity import Path
from skipml.report import Report
from skipml.scores import Model

if TYPE_CHECKING:
    from skipml.ann.index import VectorIndex


@dataclass(slots=True)
class _Shared:
    """What all cursors of one database share."""

    scorer: Scorer
    places: MetadataPlaces
    files: VirtualFiles = field(default_factory=VirtualFiles)
    registry: Registry = field(default_factory=Registry)
    indexes: Indexes = field(default_factory=Indexes)
    stores: Stores = field(default_factory=Stores)
    lock: threading.Lock = field(default_factory=threading.Lock)


def connect(
    database: Any = ":memory:", *, metadata_root: Path | None = None, metadata_cache: Path | None = None, **kwargs: Any
) -> Connection:
    """Open a DuckDB database, or take over an open connection, as a Connection; further arguments are
    duckdb.connect's. `metadata_root` is the folder, or its URL, below which `enrich` has written, if it was not beside
    the files, and `metadata_cache` a file that `build_cache` has written: footers of local files that it has an entry
    of are not read.

    With `config={"allow_unsigned_extensions": "true"}` skipml's own extension scores rows, if it is built.
    """
    plain = database if isinstance(database, duckdb.DuckDBPyConnection) else duckdb.connect(database, **kwargs)
    root, cache = (None if path is None else os.fspath(path) for path in (metadata_root, metadata_cache))
    shared = _Shared(choose_scorer(plain), MetadataPlaces(root, cache))
    plain.register_filesystem(shared.files)
    attached = plain.execute("SELECT 1 FROM duckdb_databases() WHERE database_name = ?", [STANDIN_DATABASE]).fetchone()
    if attached is None:
        plain.execute(f"ATTACH ':memory:' AS {STANDIN_DATABASE} (READ_WRITE)")
    return Connection(plain, shared)


class Connection:
    """A DuckDBPyConnection on which model filters skip row groups; whatever is not listed here is DuckDB's own.

    Set `skipping` to False to run every query as it is. `last_report` says what was done with the last query that
    calls a model.
    """

    def __init__(self, plain: duckdb.DuckDBPyConnection, shared: _Shared) -> None:
        self._plain = plain
        self._shared = shared
        self.skipping = True
        self.last_report: Report | None = None
        self._running: QueryPlan | None = None
        self._definitions = Definitions(plain, shared.registry, shared.indexes)
        parser = Parser(plain.cursor())
        own = (shared.files, shared.registry, shared.scorer, shared.places, shared.stores, shared.indexes)
        self._planner = Planner(parser, *own)

    def register_model(self, name: str, model: Model) -> None:
        """Make a model a SQL function: `name(inputs)` gives its score, or the list of its outputs, and
        `name_class(inputs)` the class of a model with several.

        Raises RegistrationError for a name that is not an identifier or is taken.
        """
        check_identifier(name)
        if not isinstance(model, Model):
            raise RegistrationError(
                f"{name}: expected a skipml.Model, not {type(model).__name__}; "
                "load it with skipml.Model.load or Model.from_torch"
            )
        scorer, registry = self._shared.scorer, self._shared.registry
        with self._shared.lock:
            functions = scorer.functions(name, model)
            self._check_free(tuple(function.name for function in functions))
            try:
                scorer.register(functions, self._plain, self._planner.parser.private)
            except duckdb.Error as error:
                raise RegistrationError(
                    f"the model {name!r} cannot be registered: {error}; "
                    "choose another name or call remove_function first"
                ) from error
            registry.add(functions)
            self._definitions.note_existing()
        self.follow_models()

    def register_index(self, name: str, index: VectorIndex) -> None:
        """Make the rows of a vector index a table: every query on it gives each row once, as the index was when it was
        opened or last refreshed, and those for its nearest rows, `ORDER BY array_distance(v, $q) LIMIT k`, go through
        the index. Rows whose vector is NULL are not in it.

        Raises RegistrationError for a name that is not an identifier or is taken.
        """
        check_identifier(name)
        with self._shared.lock:
            self._shared.indexes.add(name.lower(), index, self._planner.parser.private)
        self.follow_models()

    def register_filesystem(self, filesystem: Any) -> None:
        """DuckDB's `register_filesystem`; model filters skip in files of its protocol too."""
        self._plain.register_filesystem(filesystem)
        self._shared.stores.add(filesystem)

    def unregister_filesystem(self, name: str) -> None:
        """DuckDB's `unregister_filesystem`."""
        self._plain.unregister_filesystem(name)
        self._shared.stores.remove(name)

    def set_recall(self, recall: float | None) -> None:
        """The recall that queries for nearest rows on this connection aim at, as promised by the index (see
        `VectorIndex.calibrate`); None, as at first: they are answered exactly.
        """
        if recall is not None and not 0 < recall < 1:
            raise PredicateError(f"a recall lies between 0 and 1, or is None for exact answers, not {recall}")
        self._planner.recall = recall

    def _check_free(self, names: tuple[str, ...]) -> None:
        """Raise RegistrationError if a function has one of the names, on any connection or on this one."""
        known = "SELECT lower(function_name) FROM duckdb_functions() WHERE lower(function_name) IN (?, ?)"
        row = self._planner.parser.private.execute(known, [names[0], names[-1]]).fetchone()
        taken = {*names} & self._shared.registry.functions.keys() or (row and {row[0]})
        if taken:
            raise RegistrationError(
                f"{min(taken)!r} is a function already: choose another name or call remove_function first"
            )

    def create_function(self, name: str, *args: Any, **kwargs: Any) -> Connection:
        """DuckDB's `create_function`; raises RegistrationError for the name of a model."""
        if name.lower() in self._shared.registry.functions:
            raise RegistrationError(f"{name!r} is a model: choose another name or call remove_function first")
        self._plain.create_function(name, *args, **kwargs)
        self._shared.registry.stable.clear()
        self._shared.indexes.is_scalar.clear()
        return self

    def remove_function(self, name: str) -> Connection:
        """Remove a function; a removed model no longer filters anything."""
        registry = self._shared.registry
        with self._shared.lock:
            functions = registry.of(name)
            if not functions:
                self._plain.remove_function(name)
                return self
            left = [function for function in registry.functions.values() if function not in functions]
            self._shared.scorer.unregister(functions, left, self._plain, self._planner.parser.private)
            registry.remove(functions)
        self.follow_models()
        return self

    def sql(self, query: Any, *, alias: str = "", params: object = None) -> Relation | duckdb.DuckDBPyRelation | None:
        """DuckDB's `sql`: a lazy relation for a SELECT, planned anew at each execution; anything else is executed at
        once.
        """
        return self._sql(query, alias, params, scope.visible(sys._getframe(1)))

    def query(self, query: Any, *, alias: str = "", params: object = None) -> Relation | duckdb.DuckDBPyRelation | None:
        """The same as `sql`."""
        return self._sql(query, alias, params, scope.visible(sys._getframe(1)))

    def from_query(
        self, query: Any, *, alias: str = "", params: object = None
    ) -> Relation | duckdb.DuckDBPyRelation | None:
        """The same as `sql`."""
        return self._sql(query, alias, params, scope.visible(sys._getframe(1)))

    def execute(self, query: Any, parameters: object = None) -> Connection:
        """DuckDB's `execute`: run the statements, the last one's result is fetched from this connection."""
        variables = scope.visible(sys._getframe(1))
        if not isinstance(query, str) or not self._may_skip(query):
            self._running = None
            self._prepare(query, takes_result=True)
            scope.call(plain_relations(variables), self._plain.execute, query, **given_only(parameters=parameters))
            return self
        statements = self._statements(query) or [(query, False)]
        for i, (text, _) in enumerate(statements, start=1):
            given = parameters if i == len(statements) else None
            self._execute(text, given, variables)
        return self

    def explain(self, query: str, params: object = None) -> Report:
        """What skipml would do with a query, without running it: per row group the decision, its bounds and the
        method.
        """
        variables = plain_relations(scope.visible(sys._getframe(1)))
        self.follow_models()
        plan = self._plan_statement(query, params, UserSession(self._plain, variables, takes_result=False))
        if plan is not None:
            return plan.report
        return Report(query, notes=("no registered model is called",), scorer=self._shared.scorer.description)

    def cursor(self) -> Connection:
        """A further connection to the same database, with the same models."""
        other = Connection(self._plain.cursor(), self._shared)
        other.skipping = self.skipping
        other.set_recall(self._planner.recall)
        return other

    duplicate = cursor

    def close(self) -> None:
        """Close the connection."""
        self._planner.parser.close()
        self._plain.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._plain, name)
        if name.startswith("fetch") or name in (
            "df",
            "arrow",
            "pl",
            "torch",
            "tf",
            "to_arrow_table",
            "to_arrow_reader",
        ):
            return lambda *args, **kwargs: self._fetch(attribute, args, kwargs)
        return partial(self._relations, attribute) if callable(attribute) else attribute

    def _relations(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a method of DuckDB's connection; a relation it gives can be filtered by a model too."""
        variables = plain_relations(scope.visible(sys._getframe(1)))
        self.follow_models()
        value = scope.call(variables, method, *map(plain_value, args), **plain_relations(kwargs))
        if not isinstance(value, duckdb.DuckDBPyRelation):
            return value
        return Relation(value, None, scope.named(variables, *args, *kwargs.values()), self)

    def _fetch(self, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with file_changes_named():
            value = method(*args, **kwargs)
        if self._running is not None:
            self._running.check_files()
        return value

    def _sql(
        self, query: Any, alias: str, params: object, variables: Mapping[str, Any]
    ) -> Relation | duckdb.DuckDBPyRelation | None:
        named = given_only(alias=alias or None, params=params)
        self.follow_models()
        if not isinstance(query, str) or not self.skipping or not self._has_any():
            self._prepare(query, takes_result=False)
            return relation_or_none(scope.call(plain_relations(variables), self._plain.sql, query, **named))
        statements = self._statements(query)
        for text, _ in statements[:-1]:
            self._execute(text, None, variables)
        if not statements:
            return None
        last, is_select = statements[-1]
        if is_select and params is None:
            plain = scope.call(plain_relations(variables), self._plain.sql, last, **named)
            return Relation(plain, last, scope.named(plain_relations(variables), last), self)
        return relation_or_none(self._run(last, params, variables, self._plain.sql, named, takes_result=False))

    def _statements(self, query: str) -> list[tuple[str, bool]]:
        """The texts of the statements, and whether each is a SELECT; what DuckDB expands (PIVOT) stays in one piece."""
        statements = self._plain.extract_statements(query)
        if not all(statement.query.strip() for statement in statements):
            return [(query, False)]
        return [(s.query, str(s.type).rsplit(".", 1)[-1].startswith("SELECT")) for s in statements]

    def plan_relation(self, sql: str, variables: Mapping[str, Any]) -> tuple[duckdb.DuckDBPyRelation, QueryPlan] | None:
        """A relation that reads what is left of a query, and its plan; None where the query runs as it is."""
        self.follow_models()
        if not self._may_skip(sql):
            return None
        registry = self._shared.registry
        known = registry.functions
        plan = self._planner.plan(sql, None, UserSession(self._plain, variables, takes_result=False))
        self.last_report = plan.report
        if plan.sql is None:
            return None
        try:
            relation = scope.call({**variables, **plan.variables}, self._plain.sql, plan.sql)
        except duckdb.Error:
            return None
        return (relation, plan) if registry.still_has(known, sql) else None

    def _execute(self, sql: str, parameters: object, variables: Mapping[str, Any]) -> None:
        given = given_only(parameters=parameters)
        self._run(sql, parameters, variables, self._plain.execute, given, takes_result=True)

    def _run(
        self,
        sql: str,
        parameters: object,
        variables: Mapping[str, Any],
        method: Any,
        given: Mapping[str, Any],
        *,
        takes_result: bool,
    ) -> Any:
        """Run one statement, rewritten where that helps; if the rewritten one fails, as it was."""
        variables = plain_relations(variables)
        self._prepare(sql, takes_result=takes_result)
        registry = self._shared.registry
        known = registry.functions
        plan = self._plan_statement(sql, parameters, UserSession(self._plain, variables, takes_result=takes_result))
        self._running = plan
        if plan is None or plan.sql is None:
            return scope.call(variables, method, sql, **given)
        with file_changes_named():
            try:
                result = scope.call({**variables, **plan.variables}, method, plan.sql, **plan.given(given))
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                plan.check_files(has_failed=True)
                self._running = None
                with original_error(error):
                    result = scope.call(variables, method, sql, **given)
        plan.check_files()
        if not registry.still_has(known, sql):  # it may have been planned with one model and run with another
            raise RegistrationError("a model was removed or replaced while a query called it; run the query again")
        return result

    def _plan_statement(self, sql: str, parameters: object, session: UserSession) -> QueryPlan | None:
        """The plan of a SELECT or of the SELECT inside a CTAS, COPY, INSERT or EXPLAIN; None where no model is
        called.
        """
        if not self._may_skip(sql):
            return None
        before, query, after = embedded_query(self._planner.parser, sql)
        plan = self._planner.plan(query, parameters, session)
        self.last_report = plan.report
        return replace(plan, sql=before + plan.sql + after) if plan.sql is not None else plan

    def _may_skip(self, sql: str) -> bool:
        shared = self._shared
        return self.skipping and (shared.registry.may_be_called(sql) or shared.indexes.may_be_named(sql))

    def _has_any(self) -> bool:
        return bool(self._shared.registry.functions or self._shared.indexes.by_name)

    def _prepare(self, query: object, *, takes_result: bool) -> None:
        """Before a statement: take note of a definition that calls a model or hides the Parquet reader, and follow the
        other connections' models.
        """
        if isinstance(query, str):
            self._shared.registry.note(query)
        self._definitions.follow(takes_result=takes_result)

    def follow_models(self) -> None:
        """Have the models that are registered now, whichever connection has registered them."""
        self._definitions.follow(takes_result=False)
