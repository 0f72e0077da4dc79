"""Cases that once failed, in tests/corpus/: the data and the model as they are, so that no generator is needed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skipml.network import Affine, Divide, LeakyRelu, Network, Op, Scale, Shift
from tests.soundness.cases import Case, Question

FOLDER = Path(__file__).parents[1] / "corpus"

_OPS: dict[str, Callable[..., Op]] = {op.__name__: op for op in (Affine, Scale, Divide, Shift, LeakyRelu)}


def store(kind: str, content: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write a case as JSON, below a folder of its kind, under a name made of its content."""
    text = json.dumps(content, indent=1) + "\n"
    path = folder / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def stored(kind: str, folder: Path = FOLDER) -> list[Path]:
    """The cases of a kind."""
    return sorted((folder / kind).glob("*.json"))


def to_json(case: Case, problem: str) -> dict[str, Any]:
    """A differential case."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, case.groups[0].schema) as stream:
        for group in case.groups:
            stream.write_table(group.combine_chunks())
    network = case.network
    ops = [[type(op).__name__, *(_plain(getattr(op, name)) for name in op.__dataclass_fields__)] for op in network.ops]
    return {
        "problem": problem,
        "writer": case.writer,
        "n_files": case.n_files,
        "metadata": case.metadata,
        "budget": case.budget,
        "conditions": case.conditions,
        "questions": [[question.condition, list(question.parameters)] for question in case.questions],
        "network": {"dtype": network.dtype.name, "n_inputs": network.n_inputs, "ops": ops},
        "group_rows": [group.num_rows for group in case.groups],
        "rows": base64.b64encode(sink.getvalue()).decode(),
    }


def from_json(content: dict[str, Any]) -> Case:
    """The case again."""
    dtype = np.dtype(content["network"]["dtype"])
    ops = tuple(_op(dtype, name, *fields) for name, *fields in content["network"]["ops"])
    rows = pa.ipc.open_stream(base64.b64decode(content["rows"])).read_all()
    starts = np.cumsum([0, *content["group_rows"]]).tolist()
    n_inputs = content["network"]["n_inputs"]
    n_outputs = next((len(op.bias) for op in reversed(ops) if isinstance(op, Affine)), n_inputs)
    return Case(
        groups=tuple(rows.slice(start, n) for start, n in zip(starts, content["group_rows"], strict=False)),
        writer=content["writer"],
        n_files=content["n_files"],
        network=Network(n_inputs, n_outputs, dtype, ops),
        metadata=content["metadata"],
        budget=content["budget"],
        conditions=tuple(map(_tuples, content["conditions"])),
        questions=tuple(Question(condition, tuple(parameters)) for condition, parameters in content["questions"]),
    )


def _plain(value: Any) -> Any:
    return value.astype(np.float64).tolist() if isinstance(value, np.ndarray) else value


def _op(dtype: np.dtype[np.floating], name: str, *fields: Any) -> Op:
    arrays = (np.array(field, dtype) if isinstance(field, list) else field for field in fields)
    return _OPS[name](*arrays)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
