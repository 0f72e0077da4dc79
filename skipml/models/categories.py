"""Sets of categories, which are numbers cut to integers, as edges between numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def edges_around(categories: NDArray[np.int64], dtype: np.dtype[np.floating], lowest: float) -> tuple[float, ...]:
    """The edges around ascending categories: a number is of category k from k to below k + 1, and of 0 from `lowest`
    on. Numbers up to the first edge are of none of them.
    """

    def before(number: float) -> float:
        return float(np.nextafter(dtype.type(number), dtype.type(-np.inf)))

    edges: list[float] = []
    for k in categories.tolist():
        start = before(k if k else lowest)
        if edges and edges[-1] == start:
            edges.pop()  # it goes on from the category before
        else:
            edges.append(start)
        edges.append(before(k + 1))
    return tuple(edges)
