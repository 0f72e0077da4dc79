"""Bounds of graphs: ranges, linear forms in the inputs carried forward, and a backward pass from the functionals.

As in crown.py, ranges of values come from intervals and from forms (the forward mode of Xu et al., Automatic
Perturbation Analysis, arXiv:2002.12920), and final bounds from CROWN's backward pass over the graph in reverse order,
where the coefficients of a value that several ops read add up. What each op does is in graph_steps.py,
bent_steps.py and normalised_steps.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skipml.activations import curve
from skipml.bounds.bent_steps import Bent, Curved, Kinked
from skipml.bounds.bounder import fitting
from skipml.bounds.crown import LinearBounds
from skipml.bounds.graph_steps import Chosen, Dense, Diagonal, Form, Product, Range, Step, Sum
from skipml.bounds.network_bounder import NetworkBounder
from skipml.bounds.normalised_steps import Centred, Normalised
from skipml.bounds.rounding import Arithmetic, Folded, arithmetic_of
from skipml.graph import Add, Concat, Elementwise, Graph, Multiply, Node, Normalize, PRelu, Subtract, Take
from skipml.network import Affine, Divide, LeakyRelu, Scale, Shift

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_CHUNK_VALUES = 1 << 17
_CHUNK_LIMITS = (16, 512)
_SECONDS_PER_BOX, _SECONDS_PER_VALUE, _SECONDS_PER_RELATION = 12e-6, 0.4e-6, 0.6e-9
_LARGEST_COEFFICIENT = 1e150
_TINY = 2.0**-500
"""More than coefficients that underflow may leave out."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A step, the values that it reads, and whether forms of its output are needed, and concretised."""

    step: Step
    inputs: tuple[int, ...]
    has_form: bool = False
    is_looked_at: bool = False


class GraphVerifier(NetworkBounder):
    """Bounds of `functionals` [m, n_outputs] of a graph's outputs; by default the outputs themselves.

    Elementwise functions and normalisation are bounded as `Graph` computes them; `folded` is what is in the biases of
    its nodes, by their number, instead of products that were there. Raises ModelError if the functionals do not fit the
    graph.
    """

    def __init__(
        self, graph: Graph, functionals: ArrayLike | None = None, folded: Mapping[int, Folded] | None = None
    ) -> None:
        self.graph = graph
        self.folded = folded or {}
        self.functionals = rows = fitting(functionals, graph.n_outputs)
        lengths = [_length(node, graph.widths[node.inputs[0]]) for node in graph.nodes]
        self._arithmetic = arithmetic_of(graph.dtype, lengths, graph.n_outputs)
        self._steps, self._ends = _placed(graph, rows, self._arithmetic, self.folded)
        relations = max(graph.widths) * (graph.n_inputs + 1) * 4
        self._chunk = int(np.clip(_CHUNK_VALUES // relations, *_CHUNK_LIMITS))

    @property
    def function(self) -> Graph:
        """The graph."""
        return self.graph

    @property
    def seconds_per_box(self) -> float:
        """An estimate of what bounding one box and trying its points costs on one core, in large waves."""
        weights = sum(node.op.weight.size for node in self.graph.nodes if isinstance(node.op, Affine))
        relations = _SECONDS_PER_RELATION * weights * (self.graph.n_inputs + 1)
        return _SECONDS_PER_BOX + _SECONDS_PER_VALUE * sum(self.graph.widths[1:]) + relations

    def interval(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Interval bounds over boxes [M, d] -> lower, upper [M, m]; infinite where a score might overflow.

        Sound because casting is monotone, so the cast box contains the cast inputs, and each step bounds the image of
        the box before it.
        """
        low, high = np.empty((2, len(lower), len(self.functionals)))
        with np.errstate(all="ignore"):
            for part in self._parts(len(lower)):
                trace = self._trace(self._cast(lower[part]), self._cast(upper[part]), with_forms=False)
                low[part], high[part] = _known(trace.output.lower, trace.output.upper, trace.finite)
        return low, high

    def crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        """CROWN bounds over boxes [M, d], nowhere looser than interval bounds; infinite where a score might overflow.

        Sound because casting is monotone, and forward forms and the backward pass hold for all computed values.
        """
        with np.errstate(all="ignore"):
            parts = [self._crown(self._cast(lower[part]), self._cast(upper[part])) for part in self._parts(len(lower))]
        if not parts:
            parts = [self._crown(np.zeros((0, self.graph.n_inputs)), np.zeros((0, self.graph.n_inputs)))]
        return LinearBounds(*(np.concatenate([getattr(p, n) for p in parts]) for n in LinearBounds.__slots__))

    def ranges(self, lower: Floats, upper: Floats) -> tuple[list[Range], Bools]:
        """What holds the values of the graph over boxes [M, d], as computed; where a score might overflow [M] nothing
        does.

        Sound as the bounds are, which rest on the same.
        """
        with np.errstate(all="ignore"):
            trace = self._trace(self._cast(lower), self._cast(upper), with_forms=True)
        return [trace.ranges[i] for i in self._ends], trace.finite

    def values(self, x: Floats) -> Floats:
        """The functionals at concrete points, in float64 and without a margin: x [K, d] -> [K, m]."""
        with np.errstate(all="ignore"):
            return self._values(self._cast(x))[-1]

    def gradients(self, x: Floats, direction: Floats) -> Floats:
        """The gradient at x [K, d] of the sum of `direction` [K, m] times the functionals -> [K, d]."""
        with np.errstate(all="ignore"):
            values = self._values(self._cast(x))
            found: dict[int, Floats] = {len(self._steps): direction}
            for k in range(len(self._steps) - 1, -1, -1):
                a = found.pop(k + 1, None)
                if a is None:
                    continue
                placed = self._steps[k]
                pulled = placed.step.pull([values[i] for i in placed.inputs], a)
                for i, part in zip(placed.inputs, pulled, strict=True):
                    found[i] = found[i] + part if i in found else part
            return np.nan_to_num(found.get(0, np.zeros(x.shape)))

    def _values(self, x: Floats) -> list[Floats]:
        values = [x]
        for placed in self._steps:
            values.append(placed.step.value([values[i] for i in placed.inputs]))
        return values

    def _crown(self, lower: Floats, upper: Floats) -> LinearBounds:
        """Sound because a positive coefficient takes the upper bound of the value it multiplies and a negative one the
        lower, and what rounding a coefficient makes of a value is in the loss of the op that it goes through.
        """
        trace = self._trace(lower, upper, with_forms=True)
        m, box = len(self.functionals), trace.box
        centre, radius = (box.lower + box.upper) * 0.5, (box.upper - box.lower) * 0.5
        units = np.concatenate([np.eye(m), -np.eye(m)])[:, None, :]
        found: dict[int, Floats] = {len(self._steps): np.broadcast_to(units, (2 * m, len(lower), m))}
        constant = np.zeros((2 * m, len(lower)))
        fits = trace.finite
        for k in range(len(self._steps) - 1, -1, -1):
            a = found.pop(k + 1, None)
            if a is None:
                continue
            fits = fits & (np.abs(a).max(axis=(0, 2)) <= _LARGEST_COEFFICIENT)
            placed = self._steps[k]
            parts, added = placed.step.back(trace.states[k], a)
            constant += added
            for i, part in zip(placed.inputs, parts, strict=True):
                found[i] = found[i] + part if i in found else part
        slope = found.get(0, np.zeros((2 * m, *centre.shape)))
        steep = np.abs(slope)
        bound = constant + np.einsum("fmd,md->fm", slope, centre) + np.einsum("fmd,md->fm", steep, radius)
        bound += self._arithmetic.verifier * np.einsum("fmd,md->fm", steep, box.magnitude) + _TINY
        linear = _known(-bound[m:].T, bound[:m].T, fits)
        low, high = _known(trace.output.lower, trace.output.upper, trace.finite)
        slopes = [np.where(np.isfinite(side), side, 0.0).transpose(1, 0, 2) for side in (-slope[m:], slope[:m])]
        return LinearBounds(
            np.maximum(low, linear[0]), np.minimum(high, linear[1]), slopes[0], slopes[1], linear[0], linear[1]
        )

    def _trace(self, lower: Floats, upper: Floats, *, with_forms: bool) -> _Trace:
        """Ranges of all values over boxes already cast to the graph's dtype, and with forms the states of all steps.

        Sound because each step is, and two ranges that hold have in common what holds.
        """
        finite: Bools = np.all(np.maximum(-lower, upper) <= self._arithmetic.limit, axis=1)
        if not finite.all():
            lower, upper = np.where(finite[:, None], lower, 0.0), np.where(finite[:, None], upper, 0.0)
        box = Range(lower, upper)
        ranges, states = [box], []
        forms: list[Form | None] = [_identity(lower, upper) if with_forms else None]
        for placed in self._steps:
            found, state, fits = placed.step.reach([ranges[i] for i in placed.inputs])
            finite = finite & fits
            if with_forms and isinstance(placed.step, Bent):
                state = placed.step.prepared(state)
            form = None
            if with_forms and placed.has_form:
                form = placed.step.form(state, [known for i in placed.inputs if (known := forms[i]) is not None])
                if placed.is_looked_at:
                    found = found.within(_concrete(form, self._arithmetic.verifier))
            ranges.append(found)
            forms.append(form)
            states.append(state)
        return _Trace(ranges, states, finite)

    def _parts(self, n: int) -> list[slice]:
        return [slice(start, start + self._chunk) for start in range(0, n, self._chunk)]

    def _cast(self, x: Floats) -> Floats:
        return x.astype(self.graph.dtype).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Trace:
    """What boxes made of the steps; where not `finite` [M], nothing holds."""

    ranges: list[Range]
    states: list[Any]
    finite: Bools

    @property
    def box(self) -> Range:
        """That of the inputs."""
        return self.ranges[0]

    @property
    def output(self) -> Range:
        """That of the functionals."""
        return self.ranges[-1]


def _known(low: Floats, high: Floats, holds: Bools) -> tuple[Floats, Floats]:
    """Bounds where they hold and are numbers, infinite elsewhere."""
    fine = holds[:, None] & np.isfinite(low) & np.isfinite(high)
    return np.where(fine, low, -np.inf), np.where(fine, high, np.inf)


def _identity(lower: Floats, upper: Floats) -> Form:
    """The form of the inputs. Sound because an input is its centre plus a share of the radius, -1 to 1; what rounding
    them takes is counted where they are read.
    """
    n, d = lower.shape
    p, q = np.zeros((d + 1, n, d)), np.zeros((d + 1, n, d))
    p[np.arange(d), :, np.arange(d)] = ((upper - lower) * 0.5).T
    p[-1] = (lower + upper) * 0.5
    return p, q


def _concrete(form: Form, verifier: float) -> Range:
    """The range of a form over its box. Sound because every share of a radius is between -1 and 1."""
    p, q = form
    low, high = p - q, p + q
    room = verifier * (np.abs(p).sum(axis=0) + np.abs(q).sum(axis=0))
    bottom = low[-1] - np.abs(low[:-1]).sum(axis=0) - room
    top = high[-1] + np.abs(high[:-1]).sum(axis=0) + room
    return Range(bottom, top)


def _length(node: Node, width: int) -> int:
    """How many products an op sums."""
    if isinstance(node.op, Affine):
        return int(node.op.weight.shape[1])
    return width + 16 if isinstance(node.op, Normalize) else 1


def _placed(
    graph: Graph, functionals: Floats, arithmetic: Arithmetic, folded: Mapping[int, Folded]
) -> tuple[list[_Placed], list[int]]:
    """The steps of a graph, with the functionals behind them, and which forms are needed: those that an op is bent
    over, and those that these come from; and the number of the step behind each value of the graph.
    """
    numbers, found = [0], []  # the number of the step's output behind each node
    for k, node in enumerate(graph.nodes):
        read = tuple(numbers[i] for i in node.inputs)
        widths = [graph.widths[i] for i in node.inputs]
        for step in _steps(node, widths, arithmetic, folded.get(k)):
            found.append(_Placed(step, read))
            read = (len(found),)
        numbers.append(len(found))
    whole = Dense(functionals, np.zeros(len(functionals)), arithmetic, executed=False)
    found.append(_Placed(whole, (numbers[-1],)))
    looked_at = {i for placed in found if isinstance(placed.step, Bent | Product) for i in placed.inputs}
    needed = set(looked_at)
    for k in range(len(found) - 1, -1, -1):
        if k + 1 in needed:
            needed |= set(found[k].inputs)
    steps = [_Placed(placed.step, placed.inputs, k in needed, k in looked_at) for k, placed in enumerate(found, 1)]
    return steps, numbers


def _steps(  # noqa: PLR0912 one case per op
    node: Node, widths: list[int], arithmetic: Arithmetic, folded: Folded | None
) -> list[Step]:
    """What an op is for the bounds, one step or two."""
    n = widths[0]
    zero, one = np.zeros(n), np.ones(n)
    match node.op:
        case Affine(weight, bias):
            return [Dense(weight.astype(np.float64), bias, arithmetic, folded)]
        case Scale(factor):
            return [Diagonal(factor, zero, arithmetic)]
        case Divide(divisor):
            return [Diagonal(1 / divisor.astype(np.float64), zero, arithmetic)]
        case Shift(offset):
            return [Diagonal(one, offset, arithmetic)]
        case LeakyRelu(slope):
            return [Kinked(np.full(n, float(_dtype_of(arithmetic).type(slope))), arithmetic)]
        case PRelu(slopes):
            return [Kinked(slopes, arithmetic)]
        case Elementwise(kind, parameters):
            return [Curved(curve(kind, parameters), arithmetic)]
        case Add():
            return [Sum(1.0, arithmetic)]
        case Subtract():
            return [Sum(-1.0, arithmetic)]
        case Multiply():
            return [Product(arithmetic)]
        case Concat():
            return [Chosen(np.arange(sum(widths)), widths, arithmetic)]
        case Take(positions):
            return [Chosen(np.array(positions), widths, arithmetic)]
        case Normalize(epsilon, centred):
            normalised = Normalised(n, epsilon, arithmetic)
            return [Centred(n, arithmetic), normalised] if centred else [normalised]


def _dtype_of(arithmetic: Arithmetic) -> np.dtype[np.floating]:
    """The dtype that an arithmetic is of."""
    return np.dtype(np.float32) if arithmetic.unit == 2.0**-24 else np.dtype(np.float64)
