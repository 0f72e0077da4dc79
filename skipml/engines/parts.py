"""Parts of plans, for engines that read in several tasks, and plans whose rows are not scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skipml.decisions import EVALUATE, KEEP, SKIP
from skipml.plans import Plan

Indices = NDArray[np.int64]


def unscored(plan: Plan) -> Plan:
    """The plan with every row of a block that is left, whether it qualifies or not."""
    decision = np.where(plan.decisions == EVALUATE, KEEP, plan.decisions).astype(np.int8)
    return replace(plan, result=replace(plan.result, decision=decision))


def row_groups_left(plan: Plan) -> list[Indices]:
    """The numbers of the blocks of each row group that is not skipped as a whole, in the order of the files."""
    footers = plan.footers
    if not len(footers):
        return []
    is_first = (np.diff(footers.file_index, prepend=-1) != 0) | (np.diff(footers.row_group, prepend=-1) != 0)
    group = np.cumsum(is_first) - 1
    left = np.bincount(group[plan.decisions != SKIP], minlength=group[-1] + 1) > 0
    bounds = np.append(np.flatnonzero(is_first), len(group))
    return [np.arange(bounds[g], bounds[g + 1]) for g in np.flatnonzero(left).tolist()]


def shared_out(plan: Plan, most: int) -> Iterator[Plan]:
    """Up to so many parts of the plan, runs of the row groups that are left, of about as many rows each."""
    groups = row_groups_left(plan)
    if not groups:
        return
    rows = np.array([plan.footers.n_rows[blocks].sum() for blocks in groups])
    share = (np.cumsum(rows) - rows) * max(most, 1) // max(int(rows.sum()), 1)
    cuts = np.flatnonzero(np.diff(share, prepend=-1))
    for start, end in zip(cuts.tolist(), [*cuts[1:].tolist(), len(groups)], strict=True):
        yield part(plan, np.concatenate(groups[start:end]))


def part(plan: Plan, blocks: Indices) -> Plan:
    """The plan of some blocks, whole row groups in their order, without what their decisions rest on."""
    footers, result = plan.footers, plan.result
    files, file_index = np.unique(footers.file_index[blocks], return_inverse=True)
    arrays = ("row_group", "first_row", "n_rows", "n_bytes")
    taken = replace(
        footers,
        files=tuple(footers.files[i] for i in files.tolist()),
        identities=tuple(footers.identities[i] for i in files.tolist()),
        errors=("",) * len(files),
        file_index=file_index.astype(np.int64),
        columns={},
        **{name: getattr(footers, name)[blocks] for name in arrays},
    )
    decided = {name: getattr(result, name)[blocks] for name in ("decision", "lower", "upper", "method", "reason")}
    return replace(plan, footers=taken, result=replace(result, **decided))
