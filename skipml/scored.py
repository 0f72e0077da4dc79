"""What a model makes of a block of rows, for enrichment to store: score maps and the classes that occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.verifier import Verifier
from skipml.metadata import scoremaps
from skipml.metadata.refine import slack
from skipml.network import Network

Floats = NDArray[np.float64]
Payload = NDArray[np.uint8]


@dataclass(frozen=True)
class Scorer:
    """A network over columns of a file, whose types in DuckDB are `sql_types`."""

    network: Network
    columns: tuple[str, ...]
    sql_types: tuple[str, ...]

    @property
    def n_labels(self) -> int:
        """How many classes there are, 0 for a model of one output."""
        return self.network.n_outputs if self.network.n_outputs > 1 else 0

    @cached_property
    def verifier(self) -> Verifier:
        """Bounds of the outputs."""
        return Verifier(self.network)

    def scored(self, rows: Floats, size: int) -> Scored:
        """The maps of the outputs, with `size` bytes of cells each, and of the classes, for rows [n, d] of numbers.

        Sound because another evaluation, of inputs that an engine may round in another way, is within the margin.
        """
        outputs = self.network.forward(rows).astype(np.float64)
        margin = self._margin(rows)
        maps = [scoremaps.build(outputs[:, k], float(margin[k]), size) for k in range(outputs.shape[1])]
        return Scored(
            lower=tuple(low for low, _, _ in maps),
            upper=tuple(high for _, high, _ in maps),
            cells=tuple(cells for _, _, cells in maps),
            labels=scoremaps.build_labels(outputs, margin) if self.n_labels else np.zeros(0, np.uint8),
        )

    def _margin(self, rows: Floats) -> Floats:
        """How far each output may be off [m]."""
        if not len(rows):
            return np.zeros(self.network.n_outputs)
        lower, upper = rows.min(axis=0), rows.max(axis=0)
        room = np.array([_slack(*side) for side in zip(self.sql_types, lower, upper, strict=True)])
        with np.errstate(all="ignore"):
            margin: Floats = self.verifier.margin((lower - room)[None], (upper + room)[None], room[None])[0]
        return margin


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Limits and cells per output of a model, and the bitmap of its classes."""

    lower: Sequence[float]
    upper: Sequence[float]
    cells: Sequence[Payload]
    labels: Payload


def _slack(sql_type: str, lower: float, upper: float) -> float:
    return float(slack(sql_type, np.array([lower]), np.array([upper]))[0])
