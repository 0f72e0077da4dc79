"""Networks that end in probabilities: a sigmoid or a softmax of a network's outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from skipml.errors import ModelError
from skipml.graph import Graph
from skipml.links import Link
from skipml.network import Array, Network

_MACS_PER_OUTPUT = 60


@dataclass(frozen=True, eq=False)
class Linked:
    """`link(network(x))`; raises ModelError if the link does not fit the outputs."""

    network: Network | Graph
    link: Link

    def __post_init__(self) -> None:
        if self.link.kind == "softmax" and self.n_outputs < 2:
            raise ModelError("softmax needs two outputs")

    @property
    def n_inputs(self) -> int:
        """Those of the network."""
        return self.network.n_inputs

    @property
    def n_outputs(self) -> int:
        """Those of the network."""
        return self.network.n_outputs

    @property
    def input_dtype(self) -> np.dtype[np.floating]:
        """As the network's."""
        return self.network.dtype

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """As the network's."""
        return self.network.dtype

    @property
    def takes_nan(self) -> bool:
        """NaN propagates."""
        return False

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a network that take as long, per row."""
        return self.network.macs + _MACS_PER_OUTPUT * self.n_outputs

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of everything the outputs depend on."""
        return hashlib.sha256(f"linked {self.network.hash} {self.link}".encode()).hexdigest()

    def forward(self, x: ArrayLike) -> Array:
        """The outputs for each row: x [n, n_inputs] -> [n, n_outputs]; a row's depend on nothing but it."""
        return self.of_margins(self.network.forward(x))

    def forward_columns(self, columns: Sequence[Array]) -> Array:
        """The same for rows given as one array [n] per input."""
        return self.of_margins(self.network.forward_columns(columns))

    def of_margins(self, margins: Array) -> Array:
        """What the link makes of the network's outputs [n, n_outputs]."""
        return np.ascontiguousarray(self.link.apply(np.ascontiguousarray(margins.T)).T)
