"""Matrix products that never start BLAS threads.

The products of bounding are many and small: handing one to a second thread gains little on an idle machine and waits
for it on a busy one, where it made verification five times slower.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SINGLE_THREADED = 1 << 18
"""OpenBLAS computes a product of at most this many multiply-accumulates on the calling thread."""


def product(a: Floats, b: Floats, out: Floats | None = None) -> Floats:
    """`a @ b` for a [n, k], b [k, m], in groups of rows; `a` and `out` are C-contiguous.

    Sound because every row of the result is an ordinary matrix product, summed in some order as the margin allows.
    """
    n, k = a.shape
    m = b.shape[1]
    rows = max(1, _SINGLE_THREADED // max(1, k * m))
    result = np.empty((n, m)) if out is None else out
    whole = n - n % rows
    if whole:
        np.matmul(a[:whole].reshape(-1, rows, k), b, out=result[:whole].reshape(-1, rows, m))
    if whole < n:
        np.matmul(a[whole:], b, out=result[whole:])
    return result
