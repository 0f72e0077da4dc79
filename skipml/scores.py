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

from skipml.bounds.bounder import Bounder
from skipml.bounds.choice import bounder
from skipml.bounds.evidence import ScoreKey
from skipml.bounds.lirpa import LirpaVerifier
from skipml.errors import ModelError, PredicateError
from skipml.features import function_inputs
from skipml.function import Function
from skipml.heads import Head
from skipml.models import from_lightgbm, from_torch, from_xgboost, read, read_sklearn
from skipml.models.native import to_bytes
from skipml.models.pipeline import Read
from skipml.models.sums import weighted_sum
from skipml.network import Network
from skipml.predicates import Predicate
from skipml.score_tests import Between, Class, Threshold

if TYPE_CHECKING:
    import lightgbm
    import torch
    import xgboost
    from sklearn.base import BaseEstimator

Floats = NDArray[np.float64]

VerifierName = Literal["crown", "auto_lirpa"]


@dataclass(frozen=True, slots=True)
class ScoringCost:
    """An estimate of what one core spends on scoring: seconds to hand a row over, and per multiply-accumulate."""

    per_row: float
    per_mac: float

    def seconds_per_row(self, function: Function) -> float:
        """What one row costs, the measure of what verification may cost."""
        return self.per_row + self.per_mac * function.macs


PYTHON_COST = ScoringCost(per_row=70e-9, per_mac=0.07e-9)
"""Python functions in DuckDB 2.0, for small float32 layers; 1.5 spends twice that per row."""


@dataclass(frozen=True, eq=False)
class ModelScore:
    """Linear combinations of a model's outputs, [m, n_outputs] with entries -1, 0, 1, over named inputs."""

    function: Function
    inputs: tuple[str, ...]
    functionals: Floats
    verifier_name: VerifierName = "crown"
    signs: bool = False
    """Whether only the signs of the combinations matter, as where classes are told apart."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels without its bounds, which may hold pointers."""
        return type(self), (self.function, self.inputs, self.functionals, self.verifier_name, self.signs)

    @cached_property
    def verifier(self) -> Bounder:
        """Bounds on the combinations over boxes of inputs; raises ModelError if auto_LiRPA is wanted and not there."""
        if self.verifier_name == "auto_lirpa":
            if not isinstance(self.function, Network):
                raise ModelError("auto_LiRPA bounds ReLU networks only: leave `verifier` out")
            return LirpaVerifier(self.function, self.functionals)
        return bounder(self.function, self.functionals, signs=self.signs)

    @property
    def seconds_per_row(self) -> float:
        """What scoring one row costs in Python."""
        return PYTHON_COST.seconds_per_row(self.function)

    @cached_property
    def key(self) -> ScoreKey:
        """What stored scores of it are called: the model and the output, None for other combinations of outputs."""
        is_output = len(self.functionals) == 1 and self.functionals.sum() == np.abs(self.functionals).sum() == 1.0
        return ScoreKey(self.function.hash, int(self.functionals.argmax()) if is_output else None)

    def labels(self, inputs: Floats) -> NDArray[np.int64]:
        """The index [n] of the largest output, the first of equals, for inputs [n, d]."""
        return np.asarray(np.argmax(self.function.forward(inputs), axis=1), dtype=np.int64)

    def evaluate(self, inputs: Floats) -> Floats:
        """The combinations [n, m] of the outputs for inputs [n, d], computed from the float outputs of the scorer."""
        with np.errstate(invalid="ignore"):
            outputs = self.function.forward(inputs).astype(np.float64)
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
    """A network or trees with the names of the columns that feed them, comparable with numbers: `model > 0.99` is a
    predicate.

    Inputs are the columns in the order given; numbers enter as they are, booleans as 0 and 1, dates, times and
    timestamps as DuckDB's `epoch(x)`. One column for a network of several inputs is a column of vectors.
    """

    function: Function
    columns: tuple[str, ...]
    verifier: VerifierName = "crown"
    """Who bounds the network: skipml's own CROWN, or auto_LiRPA as a second opinion, ten times slower."""
    _scores: dict[tuple[Any, ...], ModelScore] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.verifier not in ("crown", "auto_lirpa"):
            raise ModelError(f"there is no verifier {self.verifier!r}: choose 'crown' or 'auto_lirpa'")
        if len(self.columns) == 1 < self.function.n_inputs:
            object.__setattr__(self, "function", Head.of(self.function))
        if len(self.columns) != self.function.n_inputs:
            raise ModelError(
                f"the model has {self.function.n_inputs} inputs but {len(self.columns)} columns were given: "
                "name one column per input"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels without the scores it was asked for."""
        return type(self), (self.function, self.columns, self.verifier)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        columns: Sequence[str] | None = None,
        margin: bool = False,
        verifier: VerifierName = "crown",
    ) -> Model:
        """Load a model file: ONNX, XGBoost's JSON or UBJSON, LightGBM's text, scikit-learn's by skops. They give what
        their library predicts, for a classifier the probability, or with `margin` what comes before the link. Only a
        skops file may know its `columns`.

        Raises ModelError, which names the part, for a model that is not supported.
        """
        return cls._of_read(read(path, margin=margin), columns, verifier)

    @classmethod
    def from_torch(cls, module: torch.nn.Module, *, columns: Sequence[str], verifier: VerifierName = "crown") -> Model:
        """Take a snapshot of a torch module; raises ModelError for anything that is not a supported feed-forward
        network.
        """
        return cls(from_torch(module), _names(columns), verifier)

    @classmethod
    def weighted(cls, parts: Sequence[tuple[float, Model]]) -> Model:
        """The weighted sum of the outputs of models of one output each, as one model over all their columns:
        `Model.weighted([(0.7, fraud), (0.3, risk)])`. The sum is computed in the type of the models.

        Raises ModelError for trees and pipelines, several outputs, or models of different types.
        """
        columns = tuple(dict.fromkeys(name for _, model in parts for name in model.columns))
        chosen = [(weight, model.function, [columns.index(name) for name in model.columns]) for weight, model in parts]
        return cls(weighted_sum(chosen, len(columns)), columns)

    @classmethod
    def from_xgboost(
        cls, model: xgboost.Booster | xgboost.XGBModel, *, columns: Sequence[str], margin: bool = False
    ) -> Model:
        """Take a snapshot of an XGBoost Booster or estimator, as `load` reads it; raises ModelError for what is not
        supported.
        """
        return cls(from_xgboost(model, margin=margin), _names(columns))

    @classmethod
    def from_lightgbm(
        cls, model: lightgbm.Booster | lightgbm.LGBMModel, *, columns: Sequence[str], margin: bool = False
    ) -> Model:
        """Take a snapshot of a LightGBM Booster or estimator, as `load` reads it; raises ModelError for what is not
        supported.
        """
        return cls(from_lightgbm(model, margin=margin), _names(columns))

    @classmethod
    def from_sklearn(
        cls, estimator: BaseEstimator, *, columns: Sequence[str] | None = None, margin: bool = False
    ) -> Model:
        """Take a snapshot of a fitted tree, forest, gradient boosting, linear model, perceptron or pipeline of
        scikit-learn: what `predict` gives of a regressor, what `predict_proba` gives of a classifier, of two classes
        that of the second; with `margin` the decision function.

        `columns` name what it was fitted on, by default as it knows them; those that a pipeline drops are no inputs.
        Raises ModelError for what is not supported.
        """
        return cls._of_read(read_sklearn(estimator, margin=margin), columns)

    @classmethod
    def _of_read(cls, found: Read, columns: Sequence[str] | None, verifier: VerifierName = "crown") -> Model:
        names = found.names
        if columns is not None:
            given = _names(columns)
            if len(given) == 1 < found.n_columns:
                return cls(found.function, given, verifier)
            if len(given) != found.n_columns:
                raise ModelError(
                    f"the model has {found.n_columns} inputs but {len(given)} columns were given: name one per input"
                )
            names = tuple(given[i] for i in found.sources)
        if names is None:
            raise ModelError("the model does not know the names of its columns: pass columns=[...]")
        return cls(found.function, names, verifier)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file that skipml's DuckDB extension loads; the names of the columns are not in it.

        Raises ModelError for a model that is larger than the extension takes.
        """
        content = to_bytes(self.function)
        with open(path, "wb") as file:
            file.write(content)

    @property
    def hash(self) -> str:
        """Identifies the content: graph or trees, weights and dtype, not the column names."""
        return self.function.hash

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return self.function.n_outputs

    def output(self, index: int, inputs: Sequence[str] | None = None) -> ModelScore:
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

    def margin(self, first: int, second: int, inputs: Sequence[str] | None = None) -> ModelScore:
        """How much more one output is than another, both counted from 0: `model.margin(1, 0) > 0.2`. The difference of
        the outputs is computed in float64.
        """
        if first == second or not (0 <= first < self.n_outputs and 0 <= second < self.n_outputs):
            raise PredicateError(f"a margin is between two of the outputs 0 to {self.n_outputs - 1}, counted from 0")
        functional = np.zeros((1, self.n_outputs))
        functional[0, first], functional[0, second] = 1.0, -1.0
        return self._score(("margin", first, second), inputs, functional)

    def _score(self, kind: tuple[Any, ...], inputs: Sequence[str] | None, functionals: Floats) -> ModelScore:
        names = self.columns if inputs is None else tuple(inputs)
        key = (*kind, names)
        if key not in self._scores:
            self._scores[key] = ModelScore(self.function, names, functionals, self.verifier, signs=kind[0] == "class")
        return self._scores[key]

    def only_output(self) -> ModelScore:
        """The output of a model that has one, as a score; raises PredicateError for a model of several."""
        if self.n_outputs != 1:
            raise PredicateError(f"the model has {self.n_outputs} outputs: use model.output(i) or model.is_class(k)")
        return self.output(0)

    def evaluate(self, rows: pa.Table) -> NDArray[np.floating]:
        """The outputs [n, n_outputs] for a table that holds the columns; rows with a NULL input get NaN."""
        inputs, is_null = function_inputs(rows, self.columns, self.function)
        outputs = self.function.forward(inputs)
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
