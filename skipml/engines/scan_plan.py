"""What a bound plan, as DuckDB serializes it, asks of its base tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from skipml.engines.ordering import TopOrder, top_orders
from skipml.engines.parameters import NotAnalysableError
from skipml.engines.pushdown import ScanFilter, scan_filters


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """What a bound plan asks of each table: the filters of its scans, and the first rows in some order."""

    filters: Mapping[str, tuple[ScanFilter, ...]]
    orders: Mapping[str, TopOrder]

    @classmethod
    def of(cls, serialized: str, is_volatile: Callable[[str], bool]) -> ScanPlan:
        """That of a plan as DuckDB serializes it, with a test for volatile functions by name; raises
        NotAnalysableError where that went wrong.
        """
        try:
            plan = json.loads(serialized)
        except json.JSONDecodeError as error:
            raise NotAnalysableError("the plan has a constant that JSON cannot hold, such as NaN") from error
        if plan.get("error"):
            raise NotAnalysableError(f"DuckDB cannot serialize the plan: {plan.get('error_message')}")
        root = plan["plans"][0]
        return cls({table: tuple(found) for table, found in scan_filters(root, is_volatile).items()}, top_orders(root))
