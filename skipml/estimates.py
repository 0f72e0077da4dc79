"""How many rows pass a predicate, estimated from the rows that enrichment stored."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from skipml.errors import SkipmlError
from skipml.predicates import Predicate
from skipml.regions import Regions

_MOST_ROWS = 8192


def selectivity(predicate: Predicate, regions: Regions) -> float | None:
    """The share of the rows that pass, None where no rows are stored or a condition is not understood.

    Blocks count by their rows, and within a block every sampled row counts the same (stratified sampling). Rows that
    are NULL or NaN in a stored column are not among the sampled ones.
    """
    known = regions.evidence.witnesses
    if known is None or not predicate.inputs or not len(regions):
        return None
    sample = known.rows[:, known.extremes :]
    if None in regions.sources or not set(regions.sources) <= set(known.columns) or not sample.shape[1]:
        return None
    step = -(-sample.shape[0] * sample.shape[1] // _MOST_ROWS)
    sample, weight = sample[::step], np.repeat(regions.n_rows[::step], sample.shape[1]).astype(np.float64)
    values = sample.reshape(-1, len(known.columns))[:, [known.columns.index(str(name)) for name in regions.sources]]
    weight[np.isnan(values).any(axis=1)] = 0.0
    if not weight.any():
        return None
    try:
        passed = predicate.matches(pa.table(dict(zip(regions.columns, values.T, strict=True))))
    except SkipmlError:
        return None
    return float(weight[passed].sum() / weight.sum())
