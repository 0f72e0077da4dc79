"""What a bound plan, as DuckDB serializes it, asks of its base tables."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass

from skipml.engines.dialect import function_name
from skipml.engines.ordering import TopOrder, top_orders
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.pushdown import ScanFilter, scan_filters
from skipml.engines.tree import nodes


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """What a bound plan asks of each table: the filters of its scans, and the first rows in some order."""

    filters: Mapping[str, tuple[ScanFilter, ...]]
    orders: Mapping[str, TopOrder]
    functions: frozenset[str]
    """The names of the functions called, in lower case."""

    @classmethod
    def of(cls, serialized: str, volatile: Container[str], answer_null: Container[str] = ()) -> ScanPlan:
        """That of a plan as DuckDB serializes it, with the names of volatile functions, and of those that may not be
        NULL for NULL; raises NotAnalysableError where that went wrong.
        """
        try:
            plan = json.loads(serialized)
        except json.JSONDecodeError as error:
            raise NotAnalysableError("the plan has a constant that JSON cannot hold, such as NaN") from error
        if plan.get("error"):
            raise NotAnalysableError(f"DuckDB cannot serialize the plan: {plan.get('error_message')}")
        root = plan["plans"][0]
        everywhere = nodes(root)
        found = scan_filters(root, everywhere, volatile, answer_null)
        filters = {table: tuple(scans) for table, scans in found.items()}
        calls = (node for node in everywhere if node.get("expression_class") == "BOUND_FUNCTION")
        return cls(filters, top_orders(everywhere), frozenset(function_name(node).lower() for node in calls))
