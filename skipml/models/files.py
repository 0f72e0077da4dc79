"""Reads a model file as data: bounded in size, and never a pickle."""

from __future__ import annotations

from pathlib import Path

from skipml.errors import ModelError
from skipml.models.skops import is_skops

MAX_FILE_BYTES = 256 << 20

_PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
# Pickle protocol 2 and newer; zip (torch.save); gzip, bzip2, xz and zlib (joblib). No ONNX file starts like that.
_PICKLE_MAGIC = (
    b"\x80",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
)


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file.

    Raises ModelError if it cannot be read, is larger than MAX_FILE_BYTES, or is a pickle or an archive that may hold
    one.
    """
    if path.exists() and not path.is_file():
        raise ModelError("not a regular file; give the path of an ONNX file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"larger than {MAX_FILE_BYTES >> 20} MiB, the limit for a model file")
    is_pickle = data.startswith(_PICKLE_MAGIC) and not is_skops(data)
    if path.suffix.lower() in _PICKLE_SUFFIXES or is_pickle:
        raise ModelError(
            "looks like a pickle, or an archive that may hold one, and loading a pickle runs code; "
            "export the model with torch.onnx.export or skops.io.dump, or use Model.from_torch or Model.from_sklearn"
        )
    return data
