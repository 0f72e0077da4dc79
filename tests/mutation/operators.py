"""Mutants of a module: every single change of a kind that a programmer may have made by mistake."""

from __future__ import annotations

import ast
import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Change = tuple[str, ast.AST]
"""What the change is called, and what stands in place of a node."""

Place = tuple[tuple[str, int], ...]
"""The way from a statement to a node in it: fields, and positions in those that are lists, else -1."""
_LISTS = ("body", "orelse", "finalbody", "handlers", "cases")

_COMPARISONS: Mapping[type[ast.cmpop], tuple[tuple[str, type[ast.cmpop]], ...]] = {
    ast.Lt: (("boundary", ast.LtE), ("comparison", ast.GtE)),
    ast.LtE: (("boundary", ast.Lt), ("comparison", ast.Gt)),
    ast.Gt: (("boundary", ast.GtE), ("comparison", ast.LtE)),
    ast.GtE: (("boundary", ast.Gt), ("comparison", ast.Lt)),
    ast.Eq: (("comparison", ast.NotEq),),
    ast.NotEq: (("comparison", ast.Eq),),
    ast.Is: (("comparison", ast.IsNot),),
    ast.IsNot: (("comparison", ast.Is),),
    ast.In: (("comparison", ast.NotIn),),
    ast.NotIn: (("comparison", ast.In),),
}
_ARITHMETIC: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
_OPPOSITES = (
    ("min", "max"),
    ("minimum", "maximum"),
    ("floor", "ceil"),
    ("any", "all"),
    ("argmin", "argmax"),
    ("nanmin", "nanmax"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
    ("logical_and", "logical_or"),
    ("isnan", "isinf"),
    ("cumsum", "array"),
)
_OPPOSITE = {name: other for pair in _OPPOSITES for name, other in (pair, pair[::-1]) if name != "array"}
_OF_FIRST = ("abs", "nextafter", "sqrt", "nan_to_num", "unique")
"""Functions in place of which their first argument may stand."""


@dataclass(frozen=True)
class Mutant:
    """A module with one change, named by what does not move when other lines do."""

    function: str
    """The outermost function that holds the change, "" for a constant of the module."""
    operator: str
    change: str
    """The header of the changed statement, before -> after."""
    occurrence: int
    """Counted from 0 among those that are called the same."""
    line: int
    statement: int
    """Which of the statements of the module."""
    place: Place
    new: ast.AST

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.function, self.operator, self.change, self.occurrence

    def source_of(self, source: str) -> ast.Module:
        """The changed module."""
        tree = ast.parse(source)
        _, statement = next(itertools.islice(_statements(tree), self.statement, None))
        if self.place:
            _put(statement, self.place, self.new)
            return ast.fix_missing_locations(tree)
        for node in ast.walk(tree):
            for field in _LISTS:
                body = getattr(node, field, None)
                if isinstance(body, list) and statement in body:
                    body[body.index(statement)] = ast.copy_location(self.new, statement)
        return ast.fix_missing_locations(tree)


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module's functions, and of the numbers among its constants."""
    seen = Counter[tuple[str, str, str]]()
    for number, (function, statement) in enumerate(_statements(ast.parse(source))):
        before = ast.unparse(_alone(statement)).partition("\n")[0]
        for place, node in _nodes(statement):
            for operator, new in _changes(node):
                after = _alone(statement) if place else new
                if place:
                    _put(after, place, new)
                name = function, operator, f"{before} -> {ast.unparse(after).partition(chr(10))[0]}"
                yield Mutant(*name, seen[name], statement.lineno, number, place, new)
                seen[name] += 1


def _alone(statement: ast.stmt) -> ast.stmt:
    """A copy of the statement without those in it."""
    shallow = copy.copy(statement)
    for field in _LISTS:
        if getattr(shallow, field, None):
            setattr(shallow, field, [ast.Pass()])
    return copy.deepcopy(shallow)


def _put(statement: ast.AST, place: Place, new: ast.AST) -> None:
    """Put another node at a place in the statement."""
    target: Any = statement
    for field, i in place[:-1]:
        target = getattr(target, field)
        target = target[i] if i >= 0 else target
    field, i = place[-1]
    if i >= 0:
        getattr(target, field)[i] = new
    else:
        setattr(target, field, new)


def _statements(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """The statements that a change may be in, each with its outermost function."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets):
            if any(isinstance(node, ast.Constant | ast.BinOp) for node in ast.walk(statement.value)):
                yield "", statement
        elif isinstance(statement, ast.ClassDef):
            for member in statement.body:
                if isinstance(member, ast.FunctionDef):
                    yield from ((f"{statement.name}.{member.name}", inner) for inner in _inner(member.body))
        elif isinstance(statement, ast.FunctionDef):
            yield from ((statement.name, inner) for inner in _inner(statement.body))


def _inner(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom | ast.Pass) or (
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        ):
            continue
        yield statement
        for field in _LISTS:
            for inner in getattr(statement, field, ()):
                yield from _inner(inner.body if isinstance(inner, ast.ExceptHandler | ast.match_case) else [inner])


def _nodes(statement: ast.stmt) -> Iterator[tuple[Place, ast.AST]]:
    """The statement itself and the expressions of its header."""
    yield (), statement
    yield from _below(statement, (), (*_LISTS, "annotation", "returns", "decorator_list"))


def _below(node: ast.AST, place: Place, skipped: tuple[str, ...] = ()) -> Iterator[tuple[Place, ast.AST]]:
    for field, value in ast.iter_fields(node):
        if field in skipped:
            continue
        for i, child in enumerate(value) if isinstance(value, list) else ((-1, value),):
            if isinstance(child, ast.AST) and not isinstance(child, ast.expr_context | ast.JoinedStr):
                if isinstance(child, ast.UnaryOp) and getattr(getattr(node, "func", None), "attr", "") == "reshape":
                    continue  # any negative number stands for the size that is left
                yield (*place, (field, i)), child
                yield from _below(child, (*place, (field, i)))


def _changes(node: ast.AST) -> Iterator[Change]:
    """What may stand in place of a node."""
    for kind, change in _CHANGES.items():
        if isinstance(node, kind):
            yield from change(node)


def _compare(node: ast.Compare) -> Iterator[Change]:
    for i, operator in enumerate(node.ops):
        for name, other in _COMPARISONS[type(operator)]:
            yield name, ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)


def _binary(node: ast.BinOp) -> Iterator[Change]:
    if type(node.op) in _ARITHMETIC and not (isinstance(node.op, ast.BitOr) and _is_type(node)):
        yield "arithmetic", ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)


def _is_type(node: ast.expr) -> bool:
    """Whether A | B is a union of types, as in isinstance."""
    return isinstance(node, ast.BinOp) and any(
        (isinstance(e, ast.Name) and e.id[:1].isupper()) or (isinstance(e, ast.Constant) and e.value is None)
        for e in (node.left, node.right)
    )


def _augmented(node: ast.AugAssign) -> Iterator[Change]:
    if type(node.op) in _ARITHMETIC:
        yield "arithmetic", ast.AugAssign(node.target, _ARITHMETIC[type(node.op)](), node.value)
    yield "removed", ast.Pass()


def _unary(node: ast.UnaryOp) -> Iterator[Change]:
    if not isinstance(node.op, ast.UAdd):
        yield "sign" if isinstance(node.op, ast.USub) else "negation", node.operand


def _boolean(node: ast.BoolOp) -> Iterator[Change]:
    yield "boolean", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for i in range(len(node.values)):
        rest = [*node.values[:i], *node.values[i + 1 :]]
        yield "boolean", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int):
        yield "constant", ast.Constant(value + 1)
    elif isinstance(value, float):
        yield "constant", ast.Constant(value * 2 if value else 1.0)
    elif value in ("left", "right"):
        yield "constant", ast.Constant("left" if value == "right" else "right")


def _call(node: ast.Call) -> Iterator[Change]:
    function = node.func
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    if name in _OPPOSITE:
        yield "opposite", ast.Call(_renamed(function, _OPPOSITE[name]), node.args, node.keywords)
    if name in _OF_FIRST and node.args:
        yield "first argument", node.args[0]
    if name == "where" and len(node.args) == 3:
        yield "opposite", ast.Call(function, [node.args[0], node.args[2], node.args[1]], node.keywords)
    if name in ("at", "reduceat", "accumulate", "reduce", "outer") and isinstance(function, ast.Attribute):
        inner = function.value
        if isinstance(inner, ast.Attribute) and inner.attr in _OPPOSITE:
            ufunc = _renamed(inner, _OPPOSITE[inner.attr])
            yield "opposite", ast.Call(ast.Attribute(ufunc, name, ast.Load()), node.args, node.keywords)


def _renamed(function: ast.expr, name: str) -> ast.expr:
    return (
        ast.Attribute(function.value, name, ast.Load())
        if isinstance(function, ast.Attribute)
        else ast.Name(name, ast.Load())
    )


def _attribute(node: ast.Attribute) -> Iterator[Change]:
    if node.attr == "inf":
        yield "sign", ast.UnaryOp(ast.USub(), node)


def _choice(node: ast.IfExp) -> Iterator[Change]:
    yield "choice", ast.IfExp(node.test, node.orelse, node.body)


def _if(node: ast.If | ast.While) -> Iterator[Change]:
    if isinstance(node, ast.If):
        yield "never", ast.If(ast.Constant(False), node.body, node.orelse)
        yield "always", ast.If(ast.Constant(True), node.body, node.orelse)


def _return(node: ast.Return) -> Iterator[Change]:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield "return", ast.Return(ast.Constant(None))


def _expression(node: ast.Expr) -> Iterator[Change]:
    if not isinstance(node.value, ast.Yield | ast.YieldFrom):
        yield "removed", ast.Pass()


def _assignment(node: ast.Assign) -> Iterator[Change]:
    if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
        yield "removed", ast.Pass()


_CHANGES: Mapping[type[ast.AST], Callable[..., Iterator[Change]]] = {
    ast.Compare: _compare,
    ast.BinOp: _binary,
    ast.AugAssign: _augmented,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.Constant: _constant,
    ast.Call: _call,
    ast.Attribute: _attribute,
    ast.IfExp: _choice,
    ast.If: _if,
    ast.Return: _return,
    ast.Expr: _expression,
    ast.Assign: _assignment,
}
