"""Networks that end in probabilities: a sigmoid or a softmax of a network's outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from numpy.typing import ArrayLike

from skipml.graph import Graph
from skipml.links import Link
from skipml.margins import MarginModel
from skipml.network import Array, Network


@dataclass(frozen=True, eq=False)
class Linked(MarginModel):
    """`link(network(x))`; raises ModelError if the link does not fit the outputs."""

    network: Network | Graph
    link: Link

    @property
    def n_inputs(self) -> int:
        """Those of the network."""
        return self.network.n_inputs

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
