"""Small Parquet files of every writer with nasty content, and every way in which one of them is damaged."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import skipml
from skipml.metadata.storage import sidecar_path
from tests.oracle import linear, model
from tests.writers import write_duckdb, write_fastparquet, write_polars, write_pyarrow

_ROWS, _GROUP = 40, 20
MODEL = model(linear([[1, -1]], [0], "float64"))
"""minus(a, b) of the files' columns."""


def _table(rows: int) -> pa.Table:
    i = np.arange(rows)
    a = i.astype(np.float64)
    a[3::17] = np.nan
    a[5::19] = -np.inf
    return pa.table(
        {
            "id": i,
            "a": pa.array(a, mask=i % 11 == 7),
            "b": pa.array(i * 7 % 20, pa.int32()),
            "s": pa.array([f"text {k % 3}" for k in range(rows)]),
        }
    )


def _pyarrow(**options: Any) -> Callable[[Path], None]:
    return lambda path: write_pyarrow(_table(_ROWS), path, _GROUP, **options)


def _enriched(*columns: str, **settings: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_pyarrow(_table(_ROWS), path, _GROUP)
        skipml.enrich(path, ["a", "b", *columns], pairs="all", hull_bytes=8, **settings)

    return write


BASES: Mapping[str, Callable[[Path], None]] = {
    "pyarrow": _pyarrow(),
    "pyarrow, other pages": _pyarrow(data_page_version="2.0", use_dictionary=False, write_page_index=True),
    "pyarrow, no statistics": _pyarrow(write_statistics=False, compression="none"),
    "polars": lambda path: write_polars(_table(_ROWS), path, _GROUP),
    "fastparquet": lambda path: write_fastparquet(_table(_ROWS), path, _GROUP),
    "duckdb": lambda path: write_duckdb(_table(2 * 2048), path, 2048),
    "embedded": _enriched(embed=True),
    "sidecar": _enriched(),
    "rich sidecar": _enriched("s", boxes=2, models=[MODEL], witness_bytes=96, block_rows=5),
}


@dataclass(frozen=True)
class Damage:
    """What is done to one base: a byte changed or the file cut at a place, in the file or in its sidecar."""

    base: str
    part: str
    """file, sidecar, or sealed sidecar: its checksum is made right again, as nobody but an attacker does."""
    kind: str
    """flip (a bit), cut, zero (eight bytes) or ones (eight bytes)."""
    at: int
    bit: int = 0

    def applied(self, data: bytes) -> bytes:
        """The damaged bytes."""
        if self.kind == "cut":
            return data[: self.at]
        damaged = bytearray(data)
        if self.kind == "flip":
            damaged[self.at] ^= 1 << self.bit
        else:
            damaged[self.at : self.at + 8] = (b"\0" if self.kind == "zero" else b"\xff") * len(
                data[self.at : self.at + 8]
            )
        return sealed(bytes(damaged)) if self.part == "sealed sidecar" else bytes(damaged)


def sealed(sidecar: bytes) -> bytes:
    """The sidecar with the checksum that its content has."""
    return sidecar[:-16] + hashlib.blake2b(sidecar[:-16], digest_size=16).digest()


@dataclass(frozen=True)
class Base:
    """The bytes of a file and of its sidecar, b"" if it has none."""

    file: bytes
    sidecar: bytes

    @property
    def footer(self) -> int:
        """Where the footer starts."""
        return len(self.file) - 8 - int.from_bytes(self.file[-8:-4], "little")


def put(base: Base, damage: Damage, path: Path) -> None:
    """Write the damaged file, with its sidecar if it has one."""
    path.write_bytes(damage.applied(base.file) if damage.part == "file" else base.file)
    if base.sidecar:
        mtime = int.from_bytes(base.sidecar[20:28], "little", signed=True)
        os.utime(path, ns=(mtime, mtime))
        sidecar = damage.applied(base.sidecar) if damage.part != "file" else base.sidecar
        Path(sidecar_path(path)).write_bytes(sidecar)


def written(folder: Path) -> dict[str, Base]:
    """Every base, by name."""
    found = {}
    for i, (name, write) in enumerate(BASES.items()):
        path = folder / f"base{i}.parquet"
        write(path)
        sidecar = Path(sidecar_path(path))
        found[name] = Base(path.read_bytes(), sidecar.read_bytes() if sidecar.exists() else b"")
    return found


def damages(bases: Mapping[str, Base], seed: int) -> Iterator[Damage]:
    """First each byte of each footer and sidecar flipped, and each file cut at each length of its footer and many
    others; then random damage without end.
    """
    rng = np.random.default_rng(seed)
    for name, base in bases.items():
        for at in range(base.footer, len(base.file)):
            yield Damage(name, "file", "flip", at, int(rng.integers(8)))
            yield Damage(name, "file", "cut", at)
        for at in range(0, base.footer, max(1, base.footer // 500)):
            yield Damage(name, "file", "cut", at)
        for at in range(len(base.sidecar)):
            yield Damage(name, "sidecar", "flip", at, int(rng.integers(8)))
            yield Damage(name, "sidecar", "cut", at)
            yield Damage(name, "sealed sidecar", "flip", at, int(rng.integers(8)))
    names = list(bases)
    while True:
        name = str(rng.choice(names))
        base = bases[name]
        part = str(rng.choice(["file", "sealed sidecar"] if base.sidecar else ["file"]))
        kind = str(rng.choice(["flip", "flip", "zero", "ones"]))
        first, size = (base.footer, len(base.file)) if part == "file" else (0, len(base.sidecar))
        if part == "file" and rng.random() < 0.15:
            first = 4
        yield Damage(name, part, kind, int(rng.integers(first, size)), int(rng.integers(8)))
