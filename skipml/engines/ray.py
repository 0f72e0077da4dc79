"""Plans on Ray: datasets whose tasks read and score the row groups that are left, wherever a cluster has room.

A task holds a run of row groups and reads them as `Plan.scan` does. One that is lost with its worker or its machine is
run again by Ray, and gives the same rows. Every machine must find the files under the same paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skipml.engines.parts import unscored
from skipml.errors import SkipmlError
from skipml.plans import Plan

if TYPE_CHECKING:
    import ray.data


def candidates(plan: Plan, columns: Sequence[str] | None = None) -> ray.data.Dataset:
    """The blocks in which a row may qualify; raises what `rows` raises."""
    return rows(unscored(plan), columns)


def rows(plan: Plan, columns: Sequence[str] | None = None) -> ray.data.Dataset:
    """The rows that qualify, in no order unless Ray is told to keep it; blocks that are KEEP are not scored.

    Nothing is read before Ray runs the dataset. The model is stored once on the cluster, and tasks get their row groups
    and a reference to it. Raises FooterError and SchemaError as `Plan.scan` does; a file that was rewritten since it
    was planned fails the run, with a FileChangedError as its cause.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise SkipmlError("this needs Ray: pip install 'skipml[ray]'") from None
    from skipml.engines.ray_source import PlanSource

    source = PlanSource(plan, plan.schema(columns), ray.put(plan.predicate))
    found: ray.data.Dataset = ray.data.read_datasource(source)
    return found
