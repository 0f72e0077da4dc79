"""What an index promises: recorded searches, a rule learned and calibrated on them, and whether it still holds.

The records live in the manifest: `models` are the arrays of the learned rules, `promises` the calibrations, `tested
with` the version of what these were tested with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skipml.ann import learned
from skipml.ann.calibration import Calibration, Misses, choose, curve, record
from skipml.ann.changes import CALIBRATION
from skipml.ann.found import Found
from skipml.ann.metric import Singles
from skipml.ann.regression import Trees
from skipml.ann.rules import LEVELED, MARGINAL, NAMES, NEARNESS, family
from skipml.ann.search import search, squared
from skipml.ann.snapshot import Snapshot
from skipml.ann.stopping import StopRule
from skipml.ann.traces import Recorder, Trace, joined, shares_found
from skipml.errors import MetadataError, PredicateError

TABLE_ROWS, LOG = "rows of the table", "given queries"
TESTED_WITH = 2
"""The version of what a promise was tested with: which rows are candidates, what the rules are and what they see. To be
raised when any of that changes, as an earlier promise says nothing about it; 1 is that of records which state none.
"""
_OWN_QUERIES = 4000
_LEAST_TO_LEARN = 2000
"""With fewer queries all of them calibrate a rule that needs no training."""
_BATCH = 64
"""Queries that are recorded together."""
_SPARE = 16
_BLOCK_VALUES = 1 << 24


def neighbours(snapshot: Snapshot, queries: Singles, k: int) -> Singles:
    """The squared distances [q, k], in the space, of the k nearest rows there are: one pass over all vectors."""
    import faiss

    manifest = snapshot.manifest
    kind = faiss.METRIC_INNER_PRODUCT if manifest.metric != "l2" else faiss.METRIC_L2
    heap = [np.empty((len(queries), 0))]
    step = max(1, _BLOCK_VALUES // manifest.vector.dimension)
    for start in range(0, int(snapshot.starts[-1]), step):
        positions = np.arange(start, min(start + step, int(snapshot.starts[-1])))
        positions = positions[~snapshot.is_deleted(positions)]
        if not len(positions):
            continue
        vectors = np.concatenate([reader.vectors(mine) for reader, mine, _ in snapshot.by_segment(positions)])
        rows = np.ascontiguousarray(vectors, np.float32)
        if manifest.metric == "cosine":
            rows = manifest.space.rows(rows)
        _, near = faiss.knn(queries, rows, min(k + _SPARE, len(rows)), metric=kind)
        which = np.repeat(np.arange(len(queries)), near.shape[1])
        found = snapshot.distances(queries, which, positions[near.ravel()]).reshape(near.shape)
        heap = [np.sort(np.concatenate([*heap, found], 1), 1)[:, :k]]
    best = np.full((len(queries), k), np.inf)
    best[:, : heap[0].shape[1]] = heap[0]
    return squared(manifest, queries, best).astype(np.float32)


def recorded(snapshot: Snapshot, queries: Singles, k: int, *, own: bool) -> Trace:
    """Searches for k rows that read on until they have found them; `own`: the queries are rows of the table."""
    truth = neighbours(snapshot, queries, k + own)[:, int(own) :]
    traces = []
    for start in range(0, len(queries), _BATCH):
        batch = slice(start, start + _BATCH)
        recorder = Recorder(truth[batch], own)
        search(snapshot, queries[batch], k + own, recorder)
        traces.append(recorder.trace(snapshot.n_lists))
    return joined(traces)


def own_queries(snapshot: Snapshot, seed: int = 0) -> Singles:
    """Rows of the table, drawn at random, [q, d]."""
    rng = np.random.default_rng(seed)
    positions = rng.permutation(int(snapshot.starts[-1]))[: 2 * _OWN_QUERIES]
    positions = np.sort(positions[~snapshot.is_deleted(positions)][:_OWN_QUERIES])
    parts = [reader.vectors(mine) for reader, mine, _ in snapshot.by_segment(positions)]
    return np.ascontiguousarray(np.concatenate(parts), np.float32)


def calibrate(
    snapshot: Snapshot, queries: Singles | None, targets: Sequence[float], *, k: int, rule: str | None, seed: int = 0
) -> dict[str, Any]:
    """The records of an index with its promises for k renewed, for all targets that can be promised.

    The rule learns on one half of the queries and is calibrated on the other; without `rule` that is leveled, or with
    few queries nearness, which learns nothing. Marginal gain reads fewer lists, but each of its looks costs more than
    these save while lists are short.
    """
    if rule is not None and rule not in NAMES:
        raise PredicateError(f"the rule is one of {', '.join(NAMES)}, not {rule!r}")
    own = queries is None
    asked = own_queries(snapshot, seed) if queries is None else queries
    trace = recorded(snapshot, asked, min(k, snapshot.manifest.n_rows - own), own=own)
    order = np.random.default_rng(seed).permutation(len(trace))
    name = rule or (LEVELED if len(trace) >= _LEAST_TO_LEARN else NEARNESS)
    models = {}
    if name in (LEVELED, MARGINAL):
        training = trace.take(order[: len(order) // 2])
        order = order[len(order) // 2 :]
        train = learned.train_leveled if name == LEVELED else learned.train_marginal
        models[name] = train(training, seed)
    found = curve(family(name, snapshot.n_lists, models), trace.take(order))
    promises = []
    for target in targets:
        setting = choose(found.miss, target)
        if setting is not None:
            source = TABLE_ROWS if own else LOG
            promises.append(record(found, setting, k=k, target=target, rule=name, queries=source))
    nothing: dict[str, Any] = {"models": {}, "promises": []}
    before = snapshot.manifest.records.get(CALIBRATION, nothing)
    before = nothing if _void(before) else before
    kept = [one for one in before["promises"] if one["k"] != k]
    stored = {**before["models"], **{f"{name} {k}": model.to_dict() for name, model in models.items()}}
    used = {f"{one['rule']} {one['k']}" for one in kept} | {f"{one.rule} {one.k}" for one in promises}
    return {
        **snapshot.manifest.records,
        CALIBRATION: {
            "tested with": TESTED_WITH,
            "models": {key: model for key, model in stored.items() if key in used},
            "promises": [*kept, *(one.to_dict() for one in promises)],
        },
    }


def _void(stored: Mapping[str, Any]) -> str:
    """Why no promise of a record holds any more; empty where they do."""
    if stale := stored.get("stale"):
        return str(stale)
    version = stored.get("tested with", 1)
    if stored["promises"] and version != TESTED_WITH:
        return f"it was tested with searches of version {version}, and this skipml has version {TESTED_WITH}"
    return ""


def of(records: Mapping[str, Any]) -> list[Calibration]:
    """All promises of an index."""
    return [Calibration.from_dict(one) for one in records.get(CALIBRATION, {"promises": []})["promises"]]


def promised(records: Mapping[str, Any], k: int, recall: float, n_lists: int) -> tuple[StopRule, Calibration]:
    """The rule that serves a recall for k rows: of the promises that cover both, the one for the fewest rows and the
    lowest target; raises MetadataError where there is none.
    """
    if why := _void(records.get(CALIBRATION, {"promises": []})):
        raise MetadataError(f"what the index promised does not hold any more: {why}; call calibrate()")
    promises = of(records)
    covering = [one for one in promises if one.k >= k and one.target >= recall]
    if not covering:
        made = ", ".join(f"recall {one.target:g} for k up to {one.k}" for one in promises) or "none"
        raise MetadataError(
            f"the index promises no recall of {recall:g} for k = {k} (promised: {made}); "
            f"call calibrate(recall=[{recall:g}], k={k}), or give nprobe= or exact=True"
        )
    chosen = min(covering, key=lambda one: (one.k, one.target))
    key = f"{chosen.rule} {chosen.k}"
    stored = records[CALIBRATION]["models"]
    models = {chosen.rule: Trees.from_dict(stored[key])} if key in stored else {}
    return family(chosen.rule, n_lists, models).rule(chosen.setting), chosen


def misses(snapshot: Snapshot, queries: Singles, found: Found, k: int) -> Misses:
    """The share of the k true neighbours [q] that a search for k rows did not find."""
    best = np.full((len(queries), k), np.inf)
    rank = np.arange(len(found.query)) - np.searchsorted(found.query, found.query)
    best[found.query[rank < k], rank[rank < k]] = found.distance[rank < k]
    k = min(k, snapshot.manifest.n_rows)
    near = squared(snapshot.manifest, queries, best[:, :k]).astype(np.float32)
    return 1 - shares_found(near, neighbours(snapshot, queries, k))
