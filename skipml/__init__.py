"""skipml proves from Parquet metadata which row groups cannot hold a row that a model filter wants, and the engine
skips them.
"""

from __future__ import annotations

from skipml.adviser import Recommendation, recommend
from skipml.ann.index import VectorIndex
from skipml.decisions import EVALUATE, KEEP, SKIP
from skipml.engines.duckdb import Connection, connect
from skipml.enrich import enrich
from skipml.enrich_report import EnrichReport
from skipml.errors import (
    ConflictError,
    EnrichmentError,
    FileChangedError,
    FooterError,
    MetadataError,
    ModelError,
    PredicateError,
    RegistrationError,
    SchemaError,
    SkipmlError,
    SnapshotError,
    UnsupportedOperatorError,
    VectorError,
)
from skipml.lake.cache import CacheReport, build_cache
from skipml.lake.snapshot import Snapshot
from skipml.layout import Advice, Clustering, advise, cluster
from skipml.planning import plan
from skipml.plans import Plan
from skipml.predicates import Predicate
from skipml.report import Report
from skipml.scores import Model
from skipml.top_rows import TopRows, top_k

__version__ = "0.1.0"

__all__ = [
    "EVALUATE",
    "KEEP",
    "SKIP",
    "Advice",
    "CacheReport",
    "Clustering",
    "ConflictError",
    "Connection",
    "EnrichReport",
    "EnrichmentError",
    "FileChangedError",
    "FooterError",
    "MetadataError",
    "Model",
    "ModelError",
    "Plan",
    "Predicate",
    "PredicateError",
    "Recommendation",
    "RegistrationError",
    "Report",
    "SchemaError",
    "SkipmlError",
    "Snapshot",
    "SnapshotError",
    "TopRows",
    "UnsupportedOperatorError",
    "VectorError",
    "VectorIndex",
    "advise",
    "build_cache",
    "cluster",
    "connect",
    "enrich",
    "plan",
    "recommend",
    "top_k",
]
