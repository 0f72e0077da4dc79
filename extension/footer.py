"""Appends the footer that makes a shared library a DuckDB extension: `footer.py LIBRARY EXTENSION VERSION`."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

_FIELD = 32
_SIGNATURE_BYTES = 256  # all zero: unsigned
_SECTION = bytes([0, 147, 4, 16]) + b"duckdb_signature" + bytes([128, 4])  # header of a WebAssembly custom section
_SYSTEMS = {"Linux": "linux", "Darwin": "osx"}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def footer(platform_name: str, api_version: str, version: str, abi: str) -> bytes:
    """The 534 bytes that DuckDB reads from the end of the file."""
    fields = ["4", platform_name, api_version, version, abi, "", "", ""]
    return _SECTION + b"".join(f.encode().ljust(_FIELD, b"\0") for f in reversed(fields)) + bytes(_SIGNATURE_BYTES)


def main(library: str, extension: str, version: str) -> None:
    """Writes the extension for this machine's platform and the stable C API of DuckDB 1.2 and later."""
    machine = platform.machine()
    name = f"{_SYSTEMS[platform.system()]}_{_MACHINES.get(machine, machine)}"
    Path(extension).write_bytes(Path(library).read_bytes() + footer(name, "v1.2.0", version, "C_STRUCT"))


if __name__ == "__main__":
    main(*sys.argv[1:])
