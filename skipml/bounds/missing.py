"""Blocks whose boxes say behind the numbers which inputs may be missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.polygons import Hull
from skipml.recent import Derived
from skipml.regions import Regions

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MissingToo:
    """Blocks whose boxes say behind the numbers [M, d] which may be missing [M, d]."""

    lower: Floats
    upper: Floats
    block: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    hulls: tuple[Hull, ...]


def missing_too(regions: Regions) -> MissingToo:
    """Sound because the boxes of a block hold its rows but for the numbers that these lack, a row may lack any that the
    block may hold a NaN in, and what is unknown may be anything.
    """
    unknown = regions.unknown[regions.block]
    may_miss = (regions.may_be_nan[regions.block] | unknown).astype(np.float64)
    return MissingToo(
        np.hstack([np.where(unknown, -np.inf, regions.lower), np.zeros_like(may_miss)]),
        np.hstack([np.where(unknown, np.inf, regions.upper), may_miss]),
        regions.block,
        regions.n_rows,
        regions.hulls,
    )


with_missing = Derived(missing_too)


def around(rows: Floats, slack: Floats) -> tuple[Floats, Floats]:
    """Boxes [n, 2 d] around rows [n, d], NaN where they lack a number, that hold what lies within `slack` [d] of them.

    Sound because what is missing is missing to any reader.
    """
    missing = np.isnan(rows)
    number, flags = np.where(missing, 0.0, rows), missing.astype(np.float64)
    return np.hstack([number - slack, flags]), np.hstack([number + slack, flags])


def lack_nothing(upper: Floats, n_inputs: int) -> NDArray[np.bool_]:
    """Which boxes that end at `upper` [M, d or 2 d] hold only rows that have all their numbers: a polygon says nothing
    of others.
    """
    return np.asarray(~(upper[:, n_inputs:] > 0).any(axis=1), np.bool_)
