"""What is known of a Parquet file or of a model, as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np

from skipml.errors import ModelError
from skipml.footers import ColumnStats, Footers, read_footers
from skipml.function import Function
from skipml.graph import Elementwise, Graph, Normalize, Operator
from skipml.identity import Path, expand, private_connection
from skipml.linked import Linked
from skipml.metadata.refine import refine
from skipml.models import read
from skipml.models.loading import read_onnx
from skipml.models.onnx_facts import onnx_facts
from skipml.network import Affine, LeakyRelu, Network
from skipml.pipelines import Pipeline, text_inputs
from skipml.preparation import Feature
from skipml.prepared import Prepared
from skipml.trees import Trees

_MANY_INPUTS = 8


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
        "texts": _text_facts(refined.footers),
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


def _text_facts(footers: Footers) -> list[dict[str, Any]]:
    """Of which columns it is known which texts occur, how many in all and in how many blocks."""
    found = []
    for name, stats in footers.columns.items():
        sets = [] if stats.text is None or stats.text.sets is None else stats.text.sets.tolist()
        known = [texts for texts in sets if texts is not None]
        if known:
            found.append({"column": name, "texts": len(set().union(*known)), "blocks": len(known)})
    return found


def model_facts(path: str) -> dict[str, Any]:
    """What a model consists of and how it is bounded; of an ONNX file that is refused, all that is not evaluated.

    Raises ModelError, with the part, for another file that is not understood.
    """
    graph = read_onnx(path)
    facts = {} if graph is None else onnx_facts(graph)
    try:
        found = read(path)
    except ModelError as error:
        if not facts:
            raise
        return {"file": path, **facts, "error": str(error)}
    facts.pop("refused", None)
    function = found.function
    pipeline = function if isinstance(function, Pipeline) else None
    inner = function.inner if isinstance(function, Pipeline) else function
    network = inner.network if isinstance(inner, Prepared | Linked) else inner
    steps = [_feature_text(feature) for feature in inner.features] if isinstance(inner, Prepared) else []
    ops = [_op_text(op) for op in _ops(network)] or [_trees_text(network)]
    link = [inner.link.kind] if isinstance(inner, Prepared | Linked) and inner.link.kind != "identity" else []
    texts, fills = text_inputs(function), pipeline.fills if pipeline is not None else {}
    names = found.names or tuple(f"input {i + 1}" for i in range(function.n_inputs))
    return {
        "file": path,
        **facts,
        "inputs": function.n_inputs,
        "outputs": function.n_outputs,
        "dtype": function.dtype.name,
        **({} if found.names is None else {"columns_read": list(names)}),
        **({"text": [names[i] for i in sorted(texts)]} if texts else {}),
        **({"null_has_a_value": [names[i] for i in sorted(fills)]} if fills else {}),
        "ops": [*steps, *ops, *link],
        "parameters": _parameters(network),
        "bounded_by": _bounds_text(inner, [names[i] for i in sorted(texts)]),
        "hash": function.hash,
    }


def _bounds_text(inner: Function, texts: list[str]) -> list[str]:
    """How thresholds on the outputs are decided, and what decides less than it could."""
    found = (
        ["leaves of the trees, branch and bound"]
        if isinstance(inner, Trees)
        else ["intervals, CROWN, branch and bound"]
    )
    if inner.n_inputs > _MANY_INPUTS:
        found.append(f"branch and bound rarely pays with {inner.n_inputs} inputs")
    if texts:
        names = " or ".join(texts)
        found.append(f"text by the limits of its bytes: enrich {names}, so that it is known which texts occur")
    if isinstance(inner, Prepared) and any(f.slope is None and not f.is_stepped for f in inner.features):
        found.append("no hulls where a column is clipped or taken to a power")
    return found


def _feature_text(feature: Feature) -> str:
    if feature.values is not None:
        return f"Cells {len(feature.values)} of input {feature.source + 1}"
    return " ".join([f"Input {feature.source + 1}", *(step.kind for step in feature.steps)])


def _trees_text(function: Function) -> str:
    if not isinstance(function, Trees):
        return type(function).__name__
    depth = max((len(list(tree.levels())) - 1 for tree in function.trees), default=0)
    return f"{len(function.trees)} trees of depth up to {depth}, {function.link.kind}"


def _ops(function: Function) -> list[Operator]:
    """What a network does, in order; nothing of trees."""
    if isinstance(function, Graph):
        return [node.op for node in function.nodes]
    return list(function.ops) if isinstance(function, Network) else []


def _op_text(op: Operator) -> str:
    match op:
        case Elementwise(kind, parameters):
            return " ".join([kind, *(f"{number:g}" for number in parameters)])
        case Normalize(_, centred):
            return "LayerNorm" if centred else "RMSNorm"
        case Affine(weight):
            return f"Affine {weight.shape[1]} -> {weight.shape[0]}"
        case LeakyRelu(slope):
            return "Relu" if slope == 0 else f"LeakyRelu {slope:g}"
    return type(op).__name__


def _parameters(function: Function) -> int:
    """Weights of a network, thresholds and leaves of trees."""
    if isinstance(function, Trees):
        return sum(len(tree.feature) for tree in function.trees)
    arrays = [
        getattr(op, name)
        for op in _ops(function)
        for name in ("weight", "bias", "factor", "divisor", "offset", "slope")
        if isinstance(getattr(op, name, None), np.ndarray)
    ]
    return sum(array.size for array in arrays)
