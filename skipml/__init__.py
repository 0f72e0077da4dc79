"""skipml proves from Parquet metadata which row groups cannot hold a row that a model filter wants, and the engine
skips them.
"""

from __future__ import annotations

from skipml.decisions import EVALUATE, KEEP, SKIP, Plan, plan
from skipml.engines.duckdb import Connection, connect
from skipml.errors import (
    FileChangedError,
    FooterError,
    ModelError,
    PredicateError,
    RegistrationError,
    SchemaError,
    SkipmlError,
    UnsupportedOperatorError,
)
from skipml.predicates import Predicate
from skipml.report import Report
from skipml.scores import Model

__version__ = "0.1.0"

__all__ = [
    "EVALUATE",
    "KEEP",
    "SKIP",
    "Connection",
    "FileChangedError",
    "FooterError",
    "Model",
    "ModelError",
    "Plan",
    "Predicate",
    "PredicateError",
    "RegistrationError",
    "Report",
    "SchemaError",
    "SkipmlError",
    "UnsupportedOperatorError",
    "connect",
    "plan",
]
