"""The order of rows by their vectors: lists of near vectors, as an index has them, and near lists behind each other."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.ann import clusters
from skipml.enclosing import LARGEST, largest
from skipml.errors import SchemaError, SkipmlError
from skipml.rewrite import Source, quote, relation
from skipml.vectors import common_dimension, is_vector, vectors_of

Singles = NDArray[np.float32]

_SAMPLE_VALUES = 1 << 26
_LAST = np.iinfo(np.uint64).max


def vector_column(table: Source, names: list[str]) -> str | None:
    """The column of vectors that is named, as the table spells it; None where the names are of numbers.

    Raises SchemaError for a column of vectors beside others.
    """
    vectors = {field.name.lower(): field.name for field in table.schema if is_vector(field.type)}
    named = [vectors[name.lower()] for name in names if name.lower() in vectors]
    if named and len(names) > 1:
        raise SchemaError(f"'{table.files[0]}': rows are ordered by one column of vectors, not by {', '.join(names)}")
    return named[0] if named else None


def vector_order(con: duckdb.DuckDBPyConnection, table: Source, column: str, row_group_rows: int) -> str:
    """An SQL expression for the place of a row's list; rows without a vector of numbers come last.

    Raises SkipmlError without faiss.
    """
    try:
        import faiss  # noqa: F401
    except ImportError:
        raise SkipmlError("ordering rows by vectors needs faiss: pip install 'skipml[ann]'") from None
    sample = _sample(con, table, column)
    count = min(clusters.n_lists(table.n_rows), -(-table.n_rows // row_group_rows), max(1, len(sample) // 8))
    centroids = clusters.train(sample, count) if len(sample) else sample
    centroids = centroids[_in_line(centroids)]

    def keys(rows: pa.ChunkedArray) -> pa.Array:
        vectors, usable = vectors_of(rows, sample.shape[1], column)
        found = np.full(len(vectors), _LAST, np.uint64)
        usable &= largest(vectors) <= LARGEST
        if usable.any() and len(centroids):
            found[usable] = clusters.assign(vectors[usable].astype(np.float32), centroids, 1)[:, 0]
        return pa.array(found)

    udf: dict[str, Any] = {"type": "arrow", "null_handling": "special"}  # texts are typed as enums
    con.create_function("skipml_list", keys, ["FLOAT[]"], "UBIGINT", **udf)
    return f"skipml_list(CAST({quote(column)} AS FLOAT[]))"


def _sample(con: duckdb.DuckDBPyConnection, table: Source, column: str) -> Singles:
    """Some of the vectors of numbers, at random."""
    few = con.sql(f"SELECT {quote(column)} FROM {relation(table.files)} LIMIT 1000").to_arrow_table().column(0)
    dimension = common_dimension(few)
    if not dimension:
        return np.zeros((0, 1), np.float32)
    wanted = max(1, _SAMPLE_VALUES // dimension)
    sampled = (
        f"SELECT {quote(column)} FROM {relation(table.files)} USING SAMPLE reservoir({wanted} ROWS) REPEATABLE (1)"
    )
    vectors, usable = vectors_of(con.sql(sampled).to_arrow_table().column(0), dimension, column)
    return vectors[usable & (largest(vectors) <= LARGEST)].astype(np.float32)


def _in_line(centroids: Singles) -> NDArray[np.int64]:
    """An order of centroids [c, d] in which neighbours are near: halves along the direction in which they spread most,
    and halves of these.
    """

    def ordered(mine: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(mine) < 3:
            return mine
        away = centroids[mine].astype(np.float64)
        away -= away.mean(axis=0)
        direction = away[np.argmax((away**2).sum(axis=1))]
        for _ in range(8):
            direction = away.T @ (away @ direction)
            direction /= max(float(np.sqrt(direction @ direction)), 1e-300)
        order = mine[np.argsort(away @ direction, kind="stable")]
        middle = len(order) // 2
        return np.concatenate([ordered(order[:middle]), ordered(order[middle:])])

    return ordered(np.arange(len(centroids)))
