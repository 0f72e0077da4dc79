"""What must hold of a lake whatever moment its writer was killed at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import nn

import skipml
from benchmarks.kills.lake import COLUMNS, Lake
from skipml.errors import SkipmlError
from skipml.metadata.format import decode
from skipml.metadata.loading import load

_STALE = "an older state of this one"
_QUANTILES = (0.999, 0.95)


@dataclass(slots=True)
class Findings:
    """What was looked at, and what should not be there."""

    problems: list[str] = field(default_factory=list)
    metadata: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    leftovers: int = 0

    def add(self, other: Findings) -> None:
        """Count these too."""
        self.problems += other.problems
        self.metadata += other.metadata
        self.decisions += other.decisions
        self.leftovers += other.leftovers


def check(lake: Lake, expected: Mapping[Path, pa.Table]) -> Findings:
    """Everything that can be wrong with a lake, given the rows of each of its files ordered by id."""
    found = Findings()
    for path, rows in expected.items():
        if path != lake.clustered or path.exists():
            found.problems += _check_rows(path, rows)
            _check_metadata(lake, path, found)
            _check_decisions(lake, path, found)
    for path in lake.folder.rglob("*.skipml"):
        try:
            decode(path.read_bytes())
        except SkipmlError as error:
            found.problems.append(f"{path.name}: {error}")
    found.leftovers = len(leftovers(lake))
    found.problems += [f"{path.name}: nobody asked for this file" for path in _unknown(lake, expected)]
    return found


def leftovers(lake: Lake) -> list[Path]:
    """Temporary files and folders of killed writers."""
    places = [lake.data, *(path for path in lake.root.rglob("*") if path.is_dir())]
    return [path for place in places for path in place.iterdir() if path.name.startswith(".")]


def _check_rows(path: Path, expected: pa.Table) -> Iterator[str]:
    try:
        rows = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        yield f"{path.name}: {error}"
        return
    ordered = rows.take(pa.array(np.argsort(rows["id"].to_numpy(), kind="stable")))
    if ordered.schema != expected.schema or not _same(ordered, expected):
        yield f"{path.name}: its rows are not those that were written"


def _same(rows: pa.Table, expected: pa.Table) -> bool:
    """Equal, NaN equal to NaN."""
    left, right = (table.combine_chunks().to_batches()[0] for table in (rows, expected))
    return all(a.to_pylist() == b.to_pylist() or _same_floats(a, b) for a, b in zip(left, right, strict=True))


def _same_floats(a: pa.Array, b: pa.Array) -> bool:
    if not (pa.types.is_floating(a.type) and a.is_null().equals(b.is_null())):
        return False
    left, right = (column.to_numpy(zero_copy_only=False) for column in (a, b))
    return np.array_equal(left, right, equal_nan=True)


def _check_metadata(lake: Lake, path: Path, found: Findings) -> None:
    for root in (None, lake.root):
        loaded = load(path, root)
        if loaded.metadata is not None:
            state = "current"
        elif not loaded.reason:
            state = "none"
        elif _STALE in loaded.reason and "damaged" not in loaded.reason:
            state = "of an older state, ignored"
        else:
            state = "damaged"
            found.problems.append(f"{path.name}: {loaded.reason}")
        found.metadata[state] += 1


def _check_decisions(lake: Lake, path: Path, found: Findings) -> None:
    """Compare every decision with the scores of all rows; scores are torch's, NULL is never TRUE, NaN always above."""
    try:
        rows = pq.read_table(path, columns=COLUMNS)
    except (pa.ArrowException, OSError):
        return
    for network, model in _models():
        scores, null = _scores(network, rows)
        for limit in [*np.nanquantile(scores, _QUANTILES).tolist(), float(np.nanmin(scores)) - 1]:
            qualifies = ~null & (np.isnan(scores) | (scores > np.float32(limit)))
            for root in (None, lake.root):
                plan = skipml.plan(path, model > limit, root=root)
                found.problems += _wrong(path, plan, qualifies, found.decisions)


@cache
def _models() -> list[tuple[nn.Module, skipml.Model]]:
    """a - b, which only hulls bound well, and a small network on all columns."""
    difference = nn.Linear(3, 1)
    with torch.no_grad():
        difference.weight.copy_(torch.tensor([[1.0, -1.0, 0.0]]))
        difference.bias.zero_()
    torch.manual_seed(0)
    networks = [difference, nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))]
    return [(network, skipml.Model.from_torch(network, columns=COLUMNS)) for network in networks]


def _scores(network: nn.Module, rows: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    columns = [rows[name].combine_chunks() for name in COLUMNS]
    null = np.any([column.is_null().to_numpy(zero_copy_only=False) for column in columns], axis=0)
    inputs = np.stack([column.fill_null(0).to_numpy(zero_copy_only=False) for column in columns], axis=1)
    with torch.no_grad():
        scores = network(torch.from_numpy(inputs.astype(np.float32))).numpy()[:, 0]
    return np.asarray(scores), null


def _wrong(path: Path, plan: skipml.Plan, qualifies: NDArray[np.bool_], seen: Counter[str]) -> Iterator[str]:
    if plan.result.error or any(plan.footers.errors):
        yield f"{path.name}: {plan.result.error} {plan.footers.errors}"
    table = plan.table
    if sum(table["n_rows"].to_pylist()) != len(qualifies):
        yield f"{path.name}: the plan leaves rows out"
    for group, first, n_rows, decision in zip(
        *(table[name].to_pylist() for name in ("row_group", "first_row", "n_rows", "decision")), strict=True
    ):
        mine = qualifies[first : first + n_rows]
        seen[decision] += 1
        if (decision == "SKIP" and mine.any()) or (decision == "KEEP" and not mine.all()):
            yield f"{path.name}: row group {group} is {decision}, and {mine.sum()} of its {n_rows} rows qualify"


def _unknown(lake: Lake, expected: Mapping[Path, pa.Table]) -> list[Path]:
    known = {*expected, *(path.with_name(path.name + ".skipml") for path in expected)}
    return [path for path in lake.data.iterdir() if path not in known and not path.name.startswith(".")]
