"""Random networks over the columns of a lake, and random conditions with limits at or next to the score of a row."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import skipml
from skipml.network import LeakyRelu, Network, Op, Scale, Shift
from skipml.predicates import Predicate
from skipml.scores import ModelScore
from tests.soundness.lakes import KINDS, Lake, Rng
from tests.strategies import networks

Floats = NDArray[np.float64]

_OPERATORS = (">", ">=", "<", "<=")
_LOUDNESS = (1.0, 1.0, 1.0, 1.0, 1e-40, 1e30, 3e38)


@st.composite
def lake_networks(draw: st.DrawFn, lake: Lake) -> Network:
    """Networks that see the lake's columns in their own scale; some have no arithmetic at all, some overflow."""
    if len(lake.kinds) == 1 and draw(st.integers(0, 3)) == 0:
        exact = draw(st.sampled_from([(), (LeakyRelu(0.0),), (LeakyRelu(0.25),)]))
        return Network(1, 1, np.dtype(draw(st.sampled_from(["float32", "float64"]))), exact)
    inner = draw(
        networks(
            n_inputs=st.just(len(lake.kinds)),
            n_outputs=st.sampled_from([1, 1, 3]),
            hidden=st.lists(st.integers(1, 6), max_size=2),
        )
    )
    kinds = [KINDS[kind] for kind in lake.kinds]
    ops: list[Op] = [
        Shift(np.array([-kind.centre for kind in kinds], inner.dtype)),
        Scale(np.array([1 / kind.scale for kind in kinds], inner.dtype)),
    ]
    loudness = draw(st.sampled_from(_LOUDNESS))
    if loudness != 1:
        ops.append(Scale(np.full(len(kinds), loudness, inner.dtype)))
    return Network(inner.n_inputs, inner.n_outputs, inner.dtype, (*ops, *inner.ops))


@dataclass(frozen=True)
class Limits:
    """Draws limits that a row's score just passes or just fails."""

    rng: Rng
    scores: Floats
    """[n, n_outputs]; NaN where there is none."""
    dtype: np.dtype[np.floating]

    def near(self, output: int) -> float:
        """A score, often an extreme one, or the number next to it in the score's type or as a double."""
        scores = self.scores[:, output]
        scores = scores[~np.isnan(scores)]
        if not len(scores):
            return float(self.rng.normal())
        score = float(self.rng.choice([scores.max(), scores.min(), *self.rng.choice(scores, 4)]))
        towards = float(self.rng.choice([-np.inf, np.inf]))
        kind = self.rng.choice(["equal", "next", "next double"])
        with np.errstate(over="ignore"):
            if kind == "next":
                return float(np.nextafter(self.dtype.type(score), self.dtype.type(towards)))
        return float(np.nextafter(score, towards)) if kind == "next double" else score


@dataclass(frozen=True)
class Question:
    """A condition over model scores in SQL, with the parameters it binds."""

    condition: str
    parameters: list[float]


@dataclass
class Asker:
    """Makes conditions on the registered model `name` with the argument expressions given."""

    rng: Rng
    limits: Limits
    name: str
    arguments: str
    n_outputs: int

    def question(self) -> Question:
        parameters: list[float] = []
        condition = str(self.rng.choice(_SHAPES))
        if self.n_outputs > 1 and self.rng.random() < 0.4:
            condition = str(self.rng.choice(_CLASS_SHAPES))
        output = int(self.rng.integers(self.n_outputs))
        score = f"{self.name}({self.arguments})" + (f"[{output + 1}]" if self.n_outputs > 1 else "")
        # one piece at a time: parameters are bound in the order of the text
        words = condition.split(" ")
        for i, word in enumerate(words):
            words[i] = (
                word.replace("$score", score)
                .replace("$class", f"{self.name}_class({self.arguments})")
                .replace("$label", str(self.rng.integers(self.n_outputs)))
                .replace("$op", str(self.rng.choice(_OPERATORS)))
            )
            if "$limit" in word:
                words[i] = words[i].replace("$limit", self._literal(self.limits.near(output), parameters))
        return Question(" ".join(words), parameters)

    def _literal(self, limit: float, parameters: list[float]) -> str:
        form = self.rng.choice(["double", "parameter", "float", "decimal", "plain"])
        if form == "parameter":
            parameters.append(limit)
            return "?"
        if form == "float" and abs(limit) < 3e38:
            return f"'{limit!r}'::FLOAT"
        if form == "plain" and np.isfinite(limit):
            return f"({limit!r})"
        digits = format(Decimal(limit), "f") if np.isfinite(limit) else ""
        if form == "decimal" and digits and len(digits) < 38:
            return f"({digits})"
        return f"'{limit!r}'::DOUBLE"


_SHAPES = (
    *("$score $op $limit",) * 6,
    "$limit $op $score",
    "NOT $score $op $limit",
    "NOT ( NOT $score $op $limit )",
    "$score BETWEEN $limit AND $limit",
    "$score NOT BETWEEN $limit AND $limit",
    "$score $op $limit AND $score $op $limit",
    "NOT ( $score $op $limit AND $score $op $limit )",
    "$score $op $limit OR $score $op $limit",
    "$score = $limit",
    "$score <> $limit",
    "$score IN ( $limit , $limit )",
    "$score NOT IN ( $limit , $limit )",
    "$score $op $limit AND id % 2 = 0",
    "$score $op $limit OR id % 5 = 0",
    "NOT ( $score $op $limit OR id % 2 = 0 )",
    "NOT ( $score $op $limit AND id % 2 = 0 )",
    "( $score $op $limit ) IS NOT FALSE",
    "$score $op $limit OR $score IS NULL",
    "CASE WHEN id % 2 = 0 THEN $score $op $limit ELSE FALSE END",
    "coalesce( $score , 0) $op $limit",
)
_CLASS_SHAPES = (
    "$class = $label",
    "$class <> $label",
    "NOT ( $class = $label )",
    "$class IN ( $label , $label )",
    "$class = $label AND $score $op $limit",
    "$class <> $label OR $score $op $limit",
)


@dataclass(frozen=True)
class Wanted:
    """A predicate of the Python API, and the same in SQL."""

    predicate: Predicate
    sql: str

    def negated(self) -> Wanted:
        return Wanted(~self.predicate, f"NOT ({self.sql})")


def wanted(rng: Rng, model: skipml.Model, limits: Limits, call: str, depth: int = 2) -> Wanted:
    """A tree of predicates on the model's scores; `call` is the model's call in SQL, `call` with _class its class."""
    if depth and rng.random() < 0.4:
        left, right = (wanted(rng, model, limits, call, depth - 1) for _ in range(2))
        if rng.random() < 0.5:
            both = Wanted(left.predicate & right.predicate, f"({left.sql}) AND ({right.sql})")
        else:
            both = Wanted(left.predicate | right.predicate, f"({left.sql}) OR ({right.sql})")
        return both.negated() if rng.random() < 0.3 else both
    if model.n_outputs > 1 and rng.random() < 0.4:
        label = int(rng.integers(model.n_outputs))
        test = Wanted(model.is_class(label), f"{call.replace('(', '_class(', 1)} = {label}")
    else:
        output = int(rng.integers(model.n_outputs))
        element = f"{call}[{output + 1}]" if model.n_outputs > 1 else call
        test = _score_test(rng, model.output(output), element, (limits.near(output), limits.near(output)))
    return test.negated() if rng.random() < 0.25 else test


def _score_test(rng: Rng, score: ModelScore, element: str, limits: tuple[float, float]) -> Wanted:
    limit, other = limits
    value = f"CAST({element} AS DOUBLE)"
    low, high = sorted([limit, limit if rng.random() < 0.3 else other])
    tests: list[tuple[Predicate, str]] = [
        (score > limit, f"{value} > '{limit!r}'::DOUBLE"),
        (score >= limit, f"{value} >= '{limit!r}'::DOUBLE"),
        (score < limit, f"{value} < '{limit!r}'::DOUBLE"),
        (score <= limit, f"{value} <= '{limit!r}'::DOUBLE"),
        (score.between(low, high), f"{value} BETWEEN '{low!r}'::DOUBLE AND '{high!r}'::DOUBLE"),
    ]
    return Wanted(*tests[int(rng.integers(len(tests)))])
