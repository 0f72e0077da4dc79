"""Variants of the way from files and queries to decisions that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml import features, footers, planning, plans
from skipml.engines import conditions, inputs, parameters, pushdown, routes, scan_regions, virtual
from skipml.engines.dialect import expression
from skipml.identity import listed_identity
from skipml.parquet import footer, types
from skipml.predicates import Opaque
from tests.soundness.variants import VARIANTS, Patch, variant

__all__ = ["VARIANTS"]

Floats = NDArray[np.float64]


# Files


@variant("files", "only some writers are known to record NaN")
def _every_writer_is_trusted(patch: Patch) -> None:
    patch.setattr(footer, "_NAN_FREE_WRITERS", re.compile(b""))


def _columns(patch: Patch, change: Callable[[Any], dict[str, Any]]) -> None:
    """Change what footers say of each column."""
    real = footers.read_footers

    def read(files: Sequence[str], columns: Sequence[str], **options: Any) -> Any:
        found = real(files, columns, **options)
        return replace(found, columns={k: replace(v, **change(v)) for k, v in found.columns.items()})

    for module in (planning, scan_regions):
        patch.setattr(module, "read_footers", read)


@variant("files", "the minimum is the lower bound")
def _swapped_statistics(patch: Patch) -> None:
    _columns(patch, lambda column: {"lower": -column.upper, "upper": -column.lower})


@variant("files", "a missing NULL count is not zero, and a NULL count is no detail")
def _no_null_counts(patch: Patch) -> None:
    _columns(patch, lambda column: {"null_count": np.zeros_like(column.null_count)})


@variant("files", "NULL rows beside others do not make a row group NULL")
def _nulls_everywhere(patch: Patch) -> None:
    _columns(patch, lambda column: {"all_null": column.null_count != 0})


@variant("files", "DuckDB, Arrow and numpy round a decimal differently")
def _decimals_are_exact(patch: Patch) -> None:
    def nearest(values: Any, factor: int = 1, divisor: int = 1, slack: float = 0.0) -> tuple[Floats, Floats]:
        exact = (values.astype(object) * factor / divisor).astype(np.float64)
        inward = np.nextafter(exact, 0.0)
        return inward, inward

    for module in (features, types):
        patch.setattr(module, "outward", nearest)


@variant("files", "a plan is of the files as they were")
def _stale_files(patch: Patch) -> None:
    patch.setattr(plans.Plan, "check", lambda self, file: None)


@variant("files", "a remembered footer is of the file as it was")
def _stale_footers(patch: Patch) -> None:
    def as_it_was(file: str) -> Any:
        held = footers._cache.get(os.path.abspath(file))
        return listed_identity(file) if held is None else held.identity

    patch.setattr(footers, "listed_identity", as_it_was)
    patch.setattr(plans.Plan, "check", lambda self, file: None)


@variant("files", "a virtual file lists the row groups that are kept")
def _neighbouring_row_groups(patch: Patch) -> None:
    real = virtual.FooterLayout.keep
    patch.setattr(
        virtual.FooterLayout, "keep", lambda self, kept: real(self, [(i + 1) % len(self.groups) for i in kept])
    )


# Queries


@variant("queries", "columns are positions below a projection, not names")
def _projection_ignored(patch: Patch) -> None:
    patch.setattr(pushdown, "_substitute", lambda wanted, outputs: wanted)


def _passes(patch: Patch, *kinds: str) -> None:
    """Let filters through operators that change which rows there are."""
    real = pushdown._through
    patch.setattr(pushdown, "_through", lambda node, wanted: wanted if node["type"] in kinds else real(node, wanted))


@variant("queries", "a filter above LIMIT does not choose the rows below it")
def _below_limit(patch: Patch) -> None:
    _passes(patch, "LOGICAL_LIMIT", "LOGICAL_TOP_N", "LOGICAL_ORDER_BY")


@variant("queries", "a filter above a window does not choose its rows")
def _below_window(patch: Patch) -> None:
    _passes(patch, "LOGICAL_WINDOW")


@variant("queries", "a filter above DISTINCT ON does not choose which row is the first")
def _below_distinct_on(patch: Patch) -> None:
    _passes(patch, "LOGICAL_DISTINCT")


@variant("queries", "a filter on an aggregate does not choose the rows of a group")
def _below_aggregate(patch: Patch) -> None:
    patch.setattr(pushdown, "_through_groups", _to_inputs)


def _to_inputs(node: Any, wanted: list[Any]) -> list[Any]:
    """Conjuncts over groups and aggregates, over what the aggregates read."""
    groups = [expression(e) for e in node.get("groups", [])]
    read = [expression(e["children"][0]) if e.get("children") else None for e in node.get("expressions", [])]
    mapped = [c.map_refs(lambda i: [*groups, *read][i]) for c in wanted]
    return [c for c in mapped if c is not None]


def _joins(patch: Patch, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    real = pushdown.Pushdown._join
    patch.setattr(pushdown.Pushdown, "_join", lambda self, node, wanted: real(self, {**node, **change(node)}, wanted))


@variant("queries", "a row without a partner is in an outer join's result")
def _outer_joins_are_inner(patch: Patch) -> None:
    _joins(patch, lambda node: {"join_type": "INNER" if node.get("join_type") in _OUTER else node.get("join_type")})


_OUTER = ("LEFT", "RIGHT", "FULL", "OUTER")


@variant("queries", "an anti join keeps the rows that its condition does not name")
def _anti_joins_are_semi(patch: Patch) -> None:
    _joins(patch, lambda node: {"join_type": "SEMI" if node.get("join_type") == "ANTI" else node.get("join_type")})


@variant("queries", "the nearest row of an ASOF join is the nearest of all rows")
def _asof_is_a_join(patch: Patch) -> None:
    _joins(patch, lambda node: {"type": "LOGICAL_COMPARISON_JOIN", "conditions": []})


@variant("queries", "a CTE holds the rows that any of its references needs")
def _cte_of_the_first_reference(patch: Patch) -> None:
    patch.setattr(pushdown, "_any_of", lambda references: next((r for r in references if r), []))


@variant("queries", "OR with a condition that is not understood decides nothing")
def _other_conditions_forgotten(patch: Patch) -> None:
    real = conditions._any
    patch.setattr(conditions, "_any", lambda parts: real([p for p in parts if not isinstance(p, Opaque)] or parts))


@variant("queries", "an expression that is not understood may be anything")
def _unknown_is_zero(patch: Patch) -> None:
    patch.setattr(inputs.Values, "nothing", classmethod(lambda cls, n_blocks: cls.constant(0.0, n_blocks)))


@variant("queries", "a FLOAT score is compared with the constant as a FLOAT")
def _uncast_constant(patch: Patch) -> None:
    def constant_sql(expr: Any) -> str | None:
        return str(expr.name) if expr.op == "const" else constant_sql(expr.args[0]) if expr.op == "cast" else None

    patch.setattr(conditions, "_constant_sql", constant_sql)


@variant("queries", "a bound Python float is compared as a DOUBLE")
def _parameter_as_float(patch: Patch) -> None:
    real = parameters._literal
    patch.setattr(
        parameters, "_literal", lambda value: f"'{value}'::FLOAT" if isinstance(value, float) else real(value)
    )


@variant("queries", "outputs are counted from 1 in SQL")
def _outputs_from_zero(patch: Patch) -> None:
    patch.setattr(conditions, "_output_index", lambda model, element: (element or 0) % model.n_outputs)


@variant("queries", "a comparison with the constant on the left is mirrored")
def _not_mirrored(patch: Patch) -> None:
    patch.setattr(conditions, "_MIRRORED", {symbol: symbol for symbol in conditions._MIRRORED})


@variant("queries", "a file's row groups are counted from its own first")
def _one_row_group_too_few(patch: Patch) -> None:
    real = routes.Kept.of

    def kept(*given: Any) -> Any:
        found = real(*given)
        return replace(found, row_groups=tuple(g if g is None else g[1:] for g in found.row_groups))

    patch.setattr(routes.Kept, "of", kept)
