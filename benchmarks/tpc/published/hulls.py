"""The published hull, of 16 x 16 grid cells, and the exact one, as regions: baselines of our own making."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from skipml.metadata.hulls import to_unit
from skipml.regions import PairHull

Floats = NDArray[np.float64]

GRID = 16
_SLACK = 1e-9
"""In units of the box: more than what rounding may move a row or an edge by."""
_VERTEX_BITS = 10
"""As published: a cell and one of its corners."""


def grid_corners(unit: Floats) -> Floats:
    """The corners of the grid cells that hold a point, in units of the box."""
    cells = np.unique(np.minimum((unit * GRID).astype(np.int64), GRID - 1), axis=0)
    corners: Floats = np.concatenate([cells + step for step in ([0, 0], [0, 1], [1, 0], [1, 1])]) / GRID
    return corners


def all_pairs(
    blocks: Sequence[Floats], corners: Callable[[Floats], Floats] = lambda unit: unit
) -> tuple[tuple[PairHull, ...], float]:
    """Hulls of all pairs of inputs of blocks of rows [n, d], around `corners` of the points in their box, and the bytes
    that the vertices of a block take in mean, 10 bits each.
    """
    d = blocks[0].shape[1]
    found, n_vertices = [], 0
    for pair in combinations(range(d), 2):
        lower = np.array([block[:, pair].min(axis=0) for block in blocks])
        upper = np.array([block[:, pair].max(axis=0) for block in blocks])
        planes = []
        for block, low, high in zip(blocks, lower, upper, strict=True):
            unit = np.stack([to_unit(block[:, i], low[k], high[k]) for k, i in enumerate(pair)], axis=1)
            normal, offset = _half_planes(corners(unit))
            n_vertices += max(len(offset), 4)
            planes.append((normal, offset))
        found.append(_padded((pair[0], pair[1]), (lower, upper), planes))
    return tuple(found), n_vertices * _VERTEX_BITS / 8 / len(blocks)


def _half_planes(points: Floats) -> tuple[Floats, Floats]:
    """Normals [K, 2] and offsets [K] of the hull of points; none where they lie on a line."""
    try:
        equations = np.unique(np.round(ConvexHull(points).equations, 12), axis=0)
    except (QhullError, ValueError):
        return np.zeros((0, 2)), np.zeros(0)
    normal = equations[:, :2]
    return normal, np.max(points @ normal.T, axis=0) + _SLACK


def _padded(
    inputs: tuple[int, int], limits: tuple[Floats, Floats], planes: Sequence[tuple[Floats, Floats]]
) -> PairHull:
    n, most = len(planes), max(len(offset) for _, offset in planes)
    normal, offset = np.zeros((n, most, 2)), np.full((n, most), np.inf)
    for i, (mine, mine_offset) in enumerate(planes):
        normal[i, : len(mine)], offset[i, : len(mine)] = mine, mine_offset
    return PairHull(inputs, *limits, normal, offset)
