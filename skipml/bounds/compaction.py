"""Networks without the neurons that give nothing over a table: bounds of what is left cost less.

Over the domain of a table a neuron may be dead, or constant, and a layer of ReLUs may be linear; networks that were
pruned, and tables that cover a part of what a network was trained on, have many of these. What is bounded is what
folding.py leaves of a network, with the rounding of the whole one, and only over boxes within the domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.blocks import Blocks
from skipml.bounds.bounder import Bounder
from skipml.bounds.folding import Simplified, simplified
from skipml.bounds.graph import GraphVerifier
from skipml.bounds.margins import MarginVerifier, network_verifier
from skipml.bounds.network_bounder import NetworkBounder
from skipml.bounds.outcome import Narrowed
from skipml.bounds.over_domain import OverDomain
from skipml.bounds.rounding import Folded
from skipml.bounds.verifier import Verifier
from skipml.graph import Graph, Node, network_of_graph
from skipml.network import Affine, LeakyRelu, Network
from skipml.recent import Recent

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Compacted:
    """A network that computes over its domain what another does, up to what is `folded` into its ops, and how many
    weights either has.
    """

    network: Network | Graph
    folded: Mapping[int, Folded]
    weights_before: int
    weights: int

    @property
    def share(self) -> float:
        """Of the weights that are left."""
        return self.weights / self.weights_before if self.weights_before else 1.0


def compacted(network: Network | Graph, lower: Floats, upper: Floats) -> Compacted:
    """The network without what gives nothing for inputs between `lower` and `upper` [d]; the network itself where a
    value may overflow, as 0 times infinity is not 0.

    Sound because ranges hold for all rows of the domain, as computed, and `simplified` is sound where they do.
    """
    before = weights_of(network)
    graph = network if isinstance(network, Graph) else _as_graph(network)
    ranges, finite = GraphVerifier(graph).ranges(lower[None], upper[None])
    if not bool(finite[0]) or not np.isfinite([*lower, *upper]).all():
        return Compacted(network, {}, before, before)
    found = simplified(graph, ranges)
    if len(found.graph.nodes) < len(graph.nodes):  # layers that are narrow cost less than their product
        found = min(found, simplified(graph, ranges, linear=False), key=lambda other: _weights(other, network))
    if (after := _weights(found, network)) == before:
        return Compacted(network, {}, before, before)
    smaller = found.graph if isinstance(network, Graph) else network_of_graph(found.graph)
    return Compacted(smaller, found.folded, before, after)


def _as_graph(network: Network) -> Graph:
    return Graph(network.n_inputs, network.dtype, tuple(Node(op, (k,)) for k, op in enumerate(network.ops)))


def _weights(found: Simplified, network: Network | Graph) -> int:
    """The weights of what a network became."""
    return _product(_widths(found.graph)) if isinstance(network, Network) else weights_of(found.graph)


def layers_of(network: Network | Graph) -> tuple[int, ...]:
    """The numbers behind each layer, inputs first: a network's are those between activations, which are one for the
    bounds, and a graph's are its matrices.
    """
    if isinstance(network, Network):
        return _widths(network)
    widths = [len(node.op.weight) for node in network.nodes if isinstance(node.op, Affine)]
    return (network.n_inputs, *widths)


def weights_of(network: Network | Graph) -> int:
    """The weights of the layers."""
    if isinstance(network, Network):
        return _product(layers_of(network))
    return sum(node.op.weight.size for node in network.nodes if isinstance(node.op, Affine))


def _widths(chain: Network | Graph) -> tuple[int, ...]:
    """The inputs of a chain of ops, of each activation, and its outputs."""
    ops = chain.ops if isinstance(chain, Network) else [node.op for node in chain.nodes]
    widths, width = [chain.n_inputs], chain.n_inputs
    for op in ops:
        if isinstance(op, Affine):
            width = len(op.weight)
        elif isinstance(op, LeakyRelu):
            widths.append(width)
    return (*widths, chain.n_outputs)


def _product(widths: tuple[int, ...]) -> int:
    return sum(given * out for given, out in pairwise(widths))


def bounded(found: Compacted, functionals: Floats, lower: Floats, upper: Floats) -> OverDomain:
    """Bounds of functionals [m, n_outputs] by a network that was compacted over the domain between `lower` and `upper`
    [d].

    Sound because the compacted network computes the same there, up to what is folded, and nothing is said elsewhere.
    """
    return OverDomain(network_verifier(found.network, functionals, found.folded), lower, upper)


def reduced(verifier: Bounder, blocks: Blocks) -> Bounder:
    """Who bounds the same functionals over the boxes of some blocks at less cost, the verifier itself where nothing
    is saved.

    Sound because nothing is said of boxes outside of the domain; it holds all boxes that are finite.
    """
    inner, domain = _network_bounds(verifier), _domain(verifier, blocks)
    if type(inner) not in (Verifier, GraphVerifier) or domain is None:
        return verifier
    assert isinstance(inner, NetworkBounder)
    key = verifier.content + np.stack(domain).tobytes()
    if (known := _REDUCED.get(key)) is None:
        known = _smaller(verifier, inner, domain)
        _REDUCED.put(key, known)
    return known


def _smaller(verifier: Bounder, inner: NetworkBounder, domain: tuple[Floats, Floats]) -> Bounder:
    behind = verifier if isinstance(verifier, MarginVerifier) else None
    read = behind.read_over(*domain) if behind else domain
    found = compacted(inner.function, *read)
    if found.share > _WORTH_IT:
        return verifier
    smaller = bounded(found, inner.functionals, *read)
    return behind.over(smaller) if behind else smaller


def _network_bounds(verifier: Bounder) -> Bounder:
    return verifier.network_bounds if isinstance(verifier, MarginVerifier) else verifier


def _domain(verifier: Bounder, blocks: Blocks) -> tuple[Floats, Floats] | None:
    """The smallest box around those over which what a network reads is finite, None if there is none."""
    lower, upper = blocks.lower, blocks.upper
    finite: Bools = np.all(np.isfinite(lower) & np.isfinite(upper), axis=1)
    if isinstance(verifier, MarginVerifier):
        finite = verifier.is_finite(lower, upper)
    return (lower[finite].min(axis=0), upper[finite].max(axis=0)) if finite.any() else None


def narrowed(whole: Bounder, smaller: Bounder) -> tuple[Narrowed, ...]:
    """What `reduced` left out of a network, nothing where it gave the verifier itself or its like."""
    if smaller is whole or smaller.content == whole.content:
        return ()
    networks = [_network_bounds(bounder).function for bounder in (whole, smaller)]
    before, after = (network for network in networks if isinstance(network, Network | Graph))
    return (Narrowed(layers_of(before), layers_of(after), weights_of(before), weights_of(after)),)


_WORTH_IT = 0.75
_REDUCED: Recent[bytes, Bounder] = Recent(64, lambda _: 1)
