"""The cheapest hull, 4 bytes: how much of each corner of a block's box the rows leave free along the diagonal.

With the distances s and t of a row from a corner along the two sides there, the corner is cut off where s + t is less
than the smallest over the rows, a cut of `hulls` with a = b. Together with the box these are the supports of the rows
in eight fixed directions (Kay and Kajiya, Ray tracing complex scenes, 1986).

    payload    4 bytes, the levels of the corners (0, 0), (1, 0), (0, 1), (1, 1); 0 is no cut
    level      i**2 (3 - 2 i) of i = byte / 255: fine steps near 0, where rows nearly fill their box, and near 1, where
               they lie on a diagonal. Rounded down, so that rows stay inside
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Payload = NDArray[np.uint8]

SIZE = 4
_TOLERANCE = 2.0**-48
"""Rows this far from a cut count as on it; s + t is off by less."""
_SHARE = np.arange(256) / 255
_LEVELS: Floats = _SHARE * _SHARE * (3 - 2 * _SHARE)


def encode(x: Floats, y: Floats) -> Payload:
    """The payload [4] of rows at places x, y [n] of the unit square, n at least 1.

    Sound because each level is at most the smallest s + t, but for the tolerance, which the slack of decoding covers.
    """
    total, rise = x + y, y - x
    free = [total.min(), 1.0 + rise.min(), 1.0 - rise.max(), 2.0 - total.max()]
    levels = np.searchsorted(_LEVELS, np.add(free, _TOLERANCE), side="right") - 1
    return np.maximum(levels, 0).astype(np.uint8)


def reach(payloads: Payload) -> Floats:
    """How far from its corner each cut of the payloads [N, 4] meets both sides [N, 4, 2]."""
    return np.repeat(_LEVELS[payloads][:, :, None], 2, axis=2)
