"""The C code of the bounds, compiled by itself: as it is, or broken on purpose."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

from skipml.bounds.compiled import declared

_SOURCES = Path(__file__).resolve().parents[1] / "extension/src"
_FILES = ("isa.c", "bounder.c", "interval.c", "crown.c", "boxes.c")
_FLAGS = ("-std=c11", "-O1", "-ffp-contract=fast", "-fPIC", "-shared", "-Wno-psabi")
_PORTABLE = ("-DBASELINE_ONLY", "-DISA=baseline", "-DVECTOR_BYTES=16")


def build(folder: Path, file: str = "", old: str = "", new: str = "") -> ctypes.CDLL:
    """The library for any processor, with one text in one file replaced by another; it must be there once."""
    sources = folder / "src"
    shutil.copytree(_SOURCES, sources)
    if file:
        text = (sources / file).read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        (sources / file).write_text(text.replace(old, new))
    target = folder / "bounds.so"
    subprocess.run(["gcc", *_FLAGS, *_PORTABLE, *(sources / name for name in _FILES), "-o", target, "-lm"], check=True)
    return declared(ctypes.CDLL(str(target)))
