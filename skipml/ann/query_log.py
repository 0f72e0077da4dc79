"""The queries that an index was calibrated with, kept beside it for the time after a compaction."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skipml.ann.manifest import LOGS, file_number
from skipml.ann.metric import Singles
from skipml.ann.vectors import VectorType, query_matrix
from skipml.errors import VectorError
from skipml.metadata.replacement import publish, synchronise, temporary

_COLUMN = "query"
_MOST = 10_000


def keep(folder: str, version: int, k: int, queries: Singles) -> dict[str, str]:
    """Write the queries [q, d] of a calibration for k rows, at most 10,000 -> what the records say; raises OSError."""
    name = f"log-{file_number(version)}.parquet"
    chosen = np.random.default_rng(0).permutation(len(queries))[:_MOST]
    column = VectorType(queries.shape[1], is_int8=False).to_arrow(queries[np.sort(chosen)])
    with temporary(folder) as (path, file):
        pq.write_table(pa.table({_COLUMN: column}), file)
        synchronise(file, 0o644)
        publish(path, os.path.join(folder, name))
    return {str(k): name}


def kept(folder: str, records: Mapping[str, Any], k: int, dimension: int) -> Singles | None:
    """The queries [q, d] of the calibration for k rows; None where there are none or they cannot be read."""
    name = records.get(LOGS, {}).get(str(k))
    if name is None:
        return None
    try:
        return query_matrix(pq.read_table(os.path.join(folder, name))[_COLUMN], dimension)
    except (OSError, pa.ArrowException, KeyError, VectorError):
        return None
