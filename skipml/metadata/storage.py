"""Where metadata is written: a sidecar `NAME.parquet.skipml`, or an entry in the footer of the data file itself.

A writer names the state of the data file that it describes, taken before it read the rows. If the file is in another
state by the time the metadata is complete, nothing is written.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import numpy as np

from skipml.errors import EnrichmentError, FileChangedError, FooterError, MetadataError
from skipml.identity import Path
from skipml.metadata.contents import Metadata
from skipml.metadata.format import encode
from skipml.metadata.replacement import publish, synchronise, temporary
from skipml.metadata.tie import Tie, footer_hash, insert, read_footer, split, without_copies
from skipml.metadata.tie import tie as current_tie
from skipml.parquet.footer import read_files
from skipml.parquet.thrift import ThriftError
from skipml.stores import RemoteFile

_SUFFIX = ".skipml"
_MAGIC = b"PAR1"
_TRAILER = 8
_CHUNK = 1 << 22
_FOR_ALL = 0o644


def sidecar_path(path: Path, root: Path | None = None) -> str:
    """The sidecar of a data file: beside it, or where its absolute path, or the URL as one, leads below `root`."""
    if isinstance(path, RemoteFile):
        if root is None:
            return path.beside(_SUFFIX)
        name = f"{path.store.protocol}/{path.key.partition('://')[2] or path.key.lstrip('/')}{_SUFFIX}"
    elif root is None:
        return os.fspath(path) + _SUFFIX
    else:
        name = os.path.abspath(os.fspath(path) + _SUFFIX).lstrip(os.sep)
    return root.below(name) if isinstance(root, RemoteFile) else os.path.join(root, name)


def write_sidecar(path: Path, metadata: Metadata, tie: Tie, root: Path | None = None) -> None:
    """Write the sidecar of a data file, whose permissions it gets.

    Raises FileChangedError if the file is not in the state `tie`, MetadataError if the metadata contradicts itself,
    EnrichmentError if it does not cover the file's rows or cannot be written.
    """
    target = sidecar_path(path, root)
    if isinstance(target, RemoteFile):
        _write_object(path, target, metadata, tie)
        return
    directory = os.path.dirname(target) or os.curdir
    payload = encode(metadata, tie)
    with _explained(target):
        _require_state(path, tie)
        _require_rows(path, metadata)
        if root is not None:
            os.makedirs(directory, exist_ok=True)
        with temporary(directory) as (name, file):
            file.write(payload)
            synchronise(file, _FOR_ALL if isinstance(path, RemoteFile) else os.stat(path).st_mode & 0o666)
            _require_state(path, tie)
            publish(name, target)


def _write_object(path: Path, target: RemoteFile, metadata: Metadata, tie: Tie) -> None:
    """Write a sidecar into a store, which puts it in place as a whole; one that is torn has a wrong checksum."""
    payload = encode(metadata, tie)
    with _explained(target):
        _require_state(path, tie)
        _require_rows(path, metadata)
        target.store.write(target, payload)


def embed(path: Path, metadata: Metadata, tie: Tie) -> None:
    """Write metadata into the footer of its data file, in place of what was embedded there.

    Everything before the footer stays byte for byte, and so do the footer's other fields and key-values; permissions
    stay, and a link is followed. A sidecar of the file is stale afterwards. Nobody else may write the file meanwhile:
    what appears there in the instant between the last look at its state and the rename is lost. Raises as
    `write_sidecar` does, and EnrichmentError for a footer that is encrypted, signed or not understood, or a file in a
    store.
    """
    if isinstance(path, RemoteFile):
        raise EnrichmentError(f"'{path}' is in a store, which replaces whole files only; write a sidecar")
    target = os.path.realpath(path)
    with _explained(target):
        _require_state(target, tie)
        status = os.stat(target)
        start, footer = _embedded(target, metadata)
        _require_rows(target, metadata)
        with temporary(os.path.dirname(target)) as (name, file):
            _copy(target, file, start)
            file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)
            with suppress(PermissionError):  # only root may give a file away
                os.chown(file.fileno(), status.st_uid, status.st_gid)
            synchronise(file, status.st_mode)
            _verify(target, name)
            _require_state(target, tie)
            publish(name, target)


@contextmanager
def _explained(target: str) -> Iterator[None]:
    """Whatever keeps a file from being written becomes an EnrichmentError."""
    try:
        yield
    except OSError as error:
        raise EnrichmentError(
            f"'{target}' cannot be written: {error.strerror or error}; its old state stays. Make room or give write "
            "permission there, or write sidecars below another directory (the sidecar root)"
        ) from error
    except FooterError as error:
        raise EnrichmentError(f"nothing can be added to this file: {error}") from error


def _require_state(path: Path, tie: Tie) -> None:
    try:
        unchanged = current_tie(path) == tie
    except FileNotFoundError:
        unchanged = False
    if not unchanged:
        raise FileChangedError(f"'{os.fspath(path)}' changed while it was enriched; enrich it again")


def _require_rows(path: Path, metadata: Metadata) -> None:
    """Metadata that leaves a row out would lose it."""
    (footer,) = read_files([os.fspath(path)], [])
    if footer.error:
        raise EnrichmentError(f"nothing can be added to this file: {footer.error}")
    groups = len(footer.n_rows)
    covered = np.bincount(metadata.row_group, weights=metadata.n_rows, minlength=groups)
    if not np.array_equal(covered, footer.n_rows):
        raise EnrichmentError(
            f"the metadata covers {metadata.n_rows.sum()} rows in {len(np.unique(metadata.row_group))} row groups, and "
            f"'{os.fspath(path)}' has {footer.n_rows.sum()} in {groups}; enrich it again"
        )


def _embedded(path: str, metadata: Metadata) -> tuple[int, bytes]:
    """Where a file's footer starts, and that footer with the metadata in it."""
    state, raw = read_footer(path)
    try:
        base = without_copies(split(raw).base)
        footer = insert(base, base64.b64encode(encode(metadata, Tie(0, 0, footer_hash(base)))))
    except MetadataError:
        raise
    except (ThriftError, IndexError, ValueError) as error:
        raise EnrichmentError(f"'{path}' has a footer to which nothing can be added: {error}; use a sidecar") from error
    return state.size - _TRAILER - len(raw), footer


def _copy(path: str, file: BinaryIO, size: int) -> None:
    with open(path, "rb", buffering=0) as source:
        while size:
            chunk = source.read(min(size, _CHUNK))
            if not chunk:
                raise FileChangedError(f"'{path}' was cut off while it was copied; enrich it again")
            file.write(chunk)
            size -= len(chunk)


def _verify(old: str, new: str) -> None:
    """Refuse a file that this library or pyarrow reads otherwise than before."""
    before, after = read_files([old, new], [])
    if after.error or not np.array_equal(before.n_rows, after.n_rows) or split(read_footer(new)[1]).value is None:
        raise EnrichmentError(f"'{old}' would not be readable with metadata in it ({after.error}); use a sidecar")
    # not at the top: it takes a while to load, and a query never needs it
    import pyarrow as pa
    from pyarrow import parquet

    try:
        plain, rewritten = parquet.read_metadata(old), parquet.read_metadata(new)
    except (pa.ArrowException, OSError) as error:
        raise EnrichmentError(f"pyarrow could not read '{old}' with metadata in it: {error}; use a sidecar") from error
    for name in ("num_rows", "num_row_groups", "created_by", "schema", "metadata"):
        was, now = getattr(plain, name), getattr(rewritten, name)
        if name == "metadata":
            was, now = ({key: value for key, value in (kv or {}).items() if key != b"skipml"} for kv in (was, now))
        if was != now:
            raise EnrichmentError(f"pyarrow reads another {name} of '{old}' with metadata in it; use a sidecar")
