"""What Ray reads a plan from; needs Ray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from skipml.decisions import SKIP
from skipml.engines.parts import shared_out
from skipml.locations import absolute_all
from skipml.plans import Plan
from skipml.predicates import Opaque, Predicate

_TASK_ROWS = 1 << 19
"""Of a task at least: starting one costs Ray about what scoring some ten thousand rows does."""
_ELSEWHERE = Opaque("a predicate that is kept on the cluster")


class PlanSource(Datasource):
    """The row groups that a plan leaves, with the columns of `schema`; `predicate` is a reference to the plan's."""

    def __init__(self, plan: Plan, schema: pa.Schema, predicate: ray.ObjectRef[Predicate]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        files = absolute_all(plan.footers.files)
        self._plan = replace(plan, predicate=_ELSEWHERE, footers=replace(plan.footers, files=files))
        self._schema = schema
        self._predicate = predicate

    def get_name(self) -> str:
        """What Ray calls it in its statistics."""
        return "skipml"

    def estimate_inmemory_data_size(self) -> int | None:
        """The bytes of all columns of the blocks that are left, as they are stored."""
        return int(self._plan.footers.n_bytes[self._plan.decisions != SKIP].sum())

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """Up to so many tasks, which read their row groups one after the other; one at least, as it has the types."""
        rows = int(self._plan.footers.n_rows[self._plan.decisions != SKIP].sum())
        parts = list(shared_out(self._plan, min(parallelism, rows // _TASK_ROWS + 1)))
        if not parts:
            return [ReadTask(partial(_nothing, self._schema), _metadata(0, None), schema=self._schema)]
        return [
            ReadTask(
                partial(_read, part, self._schema, self._predicate),
                _metadata(int(part.footers.n_bytes.sum()), part.footers.files),
                schema=self._schema,
            )
            for part in parts
        ]


def _metadata(n_bytes: int, files: tuple[str, ...] | None) -> BlockMetadata:
    return BlockMetadata(num_rows=None, size_bytes=n_bytes, exec_stats=None, input_files=files)


def _nothing(schema: pa.Schema) -> list[pa.Table]:
    return [schema.empty_table()]


def _read(part: Plan, schema: pa.Schema, predicate: ray.ObjectRef[Predicate]) -> Iterator[pa.Table]:
    plan = replace(part, predicate=ray.get(predicate))
    for file in range(len(plan.footers.files)):
        plan.check(file)  # before anything else of it is looked at
    yield schema.empty_table()
    yield from (pa.Table.from_batches([batch], schema) for batch in plan.scan(schema.names))
