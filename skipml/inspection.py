"""What is known of a Parquet file or of a model, as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np

from skipml.footers import ColumnStats, Footers, read_footers
from skipml.function import Function
from skipml.identity import Path, expand, private_connection
from skipml.metadata.refine import refine
from skipml.models import load
from skipml.network import Affine, LeakyRelu, Network, Op
from skipml.trees import Trees


def parquet_facts(pattern: str, root: Path | None = None) -> dict[str, Any]:
    """What footers and metadata of the files of a pattern say; raises FooterError for a file that cannot be read."""
    files = expand(pattern)
    read_footers(files, [], strict=True)
    described = private_connection().execute("DESCRIBE SELECT * FROM read_parquet(?)", [files[0]]).fetchall()
    types = {str(row[0]): str(row[1]) for row in described}
    refined = refine(read_footers(files, list(types), strict=True), root)
    footers, known = refined.row_groups.footers, refined.evidence
    return {
        "file": pattern,
        "files": len(files),
        "row_groups": len(footers),
        "rows": int(footers.n_rows.sum()),
        "bytes": int(footers.n_bytes.sum()),
        "columns": [_column_facts(footers, name, sql_type) for name, sql_type in types.items()],
        "hulls": {", ".join(hull.columns): int(np.isfinite(hull.offset).any(axis=1).sum()) for hull in refined.hulls},
        "boxes": {} if refined.boxes is None else {", ".join(refined.boxes.columns): len(refined.boxes.block)},
        "blocks": len(refined.footers),
        "score_maps": [
            {"model": m.model, "columns": list(m.columns), "output": m.output, "bytes": 16 + m.cells.shape[1]}
            for m in known.scores
        ],
        "label_maps": [{"model": m.model, "columns": list(m.columns), "labels": m.n_labels} for m in known.labels],
        "rows_stored": 0 if known.witnesses is None else int((~np.isnan(known.witnesses.rows)).any(axis=2).sum()),
        "ignored": list(refined.notes),
    }


def _column_facts(footers: Footers, name: str, sql_type: str) -> dict[str, Any]:
    stats: ColumnStats = footers.columns[name]
    limited = stats.known & ~stats.all_null
    reasons, counts = np.unique(stats.reason.astype(str), return_counts=True)
    return {
        "name": name,
        "type": sql_type,
        "min": float(stats.lower[limited].min()) + 0.0 if limited.any() else None,  # + 0.0: no -0
        "max": float(stats.upper[limited].max()) + 0.0 if limited.any() else None,
        "row_groups_known": int((stats.known | stats.all_null).sum()),
        "nulls": int(stats.null_count.sum()) if (stats.null_count >= 0).all() else None,
        "row_groups_that_may_hold_nan": int(stats.may_be_nan.sum()) if stats.known.any() else None,
        "notes": {str(reason): int(count) for reason, count in zip(reasons, counts, strict=True) if reason},
    }


def model_facts(path: str) -> dict[str, Any]:
    """What a model consists of; raises ModelError for one that is not understood."""
    function = load(path)
    return {
        "file": path,
        "inputs": function.n_inputs,
        "outputs": function.n_outputs,
        "dtype": function.dtype.name,
        "ops": [_op_text(op) for op in function.ops] if isinstance(function, Network) else [_trees_text(function)],
        "parameters": _parameters(function),
        "hash": function.hash,
    }


def _trees_text(function: Function) -> str:
    if not isinstance(function, Trees):
        return type(function).__name__
    depth = max((len(list(tree.levels())) - 1 for tree in function.trees), default=0)
    return f"{len(function.trees)} trees of depth up to {depth}, {function.link.kind}"


def _op_text(op: Op) -> str:
    match op:
        case Affine(weight):
            return f"Affine {weight.shape[1]} -> {weight.shape[0]}"
        case LeakyRelu(slope):
            return "Relu" if slope == 0 else f"LeakyRelu {slope:g}"
    return type(op).__name__


def _parameters(function: Function) -> int:
    """Weights of a network, thresholds and leaves of trees."""
    if isinstance(function, Trees):
        return sum(len(tree.feature) for tree in function.trees)
    ops = function.ops if isinstance(function, Network) else ()
    arrays = [
        getattr(op, name)
        for op in ops
        for name in ("weight", "bias", "factor", "divisor", "offset")
        if hasattr(op, name)
    ]
    return sum(array.size for array in arrays)
