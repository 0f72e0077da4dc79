"""A network and linear functionals of its outputs, prepared once for bounding over many boxes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.bounds import stages
from skipml.bounds.bounder import fitting
from skipml.bounds.compiled_passes import passes
from skipml.bounds.crown import LinearBounds, crown
from skipml.bounds.interval import IntervalPass
from skipml.bounds.network_bounder import NetworkBounder
from skipml.bounds.product import product
from skipml.bounds.rounding import Folded, arithmetic, coefficients_fit
from skipml.network import Network

Floats = NDArray[np.float64]

_CHUNK_VALUES = 1 << 17  # float64 values of one layer's relations per chunk: few enough for the cache
_CHUNK_LIMITS = (16, 1024)

# glibc gives freed memory back and maps fresh pages for the next chunk, which costs more than the arithmetic, until a
# process has once freed a large block
np.empty(1 << 21)
_SECONDS_PER_BOX, _COMPILED_PER_BOX = 6e-6, 3.5e-6
_SECONDS_PER_RELATION, _COMPILED_PER_RELATION = 0.5e-9, 0.2e-9  # of one weight and one input
_ROUNDED_UP = 1 + 2.0**-20  # sums and products of positive numbers lose far less


class Verifier(NetworkBounder):
    """Bounds of `functionals` [m, n_outputs] of a network's outputs; by default the outputs themselves.

    `folded` is what is in the biases of its ops, by their number, instead of products that were there. Raises
    ModelError if the functionals do not fit the network.
    """

    def __init__(
        self, network: Network, functionals: ArrayLike | None = None, folded: Mapping[int, Folded] | None = None
    ) -> None:
        self.network = network
        self.folded = folded or {}
        self.functionals = rows = fitting(functionals, network.n_outputs)
        self._stages = stages.fuse(network, rows)
        with np.errstate(all="ignore"):
            self._intervals = IntervalPass(network, rows, arithmetic(network, len(rows)), self.folded)
        self._bounded = coefficients_fit([stage.weight for stage in self._stages.linear])
        self._compiled = passes(self._intervals, self._stages) if self._bounded else None
        widest = max(stage.weight.shape[0] for stage in self._stages.linear)
        self._chunk = int(np.clip(_CHUNK_VALUES // ((network.n_inputs + 1) * widest), *_CHUNK_LIMITS))

    @property
    def function(self) -> Network:
        """The network."""
        return self.network

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what bounding one box and trying its points costs on one core, in large waves."""
        weights = sum(stage.weight.size for stage in self._stages.linear)
        relations = weights * (self.network.n_inputs + 1)
        if self._compiled is not None:
            return _COMPILED_PER_BOX + _COMPILED_PER_RELATION * relations
        return _SECONDS_PER_BOX + _SECONDS_PER_RELATION * relations

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Interval bounds over boxes `lower`, `upper` [M, d] -> lower, upper [M, m]; infinite where a score might
        overflow.

        Sound because casting is monotone, so the cast box contains the cast inputs, and interval.py is sound on it.
        """
        if self._compiled is not None:
            return self._compiled.interval(lower, upper)
        low, high = np.empty((len(lower), len(self.functionals))), np.empty((len(lower), len(self.functionals)))
        with np.errstate(all="ignore"):
            for part in self._parts(len(lower)):
                trace = self._intervals.trace(self._cast(lower[part]), self._cast(upper[part]))
                bounded = (trace.finite & self._bounded)[:, None]
                low[part] = np.where(bounded, trace.outputs.lower, -np.inf)
                high[part] = np.where(bounded, trace.outputs.upper, np.inf)
        return low, high

    def crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        """CROWN bounds over boxes `lower`, `upper` [M, d], nowhere looser than interval bounds; infinite where a score
        might overflow.

        Sound because casting is monotone, and crown.py and interval.py are sound on the cast box.
        """
        if self._compiled is not None:
            return self._compiled.crown(lower, upper)
        shape = (len(lower), len(self.functionals))
        low, high, linear_low, linear_high = (np.empty(shape) for _ in range(4))
        slope_low, slope_high = np.empty((*shape, lower.shape[1])), np.empty((*shape, lower.shape[1]))
        with np.errstate(all="ignore"):
            for part in self._parts(len(lower)):
                box = self._cast(lower[part]), self._cast(upper[part])
                trace = self._intervals.trace(*box)
                bounds = crown(self._stages, trace, *box)
                bounded = (trace.finite & self._bounded)[:, None]
                low[part] = np.where(bounded, np.maximum(bounds.lower, trace.outputs.lower), -np.inf)
                high[part] = np.where(bounded, np.minimum(bounds.upper, trace.outputs.upper), np.inf)
                linear_low[part] = np.where(bounded, bounds.linear_lower, -np.inf)
                linear_high[part] = np.where(bounded, bounds.linear_upper, np.inf)
                slope_low[part] = np.where(bounded[:, :, None], bounds.slope_lower, 0.0)
                slope_high[part] = np.where(bounded[:, :, None], bounds.slope_upper, 0.0)
        return LinearBounds(low, high, slope_low, slope_high, linear_low, linear_high)

    def apart(self, rows: Floats, slack: Floats) -> Floats:
        """How far at most another evaluation of any of the rows [n, d] is off [m]; sound as `margin` is."""
        if not len(rows):
            return np.zeros(len(self.functionals))
        lower, upper = rows.min(axis=0), rows.max(axis=0)
        with np.errstate(all="ignore"):
            margin: Floats = self.margin((lower - slack)[None], (upper + slack)[None], slack[None])[0]
        return margin

    def margin(self, lower: Floats, upper: Floats, slack: Floats) -> Floats:
        """How far two computed values of the functionals of the same row may lie apart, for rows in boxes `lower`,
        `upper` [M, d] -> [M, m]; infinite where a score might overflow.

        Each value is computed as bounds allow for: outputs in the network's dtype by any order of summation, on any
        machine, and the functional compared, or summed in float64. Both inputs lie in the box and differ by at most
        `slack` [M, d]; 0 means bit for bit the same.

        Sound because each value is within the interval pass's error of the exact one of its own cast input, and exact
        ones differ by at most what the absolute weights make of the inputs' distance, as activations are 1-Lipschitz.
        What fusing the weights rounds is in the error: the distance is at most twice the magnitudes it counts.
        """
        margin = np.empty((len(lower), len(self.functionals)))
        with np.errstate(all="ignore"):
            lipschitz = self._lipschitz()
            for part in self._parts(len(lower)):
                trace = self._intervals.trace(self._cast(lower[part]), self._cast(upper[part]))
                moved = self._moved(lower[part], upper[part], slack[part])
                apart = 2 * trace.outputs.error + product(moved, lipschitz) * _ROUNDED_UP
                bounded = (trace.finite & self._bounded)[:, None] & (apart < np.inf)
                margin[part] = np.where(bounded, apart, np.inf)
        return margin

    def values(self, x: Floats) -> Floats:
        """The functionals at concrete points, in float64 and without a margin: x [K, d] -> [K, m]."""
        with np.errstate(all="ignore"):
            return stages.values(self._stages, self._cast(x))

    def gradients(self, x: Floats, direction: Floats) -> Floats:
        """The gradient at x [K, d] of the sum of `direction` [K, m] times the functionals -> [K, d]."""
        with np.errstate(all="ignore"):
            return stages.gradients(self._stages, self._cast(x), direction)

    def _lipschitz(self) -> Floats:
        """How much each functional can change per unit of each input: [d, m]."""
        relation = self._stages.linear[0].absolute.T
        for stage in self._stages.linear[1:]:
            relation = product(np.ascontiguousarray(relation), stage.absolute.T)
        return relation

    def _moved(self, lower: Floats, upper: Floats, slack: Floats) -> Floats:
        """How far apart inputs [M, d] that differ by `slack` are once they are cast.

        Sound because casting moves each by at most half of the dtype's epsilon, or what underflow takes.
        """
        kind = np.finfo(self.network.dtype)
        cast = float(kind.eps) * np.maximum(np.abs(lower), np.abs(upper)) + 2 * float(kind.tiny)
        return np.where(slack == 0, 0.0, slack + cast)

    def _parts(self, n: int) -> list[slice]:
        return [slice(start, start + self._chunk) for start in range(0, n, self._chunk)]

    def _cast(self, x: Floats) -> Floats:
        return x.astype(self.network.dtype).astype(np.float64)
