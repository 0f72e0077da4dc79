"""What branch and bound asks of those who bound a model's outputs: networks and trees are bounded in different ways."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.crown import LinearBounds
from skipml.bounds.falsify import Points, Test
from skipml.bounds.leaves import Leaves
from skipml.bounds.outcome import Method
from skipml.bounds.polygons import Cuts
from skipml.errors import ModelError
from skipml.function import Function
from skipml.regions import Regions

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Bounder(Protocol):
    """Bounds of `functionals` [m, n_outputs] of a function's outputs over boxes of inputs.

    Boxes have the width of those that `blocks` makes of regions.
    """

    @property
    def function(self) -> Function:
        """What is bounded."""

    @property
    def functionals(self) -> Floats:
        """[m, n_outputs], with coefficients -1, 0 and 1."""

    @property
    def n_values(self) -> int:
        """How many values are bounded: the functionals, or others that these follow from."""

    def aim(self, test: Test) -> Test:
        """A test on the functionals, as one on the values that are bounded."""

    def outputs(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Bounds [N, m] of the functionals from those [N, n_values] of the values that are bounded."""

    @property
    def content(self) -> bytes:
        """A hash of everything that the bounds depend on."""

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what bounding one box and trying its points costs on one core, in large waves."""

    @property
    def first_method(self) -> Method:
        """What `linear` is called in a report on a block that was not split."""

    @property
    def is_continuous(self) -> bool:
        """Whether a value takes all numbers between two that it has in a box."""

    def blocks(self, regions: Regions) -> Blocks:
        """The boxes to bound; rows with a NaN are in them if the function takes NaN."""

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Quick bounds over boxes [M, w] -> lower, upper [M, m], which contain every computed value; infinite where
        nothing is known.
        """

    def linear(self, lower: Floats, upper: Floats) -> LinearBounds:
        """Better bounds over boxes [M, w], with the linear forms that they come from."""

    def halved(self, leaves: Leaves, times: int) -> Leaves:
        """Parts of leaves, and parts of these, so many times. Together they hold every row that the leaf may hold."""

    def indivisible(self, lower: Floats, upper: Floats) -> Bools:
        """Which boxes [M, w] have one value and cannot be halved."""

    def may_cut(self, lower: Floats, upper: Floats) -> Bools:
        """Which boxes [M, w] hold only rows that polygons hold for."""

    def try_points(
        self,
        test: Test,
        box: tuple[Floats, Floats],
        bounds: LinearBounds | None,
        *,
        climb: bool,
        cuts: Cuts | None = None,
    ) -> Points:
        """What points of boxes [M, w] show; only for aiming, nothing is proved."""

    def apart(self, rows: Floats, slack: Floats) -> Floats:
        """How far at most another evaluation of any of the rows [n, d] is off [m]: on another machine, of inputs that
        differ by up to `slack` [d]; infinite where nothing is known.
        """


def fitting(functionals: ArrayLike | None, n_outputs: int) -> Floats:
    """Functionals [m, n_outputs] of a model's outputs, by default the outputs themselves; raises ModelError if they do
    not fit.
    """
    rows = np.eye(n_outputs) if functionals is None else np.asarray(functionals, np.float64)
    if rows.ndim != 2 or rows.shape[1] != n_outputs or not len(rows):
        raise ModelError(f"functionals of shape {rows.shape} do not fit a model of {n_outputs} outputs")
    return rows


class _Described(Protocol):
    @property
    def function(self) -> Function: ...

    @property
    def functionals(self) -> Floats: ...


def content_of(bounder: _Described) -> bytes:
    """A hash of everything that its bounds depend on: how they are made, of what function, of which functionals."""
    rows = bounder.functionals
    digest = hashlib.sha256(f"{type(bounder).__qualname__} {bounder.function.hash} {rows.dtype}{rows.shape}".encode())
    digest.update(np.ascontiguousarray(rows).data)
    return digest.digest()
