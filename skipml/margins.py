"""Models whose outputs are a link of margins, which a network gives: what they are, whatever the network reads."""

from __future__ import annotations

import numpy as np

from skipml.errors import ModelError
from skipml.graph import Graph
from skipml.links import Link
from skipml.network import Array, Network

_MACS_PER_OUTPUT = 60


class MarginModel:
    """`link(network(...))`; raises ModelError if the link does not fit the outputs."""

    network: Network | Graph
    link: Link

    def __post_init__(self) -> None:
        if self.link.kind == "softmax" and self.n_outputs < 2:
            raise ModelError("softmax needs two outputs")

    @property
    def n_outputs(self) -> int:
        """Those of the network."""
        return self.network.n_outputs

    @property
    def input_dtype(self) -> np.dtype[np.floating]:
        """Inputs are cast to the network's type."""
        return self.network.input_dtype

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
        is_linked = self.link.kind != "identity"
        return self.network.macs + is_linked * _MACS_PER_OUTPUT * self.n_outputs

    def of_margins(self, margins: Array) -> Array:
        """What the link makes of the network's outputs [n, n_outputs]."""
        if self.link.kind == "identity":
            return margins
        return np.ascontiguousarray(self.link.apply(np.ascontiguousarray(margins.T)).T)
