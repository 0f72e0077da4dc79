"""Bound SQL conditions as predicates: which comparisons of a registered model's score skipml understands, and with
which constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from skipml.engines.dialect import Expr
from skipml.engines.functions import ModelCalls, ModelFunction
from skipml.predicates import Opaque, Or, Predicate, all_of
from skipml.score_tests import Between, Operator, Threshold
from skipml.scores import Model, ModelScore

_MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "=": "=", "<>": "<>"}
_ELEMENT = {"array_extract", "list_extract", "list_element"}


@dataclass(slots=True)
class ConditionReader:
    """Turns the conjuncts of one scan into a predicate whose inputs are argument expressions, named by number and text.

    `constant` evaluates the SQL of a constant as DuckDB does and gives it as a float, or None.
    """

    calls: ModelCalls
    scan_columns: Sequence[str]
    constant: Callable[[str], float | None]
    arguments: dict[str, Expr] = field(default_factory=dict)
    _names: dict[Expr, str] = field(default_factory=dict)
    constants: dict[str, float] = field(default_factory=dict)
    understood: list[str] = field(default_factory=list)
    """The conditions of the predicate, as text."""
    scored: dict[Expr, ModelFunction] = field(default_factory=dict)
    """The calls of models in the predicate."""
    understood_conjuncts: set[Expr] = field(default_factory=set)
    """Those that the predicate is made of: they are TRUE where it is KEEP."""

    def predicate(self, conjuncts: Sequence[Expr]) -> Predicate | None:
        """The conjunction of what is understood, or None where no conjunct calls a model."""
        read = [(c, self._read(c)) for c in conjuncts]
        understood = [p for _, p in read if p.inputs]
        self.understood_conjuncts = {c for c, p in read if p.inputs}
        return all_of(_merged(understood)) if understood else None

    def score(self, value: Expr) -> ModelScore | None:
        """The score that an expression is, or None for anything else."""
        expr, index = _model_call(value)
        call = self.calls.find(expr) if expr is not None else None
        if expr is None or call is None or call.function.kind != "score":
            return None
        output = _output_index(call.function.model, index)
        if output is None:
            return None
        self.scored[expr] = call.function
        return call.function.model.output(output, [self._input(arg) for arg in call.inputs])

    def _read(self, expr: Expr) -> Predicate:
        if expr.op == "and":
            return all_of(_merged([self._read(arg) for arg in expr.args]))
        if expr.op == "or":
            parts = [self._read(arg) for arg in expr.args]
            return _any(parts)
        if expr.op == "not":
            return self._read(expr.args[0]).negated()
        if expr.op == "in":
            return _any([self._comparison("=", expr.args[0], option) for option in expr.args[1:]])
        if expr.op == "compare":
            return self._compare(expr)
        return Opaque(expr.op)

    def _compare(self, expr: Expr) -> Predicate:
        left, right = expr.args
        if _constant_sql(right) is not None:
            return self._comparison(expr.name, left, right)
        if _constant_sql(left) is not None:
            return self._comparison(_MIRRORED[expr.name], right, left)
        return Opaque("comparison of two columns")

    def _comparison(self, operator: str, value: Expr, constant: Expr) -> Predicate:
        sql = _constant_sql(constant)
        limit = self.constant(sql) if sql is not None else None
        expr, index = _model_call(value)
        call = self.calls.find(expr) if expr is not None else None
        if expr is None or call is None or limit is None or np.isnan(limit):
            return Opaque("not a model score against a constant")
        function = call.function
        inputs = [self._input(arg) for arg in call.inputs]
        self.scored[expr] = function
        self.understood.append(f"{self.text(value)} {operator} {limit:g}")
        if function.kind == "class":
            return _class_test(operator, function.model, limit, inputs)
        output = _output_index(function.model, index)
        if output is None:
            return Opaque("no such output")
        return _score_test(operator, function.model.output(output, inputs), limit)

    def _input(self, expr: Expr) -> str:
        # A column may have the text of an expression for its name, so the text alone would not do.
        name = self._names.setdefault(expr, f"{len(self._names)}: {self.text(expr)}")
        self.arguments[name] = expr
        self._collect_constants(expr)
        return name

    def _collect_constants(self, expr: Expr) -> None:
        if expr.op == "const" and expr.name not in self.constants and expr.type != "VARCHAR":
            value = self.constant(expr.name)
            if value is not None:
                self.constants[expr.name] = value
        for arg in expr.args:
            self._collect_constants(arg)

    def text(self, expr: Expr) -> str:
        """An expression over the scan's columns, for people."""
        if expr.op == "ref":
            return self.scan_columns[expr.index]
        if expr.op == "const":
            return expr.name
        call = self.calls.find(expr)
        inner = ", ".join(self.text(arg) for arg in (call.inputs if call else expr.args))
        if expr.op == "cast":
            return f"CAST({inner} AS {expr.name})"
        return f"{call.function.name if call else expr.name or expr.op}({inner})"


def _constant_sql(expr: Expr) -> str | None:
    if expr.op == "const":
        return expr.name
    if expr.op == "cast":
        inner = _constant_sql(expr.args[0])
        return f"CAST({inner} AS {expr.name})" if inner is not None else None
    if expr.op == "call" and expr.name == "-" and len(expr.args) == 1:
        inner = _constant_sql(expr.args[0])
        return f"(-({inner}))" if inner is not None else None
    return None


def _model_call(value: Expr) -> tuple[Expr | None, int | None]:
    """The function call under a lossless cast and an element access, and the element, counted from 1."""
    if value.op == "cast" and value.name == "DOUBLE" and value.args[0].type in ("FLOAT", "DOUBLE"):
        value = value.args[0]
    if value.op == "call" and value.name in _ELEMENT and len(value.args) == 2:
        text = _constant_sql(value.args[1])
        element = _integer(text)
        return (value.args[0], element) if element is not None and value.args[0].op == "call" else (None, None)
    return (value, None) if value.op == "call" else (None, None)


def _integer(sql: str | None) -> int | None:
    digits = sql.removeprefix("CAST(").split("::")[0] if sql else ""
    return int(digits) if digits.isdigit() else None


def _output_index(model: Model, element: int | None) -> int | None:
    if element is None:
        return 0 if model.n_outputs == 1 else None
    return element - 1 if model.n_outputs > 1 and 1 <= element <= model.n_outputs else None


def _score_test(operator: str, score: ModelScore, limit: float) -> Predicate:
    if operator in ("=", "<>"):
        equal = Between(score, limit, limit)
        return equal if operator == "=" else equal.negated()
    return Threshold(score, cast(Operator, operator), limit)


def _class_test(operator: str, model: Model, label: float, inputs: Sequence[str]) -> Predicate:
    if operator not in ("=", "<>") or not label.is_integer() or not 0 <= label < model.n_outputs:
        return Opaque("not a test for one of the classes")
    test = model.is_class(int(label), inputs)
    return test if operator == "=" else test.negated()


def _any(parts: Sequence[Predicate]) -> Predicate:
    if any(isinstance(part, Opaque) for part in parts):
        return Opaque("OR with a condition that calls no model")
    return parts[0] if len(parts) == 1 else Or(parts[0], _any(parts[1:]))


def _merged(parts: Sequence[Predicate]) -> list[Predicate]:
    """Join the lower and the upper limit of one score into one Between, which branch and bound can decide together;
    model tests come first, so that they are tried.
    """
    rest: list[Predicate] = []
    limits: dict[int, list[Threshold]] = {}
    for part in parts:
        if isinstance(part, Threshold):
            limits.setdefault(id(part.score), []).append(part)
        else:
            rest.append(part)
    merged: list[Predicate] = []
    for tests in limits.values():
        above = [t for t in tests if t.on_nan]
        below = [t for t in tests if not t.on_nan]
        if len(above) == 1 and len(below) == 1:
            low, high = above[0], below[0]
            merged.append(Between(low.score, low.limit, high.limit, low.operator == ">", high.operator == "<"))
        else:
            merged += tests
    return merged + rest
