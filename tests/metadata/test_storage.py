from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import fastparquet
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skipml.errors import EnrichmentError, FileChangedError, FooterError, MetadataError
from skipml.footers import read_footers
from skipml.identity import identity
from skipml.metadata import loading, storage
from skipml.metadata.loading import load
from skipml.metadata.replacement import synchronise
from skipml.metadata.storage import embed, sidecar_path, write_sidecar
from skipml.metadata.tie import read_footer, split, tie
from skipml.parquet.thrift import BINARY, LIST, STRUCT
from tests.metadata.stored import footer_start, loaded, metadata_for, put_in, refused, rewrite, write
from tests.metadata.test_format import bits_of
from tests.writers import WRITERS, Struct, edit_footer, write_pyarrow


def _drop_key_values(table: pa.Table, path: Path) -> None:
    write_pyarrow(table, path)
    edit_footer(path, lambda footer: footer.drop(5, 6))


def _empty_key_values(table: pa.Table, path: Path) -> None:
    write_pyarrow(table, path)
    edit_footer(path, lambda footer: footer.put(5, LIST, (STRUCT, [])))


FILES: dict[str, Callable[[pa.Table, Path], None]] = {
    **WRITERS,
    "page index": lambda table, path: write_pyarrow(table, path, write_page_index=True),
    "pages v2": lambda table, path: write_pyarrow(table, path, data_page_version="2.0"),
    "no schema entry": lambda table, path: write_pyarrow(table, path, store_schema=False),
    "many entries": lambda table, path: write_pyarrow(
        table.replace_schema_metadata({f"key {i}": "v" * i for i in range(13)}), path
    ),
    "no key-values": _drop_key_values,
    "empty list": _empty_key_values,
}


def as_four_readers_see_it(path: Path) -> list[Any]:
    """All rows; fastparquet cannot read some encodings, before and after."""
    return [
        pq.read_table(path).to_pydict(),
        duckdb.execute(f"SELECT * FROM '{path}'").fetchall(),
        polars.read_parquet(path).to_dict(as_series=False),
        _open_fastparquet(path).to_pandas().to_dict() if _fastparquet_reads(path) else None,
    ]


def other_key_values(path: Path) -> list[Any]:
    """Everything but our entry, as each reader lists it."""
    duck = duckdb.execute(f"SELECT key, value FROM parquet_kv_metadata('{path}') WHERE key != 'skipml'").fetchall()
    seen: list[Any] = [
        pq.read_metadata(path).metadata or {},
        polars.read_parquet_metadata(path),
        _open_fastparquet(path).key_value_metadata,
    ]
    return [sorted(duck), *({k: v for k, v in kv.items() if k not in ("skipml", b"skipml")} for kv in seen)]


def _open_fastparquet(path: Path) -> Any:
    return fastparquet.ParquetFile(io.BytesIO(path.read_bytes()))  # it would leave a file open


def _fastparquet_reads(path: Path) -> bool:
    group = pq.read_metadata(path).row_group(0)
    used = {encoding for i in range(group.num_columns) for encoding in group.column(i).encodings}
    return used <= {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY", "BIT_PACKED"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Series.values", "ignore::FutureWarning")
@pytest.mark.parametrize("name", FILES)
def test_embedding_changes_nothing_for_other_readers(tmp_path: Path, table: pa.Table, name: str) -> None:
    path = tmp_path / "file.parquet"
    FILES[name](table, path)
    before, rows, key_values, state = path.read_bytes(), as_four_readers_see_it(path), other_key_values(path), tie(path)
    start = footer_start(path)
    stats = bits_of(tuple(read_footers([str(path)], ["x", "y"], strict=True).columns.values()))
    sizes = []
    for turn in ("first", "second"):
        metadata = put_in(path, turn=turn)
        assert bits_of(loaded(path)) == bits_of(metadata)
        assert path.read_bytes()[:start] == before[:start]
        assert footer_start(path) == start
        assert as_four_readers_see_it(path) == rows
        assert other_key_values(path) == key_values
        assert tie(path).footer == state.footer
        assert bits_of(tuple(read_footers([str(path)], ["x", "y"], strict=True).columns.values())) == stats
        sizes.append(path.stat().st_size)
    assert sizes[1] - sizes[0] <= 4, "the second embedding did not replace the first"
    assert [file.name for file in tmp_path.iterdir()] == ["file.parquet"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_permissions_stay_and_links_are_followed(tmp_path: Path, path: Path, mode: int) -> None:
    path.chmod(mode)
    (tmp_path / "link.parquet").symlink_to(path)
    put_in(tmp_path / "link.parquet")
    assert (tmp_path / "link.parquet").is_symlink()
    loaded(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    write(path)
    assert stat.S_IMODE(os.stat(sidecar_path(path)).st_mode) == mode & 0o666


def test_a_program_that_copies_key_values_does_not_copy_the_metadata(tmp_path: Path, table: pa.Table) -> None:
    path, copy = tmp_path / "file.parquet", tmp_path / "copy.parquet"
    x = table["x"].to_numpy().copy()
    x[1000] = 0.0  # neither smallest nor largest, and of the same size in the file
    changed = table.set_column(0, "x", pa.array(x))
    for source, target in ((table, path), (changed, copy)):
        write_pyarrow(source, target, store_schema=False, compression="none", use_dictionary=False)
    assert tie(copy).footer == tie(path).footer, "the footers alone tell them apart: this test shows nothing"
    put_in(path)
    copied = (BINARY, b"skipml"), (BINARY, split(read_footer(path)[1]).value)
    edit_footer(copy, lambda footer: footer.put(5, LIST, (STRUCT, [Struct(dict(enumerate(copied, 1)))])))
    assert "a program copied the metadata" in refused(copy)
    put_in(copy)
    loaded(copy)
    assert duckdb.execute(f"SELECT count(*) FROM parquet_kv_metadata('{copy}') WHERE key = 'skipml'").fetchone() == (1,)


def test_embedded_metadata_travels_with_the_file_and_a_sidecar_does_not(tmp_path: Path, path: Path) -> None:
    embedded = put_in(path, place="footer")
    shutil.copy(path, tmp_path / "copy.parquet")
    assert bits_of(loaded(tmp_path / "copy.parquet")) == bits_of(embedded)
    write(path, place="sidecar")
    assert loaded(path).settings == {"place": "sidecar"}
    shutil.copy(sidecar_path(path), sidecar_path(tmp_path / "copy.parquet"))
    assert loaded(tmp_path / "copy.parquet").settings == {"place": "footer"}, "a stale sidecar must not hide the footer"


@pytest.mark.parametrize("below", [None, "root", "a/deep/root"])
def test_sidecars(tmp_path: Path, path: Path, below: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / below if below else None
    assert bits_of(load(path, root)) == bits_of(loading.Loaded(None, "", identity(path)))
    metadata = metadata_for(path)
    write_sidecar(path, metadata, tie(path), root)
    assert bits_of(loaded(path, root)) == bits_of(metadata)
    assert os.path.isfile(f"{root}{path}.skipml" if root else f"{path}.skipml")
    monkeypatch.chdir(tmp_path)
    relative = Path(below) if below else None
    assert bits_of(loaded(Path("file.parquet"), relative)) == bits_of(metadata)
    os.unlink(sidecar_path("file.parquet", relative))
    assert load(path, root).metadata is None


def test_metadata_of_other_rows_is_not_written(tmp_path: Path, path: Path) -> None:
    write_pyarrow(pq.read_table(path).slice(1), tmp_path / "other.parquet")
    foreign = metadata_for(tmp_path / "other.parquet")
    for put in (write_sidecar, embed):
        with pytest.raises(EnrichmentError, match=r"covers 5999 rows in 3 row groups, and '.*' has 6000 in 3; enrich"):
            put(path, foreign, tie(path))
        with pytest.raises(MetadataError):
            put(path, replace(metadata_for(path), first_row=foreign.first_row + 1), tie(path))
    assert refused(path) == ""


@pytest.mark.parametrize("put", [write_sidecar, embed])
@pytest.mark.parametrize("change", [Path.touch, rewrite, Path.unlink])
def test_a_file_that_changes_meanwhile_is_noticed(
    path: Path, put: Callable[..., None], change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata, state = metadata_for(path), tie(path)

    def change_and_synchronise(file: BinaryIO, mode: int) -> None:
        synchronise(file, mode)
        change(path)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "synchronise", change_and_synchronise)
        patch.setattr(storage, "_verify", lambda old, new: None)
        with pytest.raises(FileChangedError, match="changed while it was enriched; enrich it again"):
            put(path, metadata, state)
    assert not list(path.parent.glob("*skipml*"))
    if path.exists():
        assert refused(path) == ""
        with pytest.raises(FileChangedError):
            put(path, metadata, state)


@pytest.mark.parametrize("put", [write_sidecar, embed])
@pytest.mark.parametrize("step", ["tempfile.mkstemp", "os.fchmod", "os.fsync", "os.replace"])
def test_a_full_disk_or_a_read_only_directory(
    path: Path, put: Callable[..., None], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, metadata_for(path, turn="old"), tie(path))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(
            EnrichmentError, match=r"'.*parquet.*' cannot be written: No space .*old state.*sidecar root"
        ):
            put(path, metadata_for(path, turn="new"), tie(path))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    assert loaded(path).settings == {"turn": "old"}


def test_a_root_that_is_no_directory(tmp_path: Path, path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(EnrichmentError, match=r"root.*file\.parquet\.skipml' cannot be written"):
        write_sidecar(path, metadata_for(path), tie(path), tmp_path / "root")


def _encrypt(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4] + b"PARE")


def _sign(path: Path) -> None:
    edit_footer(path, lambda footer: footer.put(8, STRUCT, Struct()))


def _append_to_footer(path: Path) -> None:
    data, start = path.read_bytes(), footer_start(path)
    footer = data[start:-8] + b"signature"
    path.write_bytes(data[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


@pytest.mark.parametrize(
    ("change", "reason"), [(_encrypt, "encrypted footer"), (_sign, "signed"), (_append_to_footer, "signed")]
)
def test_footers_that_take_no_entry(path: Path, change: Callable[[Path], None], reason: str) -> None:
    metadata, state = metadata_for(path), tie(path)
    change(path)
    with suppress(FooterError):
        state = tie(path)
    before = path.read_bytes()
    with pytest.raises(EnrichmentError, match=reason):
        embed(path, metadata, state)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("broken", [b"", b"\x15\x02\x00", b"garbage"])
def test_a_footer_that_nobody_could_read_is_not_published(
    path: Path, broken: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(storage, "insert", lambda base, value: broken)
    with pytest.raises(EnrichmentError, match="use a sidecar"):
        embed(path, metadata_for(path), tie(path))
    assert path.read_bytes() == before
