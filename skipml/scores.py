"""Scores computed by models, and the public `Model` that makes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipml.bounds.evidence import ScoreKey
from skipml.bounds.lirpa import LirpaVerifier
from skipml.bounds.verifier import Verifier
from skipml.errors import ModelError, PredicateError
from skipml.features import model_inputs
from skipml.models import from_torch, load_onnx
from skipml.models.native import to_bytes
from skipml.network import Network
from skipml.predicates import Predicate
from skipml.score_tests import Between, Class, Threshold

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]

VerifierName = Literal["crown", "auto_lirpa"]


@dataclass(frozen=True, slots=True)
class ScoringCost:
    """An estimate of what one core spends on scoring: seconds to hand a row over, and per multiply-accumulate."""

    per_row: float
    per_mac: float

    def seconds_per_row(self, network: Network) -> float:
        """What one row costs, the measure of what verification may cost."""
        return self.per_row + self.per_mac * network.macs


PYTHON_COST = ScoringCost(per_row=70e-9, per_mac=0.07e-9)
"""Python functions in DuckDB 2.0, for small float32 layers; 1.5 spends twice that per row."""


@dataclass(frozen=True, eq=False)
class NetworkScore:
    """Linear combinations of a network's outputs, [m, n_outputs] with entries -1, 0, 1, over named inputs."""

    network: Network
    inputs: tuple[str, ...]
    functionals: Floats
    verifier_name: VerifierName = "crown"

    @cached_property
    def verifier(self) -> Verifier:
        """Bounds on the combinations over boxes of inputs; raises ModelError if auto_LiRPA is wanted and not there."""
        if self.verifier_name == "auto_lirpa":
            return LirpaVerifier(self.network, self.functionals)
        return Verifier(self.network, self.functionals)

    @property
    def seconds_per_row(self) -> float:
        """What scoring one row costs in Python."""
        return PYTHON_COST.seconds_per_row(self.network)

    @cached_property
    def key(self) -> ScoreKey:
        """What stored scores of it are called: the network and the output, None for other combinations of outputs."""
        is_output = len(self.functionals) == 1 and self.functionals.sum() == np.abs(self.functionals).sum() == 1.0
        return ScoreKey(self.network.hash, int(self.functionals.argmax()) if is_output else None)

    def labels(self, inputs: Floats) -> NDArray[np.int64]:
        """The index [n] of the largest output, the first of equals, for inputs [n, d]."""
        return np.asarray(np.argmax(self.network.forward(inputs), axis=1), dtype=np.int64)

    def evaluate(self, inputs: Floats) -> Floats:
        """The combinations [n, m] of the outputs for inputs [n, d], computed from the float outputs of the scorer."""
        with np.errstate(invalid="ignore"):
            outputs = self.network.forward(inputs).astype(np.float64)
            return np.stack([_combination(outputs, row) for row in self.functionals], axis=1)

    def __gt__(self, limit: float) -> Threshold:
        return Threshold(self, ">", float(limit))

    def __ge__(self, limit: float) -> Threshold:
        return Threshold(self, ">=", float(limit))

    def __lt__(self, limit: float) -> Threshold:
        return Threshold(self, "<", float(limit))

    def __le__(self, limit: float) -> Threshold:
        return Threshold(self, "<=", float(limit))

    def between(self, low: float, high: float) -> Between:
        """`low <= score <= high`."""
        return Between(self, float(low), float(high))


def _combination(outputs: Floats, row: Floats) -> Floats:
    """A sum over the outputs with a non-zero coefficient only, so that an infinite output elsewhere cannot make it
    NaN.
    """
    chosen = np.flatnonzero(row)
    return np.asarray(outputs[:, chosen] @ row[chosen])


@dataclass(frozen=True, eq=False)
class Model:
    """A network with the names of the columns that feed it, comparable with numbers: `model > 0.99` is a predicate.

    Inputs are the columns in the order given; numbers enter as they are, booleans as 0 and 1, dates, times and
    timestamps as DuckDB's `epoch(x)`.
    """

    network: Network
    columns: tuple[str, ...]
    verifier: VerifierName = "crown"
    """Who bounds the network: skipml's own CROWN, or auto_LiRPA as a second opinion, ten times slower."""
    _scores: dict[tuple[Any, ...], NetworkScore] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.verifier not in ("crown", "auto_lirpa"):
            raise ModelError(f"there is no verifier {self.verifier!r}: choose 'crown' or 'auto_lirpa'")
        if len(self.columns) != self.network.n_inputs:
            raise ModelError(
                f"the model has {self.network.n_inputs} inputs but {len(self.columns)} columns were given: "
                "name one column per input"
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, columns: Sequence[str], verifier: VerifierName = "crown") -> Model:
        """Load an ONNX model; raises ModelError for anything that is not a supported feed-forward chain."""
        return cls(load_onnx(path), _names(columns), verifier)

    @classmethod
    def from_torch(cls, module: torch.nn.Module, *, columns: Sequence[str], verifier: VerifierName = "crown") -> Model:
        """Take a snapshot of a torch module; raises ModelError for anything that is not a supported feed-forward
        chain.
        """
        return cls(from_torch(module), _names(columns), verifier)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file that skipml's DuckDB extension loads; the names of the columns are not in it.

        Raises ModelError for a network that is larger than the extension takes.
        """
        content = to_bytes(self.network)
        with open(path, "wb") as file:
            file.write(content)

    @property
    def hash(self) -> str:
        """Identifies the content: graph, weights and dtype, not the column names."""
        return self.network.hash

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return self.network.n_outputs

    def output(self, index: int, inputs: Sequence[str] | None = None) -> NetworkScore:
        """One output as a score, counted from 0; `inputs` are other names for the columns that feed it."""
        if not 0 <= index < self.n_outputs:
            raise PredicateError(f"the model has outputs 0 to {self.n_outputs - 1}, not {index}")
        functional = np.zeros((1, self.n_outputs))
        functional[0, index] = 1.0
        return self._score(("output", index), inputs, functional)

    def is_class(self, label: int, inputs: Sequence[str] | None = None) -> Class:
        """The largest output is that of `label`, counted from 0; the first wins a tie."""
        if self.n_outputs < 2:
            raise PredicateError("the model has one output: compare it with a number instead of asking for a class")
        if not 0 <= label < self.n_outputs:
            raise PredicateError(f"the model has classes 0 to {self.n_outputs - 1}, not {label}")
        others = [j for j in range(self.n_outputs) if j != label]
        functionals = np.zeros((len(others), self.n_outputs))
        functionals[:, label] = 1.0
        functionals[np.arange(len(others)), others] = -1.0
        return Class(self._score(("class", label), inputs, functionals), label)

    def _score(self, kind: tuple[Any, ...], inputs: Sequence[str] | None, functionals: Floats) -> NetworkScore:
        names = self.columns if inputs is None else tuple(inputs)
        key = (*kind, names)
        if key not in self._scores:
            self._scores[key] = NetworkScore(self.network, names, functionals, self.verifier)
        return self._scores[key]

    def only_output(self) -> NetworkScore:
        """The output of a model that has one, as a score; raises PredicateError for a model of several."""
        if self.n_outputs != 1:
            raise PredicateError(f"the model has {self.n_outputs} outputs: use model.output(i) or model.is_class(k)")
        return self.output(0)

    def evaluate(self, rows: pa.Table) -> NDArray[np.floating]:
        """The outputs [n, n_outputs] for a table that holds the columns; rows with a NULL input get NaN."""
        inputs, is_null = model_inputs(rows, self.columns)
        outputs = self.network.forward(inputs)
        outputs[is_null.any(axis=1)] = np.nan
        return outputs

    def __gt__(self, limit: float) -> Predicate:
        return self.only_output() > limit

    def __ge__(self, limit: float) -> Predicate:
        return self.only_output() >= limit

    def __lt__(self, limit: float) -> Predicate:
        return self.only_output() < limit

    def __le__(self, limit: float) -> Predicate:
        return self.only_output() <= limit

    def between(self, low: float, high: float) -> Predicate:
        """`low <= score <= high`."""
        return self.only_output().between(low, high)


def _names(columns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(columns, str):
        raise ModelError(f"columns must be a list of names, not the text {columns!r}: write [{columns!r}]")
    return tuple(columns)
