"""Networks without the neurons that give nothing over a table: bounds of what is left cost less.

A neuron whose computed value before its ReLU is nowhere positive over the domain gives exactly 0, and one whose weights
onward are all 0 adds exactly 0. Leaving either out leaves out terms of sums that are exactly 0, so every order of
summation of the whole network is one of the smaller network, and bounds that hold for any order of that hold for it:
no margin is added. Networks that were pruned, and tables that cover a part of what a network was trained on, gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.bounder import Bounder
from skipml.bounds.interval import IntervalPass
from skipml.bounds.linked import LinkedVerifier
from skipml.bounds.outcome import Narrowed
from skipml.bounds.rounding import arithmetic
from skipml.bounds.verifier import Verifier
from skipml.function import Function
from skipml.linked import Linked
from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from skipml.recent import Recent

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Compacted:
    """A network that computes over its domain what another does, and how many weights either has."""

    network: Network
    weights_before: int
    weights: int

    @property
    def share(self) -> float:
        """Of the weights that are left."""
        return self.weights / self.weights_before if self.weights_before else 1.0


def compacted(network: Network, lower: Floats, upper: Floats) -> Compacted:
    """The network without what gives nothing for inputs between `lower` and `upper` [d]; the network itself where a
    value may overflow, as 0 times infinity is not 0.

    Sound because what is left out is exactly 0 for all rows of the domain.
    """
    before = sum(op.weight.size for op in network.ops if isinstance(op, Affine))
    with np.errstate(all="ignore"):
        intervals = IntervalPass(network, np.eye(network.n_outputs), arithmetic(network, network.n_outputs))
        box = (side.astype(network.dtype).astype(np.float64)[None] for side in (lower, upper))
        trace = intervals.trace(*box)
    if not bool(trace.finite[0]) or not np.isfinite([*lower, *upper]).all():
        return Compacted(network, before, before)
    ops = list(network.ops)
    dead = [span.upper[0] <= 0 for span in trace.before]
    layers = [k for k, op in enumerate(ops) if isinstance(op, Affine)]
    for first, second in reversed(list(pairwise(layers))):
        _leave_out(ops, first, second, dead)  # from the end, so that what was read by nothing else goes too
    after = sum(op.weight.size for op in ops if isinstance(op, Affine))
    return Compacted(Network(network.n_inputs, network.n_outputs, network.dtype, tuple(ops)), before, after)


def _leave_out(ops: list[Op], first: int, second: int, dead: list[Bools]) -> None:
    """Take the neurons between two layers out that give nothing, but for one; `dead` is by activation of the network.

    Sound because the ops between two layers keep numbers apart, and only a shift makes another number of 0.
    """
    out, onward, between = ops[first], ops[second], ops[first + 1 : second]
    assert isinstance(out, Affine)
    assert isinstance(onward, Affine)
    kept: Bools = np.asarray(onward.weight.any(axis=0), np.bool_)
    for k, op in enumerate(between):
        is_last_to_move = not any(isinstance(later, Shift) for later in between[k + 1 :])
        if isinstance(op, LeakyRelu) and op.slope == 0 and is_last_to_move:
            kept = kept & ~dead[sum(isinstance(before, LeakyRelu) for before in ops[: first + 1 + k])]
    if kept.all():
        return
    kept[0] |= not kept.any()
    ops[first] = Affine(np.ascontiguousarray(out.weight[kept]), out.bias[kept])
    ops[second] = Affine(np.ascontiguousarray(onward.weight[:, kept]), onward.bias)
    for k, op in enumerate(between, start=first + 1):
        match op:
            case Scale(factor):
                ops[k] = Scale(factor[kept])
            case Divide(divisor):
                ops[k] = Divide(divisor[kept])
            case Shift(offset):
                ops[k] = Shift(offset[kept])


def reduced(verifier: Bounder, blocks: Blocks) -> Bounder:
    """Who bounds the same functionals over the boxes of some blocks at less cost, the verifier itself where nothing
    is saved.

    Sound because the domain holds all boxes that are finite, hence all their parts, and nothing is said of others.
    """
    inner = verifier.network_bounds if isinstance(verifier, LinkedVerifier) else verifier
    if type(inner) is not Verifier:
        return verifier
    finite = np.isfinite(blocks.lower).all(axis=1) & np.isfinite(blocks.upper).all(axis=1)
    if not finite.any():
        return verifier
    lower, upper = blocks.lower[finite].min(axis=0), blocks.upper[finite].max(axis=0)
    key = verifier.content + lower.tobytes() + upper.tobytes()
    if (known := _REDUCED.get(key)) is None:
        known = _smaller(verifier, compacted(inner.network, lower, upper))
        _REDUCED.put(key, known)
    return known


def _smaller(verifier: Bounder, found: Compacted) -> Bounder:
    if found.share > _WORTH_IT:
        return verifier
    if isinstance(verifier, LinkedVerifier):
        linked = Linked(found.network, verifier.function.link)
        return LinkedVerifier(linked, verifier.functionals, signs=verifier.signs)
    return Verifier(found.network, verifier.functionals)


def narrowed(whole: Bounder, smaller: Bounder) -> tuple[Narrowed, ...]:
    """What `reduced` left out of a network, nothing where it gave the verifier itself or its like."""
    if smaller is whole or smaller.content == whole.content:
        return ()
    before, after = (_layers(bounder.function) for bounder in (whole, smaller))
    weights = (sum(out * given for given, out in pairwise(widths)) for widths in (before, after))
    return (Narrowed(before, after, *weights),)


def _layers(function: Function) -> tuple[int, ...]:
    """The numbers behind each layer, inputs first."""
    network = function.network if isinstance(function, Linked) else function
    assert isinstance(network, Network)
    return (network.n_inputs, *(len(op.weight) for op in network.ops if isinstance(op, Affine)))


_WORTH_IT = 0.75
_REDUCED: Recent[bytes, Bounder] = Recent(64, lambda _: 1)
