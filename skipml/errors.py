"""Every error skipml raises on purpose.

    SkipmlError
    ├── ModelError (ValueError)          a model file or module that cannot be used
    │   └── UnsupportedOperatorError     an operator outside the supported set, named
    ├── FooterError (ValueError)         a Parquet file whose metadata cannot be read
    ├── SchemaError (ValueError)         a column that is missing or has a type no model input can have
    ├── PredicateError (ValueError)      a predicate that makes no sense: NaN limits, a class that does not exist
    ├── RegistrationError (ValueError)   a name or model that cannot be registered on a connection
    ├── MetadataError (ValueError)       skipml's own metadata is damaged, of another version or of another file
    ├── EnrichmentError (RuntimeError)   a file cannot be enriched or rewritten: read-only, full disk, changing data
    ├── FileChangedError (RuntimeError)  a file was rewritten between plan and scan
    ├── StoreError (OSError)             an object store does not answer, or refuses
    ├── SnapshotError (ValueError)       a table of a catalog that cannot be read as its format says
    ├── VectorError (ValueError)         a vector that an index cannot take: another dimension, NaN, infinite
    └── ConflictError (RuntimeError)     another writer is changing the same index

Each message says what went wrong, where (file, row group, column) and what to do about it.
"""

from __future__ import annotations


class SkipmlError(Exception):
    """The root of every error skipml raises on purpose."""


class ModelError(SkipmlError, ValueError):
    """A model file or module cannot be used."""


class UnsupportedOperatorError(ModelError):
    """The model contains an operator skipml does not evaluate; the message names it."""


class FooterError(SkipmlError, ValueError):
    """The metadata of a Parquet file cannot be read."""


class SchemaError(SkipmlError, ValueError):
    """A column is missing, or its type cannot be a model input."""


class PredicateError(SkipmlError, ValueError):
    """A predicate makes no sense for its score."""


class RegistrationError(SkipmlError, ValueError):
    """A name or model cannot be registered on a connection."""


class MetadataError(SkipmlError, ValueError):
    """skipml's own metadata is damaged, of another version or of another file."""


class EnrichmentError(SkipmlError, RuntimeError):
    """A file cannot be enriched or rewritten."""


class FileChangedError(SkipmlError, RuntimeError):
    """A file was rewritten between plan and scan; run the query again."""


class StoreError(SkipmlError, OSError):
    """An object store does not answer, or refuses what was asked; the message names the file."""


class SnapshotError(SkipmlError, ValueError):
    """A table of a catalog cannot be read exactly as its format says, or has no such column."""


class VectorError(SkipmlError, ValueError):
    """A vector cannot be indexed or searched for: another dimension, NaN, infinite."""


class ConflictError(SkipmlError, RuntimeError):
    """Another writer is changing the same index."""
