"""What a model computes, whatever it is made of: the interface that everything above models sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


class Function(Protocol):
    """Outputs of a row of numbers; networks and tree ensembles are such.

    A row's outputs depend on nothing but the row, bit for bit, whatever the batch around it.
    """

    @property
    def n_inputs(self) -> int:
        """Numbers per row that go in."""

    @property
    def n_outputs(self) -> int:
        """Numbers per row that come out."""

    @property
    def input_dtype(self) -> np.dtype[np.floating]:
        """What inputs are rounded to before anything else."""

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Of the outputs."""

    @property
    def takes_nan(self) -> bool:
        """Whether a row with a NaN has outputs like any other; if not they are NaN."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates per row, or as many as take the time of what is done instead."""

    @property
    def hash(self) -> str:
        """sha256 (hex) of everything the outputs depend on."""

    def forward(self, x: ArrayLike) -> Array:
        """The outputs for each row: x [n, n_inputs] -> [n, n_outputs]."""

    def forward_columns(self, columns: Sequence[Array]) -> Array:
        """The same for rows given as one array [n] per input."""


def columns_of(x: ArrayLike, n_inputs: int) -> list[NDArray[Any]]:
    """One array [n] per input of rows [n, n_inputs]; raises ValueError for an array of another shape."""
    rows = np.asarray(x)
    if rows.ndim != 2 or rows.shape[1] != n_inputs:
        raise ValueError(f"expected rows of {n_inputs} inputs, got an array of shape {rows.shape}")
    return list(rows.T)
