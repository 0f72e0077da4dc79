"""Every kind of model has bounds of its own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skipml.bounds.choice import bounder
from skipml.bounds.graph import GraphVerifier
from skipml.bounds.heads import HeadVerifier
from skipml.bounds.linked import LinkedVerifier
from skipml.bounds.prepared import PreparedVerifier
from skipml.bounds.trees import TreeVerifier
from skipml.bounds.verifier import Verifier
from skipml.errors import ModelError
from skipml.function import Function
from skipml.graph import Graph, Node
from skipml.heads import Head
from skipml.linked import Linked
from skipml.links import Link
from skipml.network import Network
from skipml.pipelines import Pipeline
from skipml.preparation import Feature
from skipml.prepared import Prepared
from tests.forests import random_trees
from tests.oracle import linear

NETWORK = linear([[1, 2], [3, 4], [5, 6]], [0, 1, 2], "float64")
SOFTMAX = Link("softmax")


def prepared() -> Prepared:
    return Prepared(2, (Feature(0), Feature(1)), NETWORK, SOFTMAX)


def forest() -> Function:
    rng = np.random.default_rng(0)
    return random_trees(rng, [np.arange(3.0)] * 2, 3, "identity", n_trees=2, depth=2)


KINDS: dict[type[Any], Function] = {
    Verifier: NETWORK,
    GraphVerifier: Graph(2, np.dtype(np.float64), (Node(NETWORK.ops[0], (0,)),)),
    HeadVerifier: Head(NETWORK, SOFTMAX),
    LinkedVerifier: Linked(NETWORK, SOFTMAX),
    PreparedVerifier: prepared(),
    TreeVerifier: forest(),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("inside", [False, True], ids=["itself", "in a pipeline"])
def test_a_model_is_bounded_by_its_kind(kind: type[Any], inside: bool) -> None:
    function = KINDS[kind]
    functionals = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    found = bounder(Pipeline(function, False, {}, {}, {}) if inside else function, functionals, signs=True)
    assert type(found) is kind
    assert found.function is function
    np.testing.assert_array_equal(found.functionals, functionals)
    if kind in (LinkedVerifier, PreparedVerifier):
        assert found.through.way == "classes", "of differences only the signs matter"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("shape", [(3,), (1, 2), (2, 4), (0, 3), (1, 3, 1)], ids=str)
def test_functionals_that_do_not_fit_are_refused(kind: type[Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="do not fit"):
        bounder(KINDS[kind], np.ones(shape))


def test_what_is_no_model_has_no_bounds() -> None:
    with pytest.raises(ModelError, match="no bounds for a str"):
        bounder("text")  # type: ignore[arg-type]
    assert isinstance(NETWORK, Network)
