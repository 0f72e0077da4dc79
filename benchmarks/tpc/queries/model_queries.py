"""The queries with a model predicate: .sql files beside a suite, each with a comment that says what it asks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tpc.suite import ModelSpec, Suite


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """A query and the models it calls. Its ORDER BY is total, so that its result is one list of rows."""

    name: str
    sql: str
    models: tuple[ModelSpec, ...]

    @property
    def purpose(self) -> str:
        """The comment in its first line."""
        return self.sql.splitlines()[0].removeprefix("-- ")


def model_queries(suite: Suite) -> list[ModelQuery]:
    """The suite's queries, in order; raises ValueError for one that calls no model or does not say what it is for."""
    return [_read(path, suite) for path in sorted((suite.folder / "queries").glob("*.sql"))]


def _read(path: Path, suite: Suite) -> ModelQuery:
    sql = path.read_text()
    called = tuple(spec for spec in suite.models if re.search(rf"\b{spec.name}(_class)?\(", sql))
    if not called or not sql.startswith("-- "):
        names = ", ".join(spec.name for spec in suite.models)
        raise ValueError(f"{path} must begin with a comment and call one of {names}")
    return ModelQuery(path.stem, sql, called)
