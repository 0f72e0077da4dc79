"""What may not go wrong when bytes are read that somebody made to go wrong: model files, footers, sidecars."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import onnx

import skipml
from skipml.bounds.choice import bounder
from skipml.errors import MetadataError, ModelError
from skipml.footers import read_footers
from skipml.metadata.format import decode, encode
from skipml.metadata.storage import sidecar_path
from skipml.models import load_onnx
from skipml.models.native import to_bytes
from tests.models.onnx_graphs import DOUBLE, Graph
from tests.soundness.damaged_files import MODEL, Base, sealed, written

_HEADER, _CHECKSUM = 44, 16
"""Bytes of a sidecar that say what it is of, and those that say that it is whole."""
_BASE = "pyarrow"


@cache
def _place() -> Path:
    return Path(tempfile.mkdtemp())


@cache
def _bases() -> Mapping[str, Base]:
    folder = _place() / "bases"
    folder.mkdir()
    return written(folder)


def read_model(data: bytes) -> None:
    """A model file is refused, or its bounds hold the scores of rows, and it is written for the extension or refused
    for that.
    """
    path = _place() / "model.onnx"
    path.write_bytes(data)
    try:
        network = load_onnx(path)
    except ModelError:
        return
    d = network.n_inputs
    if d > 64:
        return
    lower, upper = np.full((2, d), -1.0), np.full((2, d), [[1.0], [0.5]])
    rows = np.linspace(lower[1], upper[1], 5)
    with np.errstate(all="ignore"):
        scores = network.forward(rows).astype(np.float64)
    assert scores.shape == (5, network.n_outputs)
    verifier = bounder(network)
    low, high = verifier.outputs(*verifier.interval(lower, upper))
    assert ((scores >= low[1]) & (scores <= high[1]) | ~np.isfinite(low[1] + high[1])).all()
    with suppress(ModelError):
        to_bytes(network)


def read_footer(data: bytes) -> None:
    """A footer is read as zone maps, or its file is left alone, and nothing fails."""
    path = _place() / "footer.parquet"
    base = _bases()[_BASE]
    path.write_bytes(base.file[: base.footer] + data + len(data).to_bytes(4, "little") + b"PAR1")
    found = read_footers([str(path)], ["a", "b"])
    assert len(found.errors) == 1
    _plans(path)


def read_sidecar(data: bytes) -> None:
    """A sidecar that claims to be whole and of its file is read or refused; what is read can be written."""
    base = _bases()["rich sidecar"]
    sidecar = sealed(base.sidecar[:_HEADER] + data[_HEADER:-_CHECKSUM] + bytes(_CHECKSUM))
    try:
        metadata, tie = decode(sidecar)
    except MetadataError:
        pass
    else:
        again = encode(metadata, tie)
        assert encode(*decode(again)) == again
    path = _place() / "sidecar.parquet"
    if not path.exists():
        path.write_bytes(base.file)
    mtime = int.from_bytes(base.sidecar[20:28], "little", signed=True)
    os.utime(path, ns=(mtime, mtime))
    Path(sidecar_path(path)).write_bytes(sidecar)
    _plans(path)


def _plans(path: Path) -> None:
    for predicate in (MODEL > 20, (MODEL < -10) | MODEL.between(5, 6)):
        error = skipml.plan(path, predicate).result.error
        assert not error, error


def _models() -> list[bytes]:
    """Files of each kind of operator, and one that is a pickle."""

    def graph(elem_type: int = 1) -> Graph:
        return Graph(2, elem_type)

    eye = np.eye(2)
    chains = [
        graph().add("Relu"),
        (g := graph()).add("Gemm", "", g.constant(eye), g.constant([1, 2]), transB=1),
        (g := graph(DOUBLE)).add("MatMul", "", g.constant(eye)).add("Add", "", g.constant([1, 2])).add("LeakyRelu"),
        (g := graph()).add("Mul", "", g.constant([2, 3])).add("Div", "", g.constant([2, 3])).add("Flatten"),
        (g := graph()).add("Reshape", "", g.constant([-1, 2], np.int64)).add("Sub", "", g.constant(1)),
        graph().add("Cast", to=DOUBLE).add("Identity"),
    ]
    found: list[bytes] = [onnx.ModelProto.SerializeToString(chain.model()) for chain in chains]
    return [*found, b"\x80\x05cos\nsystem\n"]


def _footers() -> list[bytes]:
    return [base.file[base.footer : -8] for base in _bases().values()]


def _sidecars() -> list[bytes]:
    return [base.sidecar for base in _bases().values() if base.sidecar]


CHECKS: Mapping[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "model": (read_model, _models),
    "footer": (read_footer, _footers),
    "sidecar": (read_sidecar, _sidecars),
}
"""By name: what raises where something goes wrong, and bytes that are as they should be."""
