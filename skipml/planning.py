"""Plans without an engine: which files, then which of their blocks.

Where a metadata cache or a catalog tells something of whole files, those that no row qualifies in are ruled out first,
and nothing is read or held of their row groups. Sound because a file holds every row of its row groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipml.bounds.branch import Budget, Reason
from skipml.bounds.memory import SHARED
from skipml.decisions import KEEP, SKIP, Decisions, prune
from skipml.footers import Footers, read_footers
from skipml.identity import Path, expand, metadata_root
from skipml.lake.cached import listed
from skipml.lake.listing import NO_FILES, Listing, PrunedFiles
from skipml.lake.snapshot import Snapshot
from skipml.metadata.refine import Refined, refine
from skipml.plans import Plan
from skipml.predicates import Predicate
from skipml.regions import from_refined
from skipml.stores import RemoteFile

_SHARE = 1 / 8
"""What part of a budget whole files get: they are few, and rarely decided."""


def plan(
    paths: Path | Sequence[Path] | Snapshot,
    predicate: Predicate,
    *,
    budget: Budget | None = None,
    root: Path | None = None,
    cache: Path | None = None,
    storage_options: Mapping[str, Any] | None = None,
    filesystem: Any = None,
) -> Plan:
    """Plan a scan of Parquet files, or of a snapshot of a table, without an engine: decide every row group from the
    files' own zone maps and from what `enrich` has stored beside them, in them or below `root`.

    Paths may be URLs of files in stores (`s3://bucket/*.parquet`), and `root` one of a folder there: they are read
    through `filesystem`, one of fsspec, or one that fsspec makes of the URL and the `storage_options`.

    With a `cache`, of local files, both are taken from that file where it is up to date, and it is made or brought up
    to date where it lacks more than 1 % of the files. Whole files are then decided first, and those that are SKIP are
    in `plan.pruned` instead of having blocks; so it is with what a snapshot states of its files.

    Raises FooterError where a path matches no file, StoreError where a store does not answer, SnapshotError for a
    column that a snapshot has not. A file that cannot be read has no row groups in the plan, and `scan` says so.
    """
    budget = budget or Budget(predicate.seconds_per_row, memory=SHARED)
    snapshot = paths if isinstance(paths, Snapshot) else None
    root = metadata_root(root, storage_options, filesystem)
    files = paths if isinstance(paths, Snapshot) else expand(paths, storage_options, filesystem)
    known = _known(files, predicate, root, cache)
    left = _by_files(known, predicate, budget) if isinstance(known, Listing) else _Left(known)
    result = _decided(left, predicate, budget)
    notes = (*left.notes, *left.refined.footers.texts_told)
    return Plan(predicate, left.refined.footers, result, root, left.pruned, notes, snapshot)


def _known(
    files: tuple[str, ...] | Snapshot, predicate: Predicate, root: Path | None, cache: Path | None
) -> Listing | Refined:
    """What is known of the files, as a whole where something is."""
    if isinstance(files, Snapshot):
        return files.listing(predicate.inputs, root, cache)
    if cache is None or any(isinstance(file, RemoteFile) for file in files):
        return refine(read_footers(files, predicate.inputs), root)
    return listed(files, predicate.inputs, cache, root)


@dataclass(frozen=True, slots=True, eq=False)
class _Left:
    """The row groups of the files that are left, of which those at `kept` [F] are KEEP as a whole."""

    refined: Refined
    kept: NDArray[np.bool_] | None = None
    pruned: PrunedFiles = NO_FILES
    notes: tuple[str, ...] = ()


def _by_files(listing: Listing, predicate: Predicate, budget: Budget) -> _Left:
    """Rule out whole files, but for one that gives the schema."""
    footers = listing.whole.footers
    found = prune(predicate, from_refined(listing.whole, predicate.inputs), budget.part(_SHARE))
    is_out = found.decision == SKIP
    if listing.needs_first:
        is_out[footers.file_index == 0] = False
    out, all_kept = (np.zeros(len(footers.files), np.bool_) for _ in range(2))
    out[footers.file_index[is_out]] = True
    all_kept[footers.file_index[found.decision == KEEP]] = listing.may_keep
    out |= listing.is_empty
    out[:1] &= not listing.needs_first
    pruned = PrunedFiles(
        files=tuple(footers.files[i] for i in np.flatnonzero(out).tolist()),
        n_rows=int(footers.n_rows[is_out].sum()),
        n_row_groups=int(listing.n_row_groups[is_out].sum()),
    )
    left = np.flatnonzero(~out)
    narrowed = listing.narrow(left)
    notes = (*listing.notes, found.error) if found.error else listing.notes
    if isinstance(narrowed, Listing):
        deeper = _by_files(narrowed, predicate, budget)
        return replace(deeper, pruned=pruned + deeper.pruned, notes=(*notes, *deeper.notes))
    return _Left(narrowed, all_kept[left], pruned, notes)


def _decided(left: _Left, predicate: Predicate, budget: Budget) -> Decisions:
    """Decide the blocks, those of files that are KEEP without any work."""
    footers = left.refined.footers
    regions = from_refined(left.refined, predicate.inputs)
    if left.kept is None or not left.kept.any():
        return _of_all_rows(prune(predicate, regions, budget), footers, left.pruned)
    kept = left.kept[footers.file_index]
    found = prune(predicate, regions, budget, ~kept)
    decision, reason = np.where(kept, KEEP, found.decision), np.where(kept, Reason.PROVED, found.reason)
    found = replace(found, decision=decision.astype(np.int8), reason=reason.astype(np.int8))
    return _of_all_rows(found, footers, left.pruned)


def _of_all_rows(found: Decisions, footers: Footers, pruned: PrunedFiles) -> Decisions:
    """With the selectivity among the rows of the files that were ruled out too."""
    if found.selectivity is None or not pruned.n_rows:
        return found
    rows = int(footers.n_rows.sum())
    return replace(found, selectivity=found.selectivity * rows / (rows + pruned.n_rows))
