"""Which filters hold for which scan: filter pushdown over DuckDB's bound, unoptimized logical plan.

A conjunct reaches a scan only through rules that hold for all data: every row of the scan that can matter to the
result satisfies it. Columns are positions, never names, because the text of EXPLAIN shows aliases (`SELECT b AS a, a
AS b` prints a filter on `a` that reads `b`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from skipml.engines.dialect import Expr, Node, expression, function_name, join_condition
from skipml.engines.marks import read_mark, unmarked

Conjuncts = list[Expr]

_SET_OPERATIONS = {"LOGICAL_UNION", "LOGICAL_EXCEPT", "LOGICAL_INTERSECT"}
_JOINS = {
    "LOGICAL_COMPARISON_JOIN",
    "LOGICAL_DELIM_JOIN",
    "LOGICAL_ANY_JOIN",
    "LOGICAL_CROSS_PRODUCT",
    "LOGICAL_ASOF_JOIN",
}
_KEEPS_COLUMNS = {
    "LOGICAL_FILTER",
    "LOGICAL_ORDER_BY",
    "LOGICAL_DISTINCT",
    "LOGICAL_LIMIT",
    "LOGICAL_TOP_N",
    "LOGICAL_SAMPLE",
}


@dataclass(frozen=True, slots=True)
class ScanFilter:
    """The conjuncts that every relevant row of one scan satisfies; `columns` names what their positions mean."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    conjuncts: tuple[Expr, ...]
    marks: Mapping[int, tuple[Expr, ...]] = field(default_factory=dict)
    """What conjuncts with a number are made of, by number."""


@dataclass(slots=True)
class Pushdown:
    """Walks a plan once and collects, per table, the filter of every scan of it; `references` counts those to each
    CTE in the whole plan.
    """

    references: Counter[int]
    volatile: Container[str]
    """The functions that may give each row another value, so that it matters how many rows they are asked for."""
    answer_null: Container[str] = ()
    """The functions that may not be NULL where their arguments are."""
    scans: dict[str, list[ScanFilter]] = field(default_factory=dict)
    _cte: dict[int, list[Conjuncts]] = field(default_factory=dict)

    def visit(self, node: Node, wanted: Conjuncts) -> None:
        """Go down the plan; `wanted` are conjuncts over the node's output that any row must satisfy to matter."""
        kind, children = node["type"], node.get("children", [])
        if _has_projection_map(node):
            wanted = []
        if kind == "LOGICAL_GET":
            self._scan(node, wanted)
            for child in children:
                self.visit(child, [])
        elif kind in _JOINS and len(children) == 2:
            self._join(node, wanted)
        elif kind == "LOGICAL_CTE_REF":
            self._cte.setdefault(_cte_of(node), []).append(wanted)
        elif kind == "LOGICAL_MATERIALIZED_CTE":
            self.visit(children[1], wanted)
            index = node.get("table_index", 0)
            found = self._cte.get(index, [])
            self.visit(children[0], _any_of(found) if len(found) == self.references[index] else [])
        else:
            for child in children:
                self.visit(child, _through(node, [] if self._counts_rows(node) else wanted))

    def _counts_rows(self, node: Node) -> bool:
        """Whether an operator calls a volatile function: DuckDB gives it every row too, and filters afterwards."""
        calls = (name for e in node.get("expressions", []) for name in _called(expression(e)))
        return node["type"] in ("LOGICAL_PROJECTION", "LOGICAL_FILTER") and any(name in self.volatile for name in calls)

    def _scan(self, node: Node, wanted: Conjuncts) -> None:
        table = scanned_table(node)
        if table is None:
            return
        positions = [column.get("index", 0) for column in node.get("column_indexes", [])]
        if node.get("projection_ids"):
            positions = [positions[i] for i in node["projection_ids"]]
        names, types = node["names"], [t["id"] for t in node["returned_types"]]
        known = [p if p < len(names) else None for p in positions]
        usable = [c for c in wanted if all(i < len(known) and known[i] is not None for i in c.refs())]
        columns = tuple("" if p is None else names[p] for p in known)
        marks = {int(c.name): tuple(conjuncts(unmarked(c))) for c in usable if c.op == "marked"}
        plain = tuple(part for c in usable for part in conjuncts(unmarked(c)))
        found = ScanFilter(columns, tuple("" if p is None else types[p] for p in known), plain, marks)
        self.scans.setdefault(table, []).append(found)

    def _join(self, node: Node, wanted: Conjuncts) -> None:
        left, right = node["children"]
        n_left, n_right = width(left), width(right)
        if n_left is None or n_right is None:
            self.visit(left, [])
            self.visit(right, [])
            return
        join = "INNER" if node["type"] == "LOGICAL_CROSS_PRODUCT" else node.get("join_type", "")
        above_left = [c for c in wanted if _only(c, 0, n_left)]
        above_right = [s for c in wanted if _only(c, n_left, n_left + n_right) and (s := _shift(c, -n_left))]
        on_left, on_right = _conditions(node, n_left, n_right)
        if node["type"] == "LOGICAL_ASOF_JOIN":
            # Taking a row from the right would change which row is the nearest.
            self.visit(left, above_left if join in ("INNER", "LEFT") else [])
            self.visit(right, [])
            return
        strict_left = [c for c in above_left if rejects_null(c, self.answer_null)]
        strict_right = [c for c in above_right if rejects_null(c, self.answer_null)]
        down: dict[str, tuple[Conjuncts, Conjuncts]] = {
            "INNER": (above_left + on_left, above_right + on_right),
            "LEFT": (above_left, strict_right + on_right),
            "RIGHT": (strict_left + on_left, above_right),
            "OUTER": (strict_left, strict_right),
            "SEMI": (above_left + on_left, on_right),
            "ANTI": (above_left, on_right),
            "MARK": (above_left, []),
            "SINGLE": (above_left, []),
        }
        for child, passed in zip((left, right), down.get(join, ([], [])), strict=True):
            self.visit(child, passed)


def _called(expr: Expr) -> Iterator[str]:
    """The functions that an expression calls."""
    if expr.op == "call":
        yield expr.name
    for arg in expr.args:
        yield from _called(arg)


def _through(node: Node, wanted: Conjuncts) -> Conjuncts:
    """The conjuncts below an operator with one input, or a set operation; none below what is not known to allow it."""
    kind = node["type"]
    if kind == "LOGICAL_FILTER":
        return wanted + [c for e in node.get("expressions", []) for c in conjuncts(expression(e))]
    if kind == "LOGICAL_PROJECTION":
        return _substitute(wanted, [expression(e) for e in node.get("expressions", [])])
    if kind == "LOGICAL_AGGREGATE_AND_GROUP_BY":
        return _through_groups(node, wanted)
    plain_distinct = kind == "LOGICAL_DISTINCT" and node.get("distinct_type") == "DISTINCT"
    return wanted if kind == "LOGICAL_ORDER_BY" or plain_distinct or kind in _SET_OPERATIONS else []


def scan_filters(
    plan: Node, everywhere: Sequence[Node], volatile: Container[str], answer_null: Container[str] = ()
) -> dict[str, list[ScanFilter]]:
    """For each base table of a serialized logical plan, given all its nodes too, the filter of every scan of it; a
    table with a scan in a part of the plan that is not understood is left out.
    """
    references = Counter(_cte_of(node) for node in everywhere if node.get("type") == "LOGICAL_CTE_REF")
    pushdown = Pushdown(references, volatile, answer_null)
    pushdown.visit(plan, [])
    scans = scan_counts(everywhere)
    return {table: found for table, found in pushdown.scans.items() if len(found) == scans[table]}


def scan_counts(operators: Sequence[Node]) -> Counter[str]:
    """How many of the operators of a plan scan each table."""
    gets = (node for node in operators if node.get("type") == "LOGICAL_GET")
    return Counter(table for node in gets if (table := scanned_table(node)) is not None)


def _cte_of(reference: Node) -> int:
    return int(reference.get("cte_index", 0))


def scanned_table(node: Node) -> str | None:
    """The table that an operator scans, None for any other operator."""
    table = node.get("function_data", {}).get("table")
    return str(table) if table is not None and function_name(node) == "seq_scan" else None


def conjuncts(expr: Expr) -> Conjuncts:
    """Split nested ANDs, but for conjuncts with a number."""
    return [part for arg in expr.args for part in conjuncts(arg)] if expr.op == "and" else [read_mark(expr)]


def rejects_null(expr: Expr, answer_null: Container[str] = ()) -> bool:
    """Whether the predicate is provably not TRUE on a row whose columns are all NULL; `answer_null` are functions that
    may not be NULL there.
    """

    def is_null(value: Expr) -> bool:
        return _null_on_null(value, answer_null)

    if expr.op in ("and", "marked"):
        return any(rejects_null(arg, answer_null) for arg in expr.args)
    if expr.op == "or":
        return all(rejects_null(arg, answer_null) for arg in expr.args)
    if expr.op in ("not", "in"):
        return is_null(expr.args[0])
    return expr.op == "compare" and any(is_null(arg) for arg in expr.args)


def _null_on_null(expr: Expr, answer_null: Container[str]) -> bool:
    """Whether the value is NULL when every column is: casts, comparisons and functions with default NULL handling
    over a column are.
    """
    if expr.op == "ref":
        return True
    strict_call = expr.op == "call" and expr.name not in _NOT_STRICT and expr.name not in answer_null
    return (expr.op in ("cast", "compare") or strict_call) and any(_null_on_null(a, answer_null) for a in expr.args)


_NOT_STRICT = {
    "coalesce",
    "ifnull",
    "concat",
    "concat_ws",
    "greatest",
    "least",
    "list_value",
    "struct_pack",
    "row",
    "constant_or_null",
    "error",
    "if",
    "nvl",
}


def width(node: Node) -> int | None:
    """The number of output columns of an operator, or None where it is not known."""
    kind, children = node["type"], node.get("children", [])
    if _has_projection_map(node):
        return None
    if kind == "LOGICAL_GET" and not children:
        return len(node.get("projection_ids") or node.get("column_indexes", []))
    if kind == "LOGICAL_PROJECTION":
        return len(node.get("expressions", []))
    if kind == "LOGICAL_AGGREGATE_AND_GROUP_BY":
        return sum(len(node.get(part, [])) for part in ("groups", "expressions", "grouping_functions"))
    if kind in _KEEPS_COLUMNS:
        return width(children[0])
    if kind in ("LOGICAL_CTE_REF", "LOGICAL_DELIM_GET", "LOGICAL_CHUNK_GET"):
        return len(node["chunk_types"])
    if kind == "LOGICAL_EXPRESSION_GET":
        return len(node["expr_types"])
    if kind in _SET_OPERATIONS:
        return int(node["column_count"])
    if kind == "LOGICAL_MATERIALIZED_CTE":
        return width(children[1])
    if kind in _JOINS:
        return _join_width(node, width(children[0]), width(children[1]))
    return None


def _join_width(node: Node, left: int | None, right: int | None) -> int | None:
    join = "INNER" if node["type"] == "LOGICAL_CROSS_PRODUCT" else node.get("join_type", "")
    if left is None or right is None:
        return None
    if join in ("SEMI", "ANTI"):
        return left
    if join == "MARK":
        return left + 1
    return left + right if join in ("INNER", "LEFT", "RIGHT", "OUTER", "SINGLE") else None


def _has_projection_map(node: Node) -> bool:
    return any(node.get(part) for part in ("projection_map", "left_projection_map", "right_projection_map"))


def _conditions(node: Node, n_left: int, n_right: int) -> tuple[Conjuncts, Conjuncts]:
    """The ON conditions that read one side only, each over that side's columns."""
    on_left: Conjuncts = []
    on_right: Conjuncts = []
    for condition in node.get("conditions", []):
        expr = join_condition(condition)
        if len(expr.args) == 2 and expr.op == "compare":
            left, right = expr.args
            if not list(right.refs()):
                on_left.append(expr)
            elif not list(left.refs()):
                on_right.append(expr)
    if "condition" in node:
        for expr in conjuncts(expression(node["condition"])):
            if _only(expr, 0, n_left):
                on_left.append(expr)
            elif _only(expr, n_left, n_left + n_right) and (shifted := _shift(expr, -n_left)):
                on_right.append(shifted)
    return on_left, on_right


def _only(expr: Expr, start: int, stop: int) -> bool:
    return all(start <= i < stop for i in expr.refs())


def _shift(expr: Expr, by: int) -> Expr | None:
    types = {e.index: e.type for e in _ref_nodes(expr)}
    return expr.map_refs(lambda i: Expr("ref", index=i + by, type=types[i]))


def _ref_nodes(expr: Expr) -> list[Expr]:
    return [expr] if expr.op == "ref" else [r for arg in expr.args for r in _ref_nodes(arg)]


def _substitute(wanted: Conjuncts, outputs: Sequence[Expr]) -> Conjuncts:
    """Rewrite conjuncts over a projection's output as conjuncts over its input."""
    mapped = (c.map_refs(lambda i: outputs[i] if i < len(outputs) else None) for c in wanted)
    return [c for c in mapped if c is not None]


def _through_groups(node: Node, wanted: Conjuncts) -> Conjuncts:
    """A conjunct on group keys filters whole groups, so it may go below a plain GROUP BY."""
    groups = [expression(e) for e in node.get("groups", [])]
    sets = node.get("grouping_sets", [])
    if not groups or len(sets) > 1 or any(len(s) != len(groups) for s in sets):
        return []
    return _substitute([c for c in wanted if list(c.refs()) and _only(c, 0, len(groups))], groups)


def _any_of(references: list[Conjuncts]) -> Conjuncts:
    """A row of a CTE matters if it matters to any of its references."""
    if not references or not all(references):
        return []
    if len(references) == 1:
        return references[0]
    branches = tuple(Expr("and", "", tuple(r), type="BOOLEAN") if len(r) > 1 else r[0] for r in references)
    return [Expr("or", "", branches, type="BOOLEAN")]
