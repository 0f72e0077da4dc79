"""Between which values the distances of the rows in balls lie.

The bounds are float64 and rounded outward by more than the float32 arithmetic of DuckDB's functions can be off, so
they hold for the distance that DuckDB computes as well as for the true one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from skipml.ann.metric import Metric, Singles
from skipml.metadata.enclosures import Vectors
from skipml.regions import Balls

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_UNIT = 2.0**-24
_TINY = float(np.finfo(np.float32).tiny)
COMPUTED: Mapping[Metric, tuple[float, float]] = {"l2": (0.0, 1e15), "ip": (0.0, 1e15), "cosine": (1e-9, 1e9)}
"""The lengths of vectors between which nothing leaves the range of float32, and beyond which nothing is concluded: of
cosine distances DuckDB 1.5 multiplies the squares of both.
"""
_UNIT_SLACK = 2.0**-21
"""How far a query that is normalised may be from where it belongs."""


def distance_bounds(metric: Metric, balls: Balls, query: Singles) -> tuple[Floats, Floats]:
    """Between which values the distance of every row of N blocks to a query [d] lies, [N] and [N]; -inf and inf where
    nothing is known. Where they are finite no distance is NaN.

    Sound by the triangle inequality; float64 is off from it by less than the slack that is taken.
    """
    q: Floats = query.astype(np.float64)
    length = float(np.sqrt(q @ q))
    least, most = COMPUTED[metric]
    known = (balls.norms[:, 1] < most) & (length < most)
    centers = balls.centers[:, : len(q)].astype(np.float64)
    error = (len(q) + 8) * _UNIT
    if metric == "ip":
        middle, half = -(centers @ q), length * balls.radii
        slack = 2 * error * length * (_lengths(centers) + balls.radii) + len(q) * _TINY
        return _where(known, middle - half - slack, middle + half + slack)
    if metric == "cosine":
        known &= (balls.norms[:, 0] > least) & (length > least)
        q /= max(length, least)
    middle = _lengths(centers - q)
    low = np.maximum(middle * (1 - 2.0**-40) - balls.radii, 0)
    high = middle * (1 + 2.0**-40) + balls.radii
    if metric == "cosine":
        off = 4 * error + _UNIT_SLACK
        return _where(known, low**2 / 2 - off, np.minimum(high**2 / 2, 2) + off)
    tiny = float(np.sqrt(len(q) * _TINY))
    return _where(known, low * (1 - error) - tiny, high * (1 + error) + tiny)


def around(metric: Metric, balls: Balls, dimension: int) -> Vectors:
    """The same balls around the vectors themselves, for models that read them.

    Sound because of cosine distances the balls are around x / |x|, and with lengths from a to b x is at most
    (b - a) / 2 + m r from m times the centre, m being (a + b) / 2; the others are in the space of the vectors, but
    for a further coordinate that is left out.
    """
    least, most = balls.norms[:, 0], balls.norms[:, 1]
    centers = balls.centers[:, :dimension].astype(np.float64)
    radii, known = balls.radii, most < COMPUTED[metric][1]
    if metric == "cosine":
        middle = (least + most) / 2
        known &= least > COMPUTED[metric][0]  # a zero vector has no direction
        centers, radii = centers * middle[:, None], (most - least) / 2 * (1 + _UNIT_SLACK) + middle * radii
    stored = np.where(known[:, None], centers, 0.0).astype(np.float32)
    lost = (np.abs(centers).max(axis=1, initial=0.0) * _UNIT + _TINY) * np.sqrt(dimension)
    nothing = np.zeros(len(known), np.bool_)
    radii, length = ((size + lost) * (1 + 2.0**-20) for size in (radii, most))
    return Vectors(known, nothing, nothing, stored, radii, length)


def _lengths(rows: Floats) -> Floats:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))


def _where(known: Bools, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    return np.where(known, low, -np.inf), np.where(known, high, np.inf)
