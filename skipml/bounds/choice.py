"""Who bounds which kind of model."""

from __future__ import annotations

from numpy.typing import ArrayLike

from skipml.bounds.bounder import Bounder
from skipml.bounds.graph import GraphVerifier
from skipml.bounds.heads import HeadVerifier
from skipml.bounds.linked import LinkedVerifier
from skipml.bounds.prepared import PreparedVerifier
from skipml.bounds.trees import TreeVerifier
from skipml.bounds.verifier import Verifier
from skipml.errors import ModelError
from skipml.function import Function
from skipml.graph import Graph
from skipml.heads import Head
from skipml.linked import Linked
from skipml.network import Network
from skipml.pipelines import Pipeline
from skipml.prepared import Prepared
from skipml.trees import Trees


def bounder(function: Function, functionals: ArrayLike | None = None, *, signs: bool = False) -> Bounder:
    """Bounds of functionals [m, n_outputs] of a model's outputs, by default the outputs themselves; `signs`: of the
    functionals only the signs matter, as where classes are told apart.

    Raises ModelError for a function of no known kind, or functionals that do not fit it.
    """
    if isinstance(function, Pipeline):
        return bounder(function.inner, functionals, signs=signs)
    if isinstance(function, Head):
        return HeadVerifier(function, functionals, signs=signs)
    if isinstance(function, Prepared):
        return PreparedVerifier(function, functionals, signs=signs)
    if isinstance(function, Network):
        return Verifier(function, functionals)
    if isinstance(function, Graph):
        return GraphVerifier(function, functionals)
    if isinstance(function, Linked):
        return LinkedVerifier(function, functionals, signs=signs)
    if isinstance(function, Trees):
        return TreeVerifier(function, functionals)
    raise ModelError(f"there are no bounds for a {type(function).__name__}")
