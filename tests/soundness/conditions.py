"""Conditions on scores as plain data, that is predicates, SQL and an answer for every row of their own.

A condition is a tuple: (operator, output, limit), ("between", output, low, high), ("class", label), ("not", c),
("and", c, c) or ("or", c, c).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import skipml
from skipml.predicates import Predicate
from tests.soundness.lakes import Rng

Bools = NDArray[np.bool_]
Condition = tuple[Any, ...]

OPERATORS = (">", ">=", "<", "<=")
SHAPES = ("threshold", "between", "class", "not", "and", "or")


@dataclass(frozen=True)
class Scores:
    """The scores [n, outputs] of all rows, and where there are none [n]."""

    values: NDArray[np.floating]
    is_null: Bools

    def limits(self, rng: Rng, output: int, n: int) -> list[float]:
        """Limits that a score just passes or just fails: scores, often the extreme ones, and numbers next to them."""
        known = self.values[~self.is_null, output]
        known = known[~np.isnan(known)]
        if not len(known):
            known = np.zeros(1, self.values.dtype)
        chosen = rng.choice(np.concatenate([known, np.repeat([known.min(), known.max()], max(1, len(known) // 4))]), n)
        step = rng.integers(0, 5, n)
        with np.errstate(over="ignore"):
            single = [chosen, *(np.nextafter(chosen, self.values.dtype.type(to)) for to in (-np.inf, np.inf))]
            double = [np.nextafter(chosen.astype(np.float64), to) for to in (-np.inf, np.inf)]
        limits = np.choose(step, [*(values.astype(np.float64) for values in single), *double])
        limits[rng.random(n) < 0.02] = rng.choice([0.0, np.inf, -np.inf])
        found: list[float] = limits.tolist()
        return found

    def holds(self, condition: Condition) -> tuple[Bools, Bools]:
        """Where a condition is TRUE and where it is FALSE; where it is neither it is NULL. NaN is the largest."""
        kind = condition[0]
        if kind == "not":
            true, false = self.holds(condition[1])
            return false, true
        if kind in ("and", "or"):
            (a, not_a), (b, not_b) = self.holds(condition[1]), self.holds(condition[2])
            return (a & b, not_a | not_b) if kind == "and" else (a | b, not_a & not_b)
        if kind == "class":
            passed = np.argmax(self.values, axis=1) == condition[1]
        elif kind == "between":
            passed = self._compare(">=", *condition[1:3]) & self._compare("<=", condition[1], condition[3])
        else:
            passed = self._compare(*condition)
        return passed & ~self.is_null, ~passed & ~self.is_null

    def _compare(self, operator: str, output: int, limit: float) -> Bools:
        values = self.values[:, output].astype(np.float64)
        is_nan = np.isnan(values)
        values = np.where(is_nan, np.inf, values)
        if operator in (">", "<="):
            above = (values > limit) | is_nan
            return above if operator == ">" else ~above
        reaches = (values >= limit) | is_nan
        return reaches if operator == ">=" else ~reaches


def conditions(rng: Rng, scores: Scores, n: int) -> list[Condition]:
    """Many conditions of every shape."""
    outputs = scores.values.shape[1]
    limits = [iter(scores.limits(rng, output, 8 * n)) for output in range(outputs)]

    def one(depth: int) -> Condition:
        shape = str(rng.choice(SHAPES if depth else SHAPES[:3], p=(0.4, 0.2, 0.1, 0.1, 0.1, 0.1) if depth else None))
        if shape == "not":
            return ("not", one(depth - 1))
        if shape in ("and", "or"):
            return (shape, one(depth - 1), one(depth - 1))
        if shape == "class" and outputs > 1:
            return ("class", int(rng.integers(outputs)))
        output = int(rng.integers(outputs))
        if shape == "between":
            low, high = sorted((next(limits[output]), next(limits[output])))
            return ("between", output, low, low if rng.random() < 0.3 else high)
        return (OPERATORS[int(rng.integers(4))], output, next(limits[output]))

    return [one(2) for _ in range(n)]


def predicate_of(condition: Condition, model: skipml.Model) -> Predicate:
    """The predicate of the Python API."""
    kind = condition[0]
    if kind == "not":
        return ~predicate_of(condition[1], model)
    if kind in ("and", "or"):
        left, right = (predicate_of(part, model) for part in condition[1:])
        return left & right if kind == "and" else left | right
    if kind == "class":
        return model.is_class(condition[1])
    score = model.output(condition[1])
    if kind == "between":
        return score.between(*condition[2:])
    limit: float = condition[2]
    return {">": score > limit, ">=": score >= limit, "<": score < limit, "<=": score <= limit}[kind]


def sql_of(condition: Condition, name: str, arguments: str, n_outputs: int) -> str:
    """The condition in SQL, with limits compared as doubles."""
    kind = condition[0]
    if kind == "not":
        return f"NOT ({sql_of(condition[1], name, arguments, n_outputs)})"
    if kind in ("and", "or"):
        left, right = (sql_of(part, name, arguments, n_outputs) for part in condition[1:])
        return f"({left}) {kind.upper()} ({right})"
    if kind == "class":
        return f"{name}_class({arguments}) = {condition[1]}"
    element = f"{name}({arguments})" + (f"[{condition[1] + 1}]" if n_outputs > 1 else "")
    limits = [f"'{limit!r}'::DOUBLE" for limit in condition[2:]]
    value = f"CAST({element} AS DOUBLE)"
    return f"{value} BETWEEN {limits[0]} AND {limits[1]}" if kind == "between" else f"{value} {kind} {limits[0]}"
