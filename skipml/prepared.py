"""Networks behind prepared inputs: what a scikit-learn pipeline of scalers, imputers and encoders computes that ends in
a linear model or a multi-layer perceptron.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.errors import ModelError
from skipml.function import columns_of
from skipml.graph import Graph
from skipml.links import IDENTITY, Link
from skipml.margins import MarginModel
from skipml.network import Array, Network
from skipml.preparation import Feature

_MACS_PER_FEATURE = 40
"""What a feature takes, in multiply-accumulates of a network."""


@dataclass(frozen=True, eq=False)
class Prepared(MarginModel):
    """`link(network(features))` over `n_inputs` numbers per row; a feature that is NaN makes the outputs NaN.

    Raises ModelError if the features do not fit the network, or the link its outputs.
    """

    n_inputs: int
    features: tuple[Feature, ...]
    network: Network | Graph
    link: Link = IDENTITY

    def __post_init__(self) -> None:
        if len(self.features) != self.network.n_inputs:
            raise ModelError(f"{len(self.features)} features do not fit a network of {self.network.n_inputs} inputs")
        if self.network.dtype != np.float64:
            raise ModelError("prepared features are float64, so the network has to be")
        super().__post_init__()

    @cached_property
    def takes_nan(self) -> bool:
        """Whether every feature says what becomes of NaN."""
        return not any(np.isnan(feature.missing) for feature in self.features)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a network that take as long, per row."""
        return super().macs + _MACS_PER_FEATURE * len(self.features)

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of everything the outputs depend on."""
        digest = hashlib.sha256(f"prepared {self.n_inputs} {self.network.hash} {self.link}".encode())
        for feature in self.features:
            digest.update(feature.text.encode())
        return digest.hexdigest()

    def forward(self, x: ArrayLike) -> Array:
        """The outputs for each row: x [n, n_inputs] -> [n, n_outputs]; a row's depend on nothing but it."""
        return self.forward_columns(columns_of(x, self.n_inputs))

    def forward_columns(self, columns: Sequence[NDArray[Any]]) -> Array:
        """The same for rows given as one array [n] per input."""
        features = [feature.apply(columns[feature.source]) for feature in self.features]
        return self.of_margins(self.network.forward_columns(features))
