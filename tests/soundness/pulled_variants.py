"""Variants of how rows are pulled and scored that are unsound on purpose; see `variants.py`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from skipml.engines import pull_query, scored_stream
from tests.soundness.places_variants import VARIANTS
from tests.soundness.variants import Patch, variant

__all__ = ["VARIANTS"]


@variant("pulled", "a row with a NULL input has no answer")
def _nulls_are_zero(patch: Patch) -> None:
    def answers(self: Any, columns: Any) -> Any:
        return self.answer(*(columns[i].fill_null(0) for i in self.inputs))

    patch.setattr(scored_stream.Scored, "__call__", answers)


@variant("pulled", "a condition on a scan that is not understood leaves no row out")
def _part_of_a_condition(patch: Patch) -> None:
    real = pull_query._condition

    def condition(expr: Any, column: Any) -> str | None:
        parts = [condition(arg, column) for arg in expr.args] if expr.op == "or" else []
        known = [part for part in parts if part is not None]
        return f"({' OR '.join(known)})" if known else real(expr, column)

    patch.setattr(pull_query, "_condition", condition)


@variant("pulled", "each call has its own inputs")
def _inputs_of_another_call(patch: Patch) -> None:
    real = pull_query.Pull._input
    patch.setattr(pull_query.Pull, "_input", lambda self, *given: real(self, *given) // 2)


@variant("pulled", "inputs come in the order of the call")
def _sorted_inputs(patch: Patch) -> None:
    real = scored_stream.Scored.__call__

    def answers(self: Any, columns: Any) -> Any:
        return real(scored_stream.Scored(self.answer, tuple(sorted(self.inputs))), columns)

    patch.setattr(scored_stream.Scored, "__call__", answers)


@variant("pulled", "a stream ends behind its last batch")
def _last_batch_lost(patch: Patch) -> None:
    real = scored_stream.ScoredStream._with_answers

    def batch(self: Any, pulled: pa.RecordBatch) -> pa.RecordBatch:
        return real(self, pulled if pulled.num_rows == scored_stream.BATCH_ROWS else pulled[:0])

    patch.setattr(scored_stream.ScoredStream, "_with_answers", batch)


@variant("pulled", "an output may hide the column that it is named after")
def _aliases_hide_nothing(patch: Patch) -> None:
    patch.setattr(pull_query.Pull, "_aliases", lambda self: {})
