"""The numbers of lists after which a search may look at what it has found: four per doubling."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from skipml.ann.stopping import IntVector

Numbers = NDArray[np.int64] | NDArray[np.float32] | NDArray[np.float64]

FIRST = 1
_STEP = 2 ** (1 / 4)
_MOST = 1 << 24
"""More lists than any index has."""


@lru_cache(maxsize=64)
def grid(lists: int = _MOST) -> IntVector:
    """Every look at up to `lists` lists, which is the last, ascending."""
    found = [FIRST]
    while found[-1] < lists:
        found.append(max(found[-1] + 1, round(found[-1] * _STEP)))
    made = np.unique(np.minimum(found, max(lists, 1))).astype(np.int64)
    made.flags.writeable = False
    return made


def places(looks: IntVector, lists: Numbers) -> IntVector:
    """The place in a grid of the first look at so many lists or more; the last where there is none."""
    return np.minimum(np.searchsorted(looks, lists), len(looks) - 1)


def rounded(lists: Numbers) -> IntVector:
    """The first look at so many lists or more, (q,); an index may have fewer."""
    return grid()[places(grid(), lists)]
