"""Virtual files: the bytes of the real one under a footer that lists the row groups that are kept."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.engines import virtual
from skipml.engines.virtual import VirtualFiles, layout
from skipml.identity import identity
from tests.engines.conftest import rows, write
from tests.writers import WRITERS

_KEPT = [[0], [2], [0, 1, 2], [1, 2], [0, 2], []]


def _written(folder: Path, writer: str) -> Path:
    """Three row groups of every kind of column that all writers know."""
    n = 3 * 2048
    table = pa.table(
        {
            "id": np.arange(n),
            "x": np.linspace(-1, 1, n),
            "s": [f"text {i % 17}" for i in range(n)],
            "flag": np.arange(n) % 2 == 0,
        }
    )
    path = folder / f"{writer}.parquet"
    WRITERS[writer](table, path)
    return path


@pytest.mark.parametrize("writer", WRITERS)
def test_all_row_groups_give_the_original_footer(tmp_path: Path, writer: str) -> None:
    path = _written(tmp_path, writer)
    found = layout(str(path), identity(path))
    assert len(found.groups) == 3
    assert found.keep([0, 1, 2]) == path.read_bytes()[found.start :]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_virtual_file_is_a_parquet_file_with_those_row_groups(tmp_path: Path, writer: str) -> None:
    path = _written(tmp_path, writer)
    found = layout(str(path), identity(path))
    pages = path.read_bytes()[: found.start]
    with pq.ParquetFile(path) as real:
        for kept in _KEPT:
            with pq.ParquetFile(io.BytesIO(pages + found.keep(kept))) as file:
                assert file.metadata.num_row_groups == len(kept)
                assert file.metadata.num_rows == 2048 * len(kept)
                assert file.read().equals(real.read_row_groups(kept))
                assert file.metadata.metadata == real.metadata.metadata


@pytest.mark.parametrize("writer", WRITERS)
def test_duckdb_reads_the_row_groups_that_are_kept(tmp_path: Path, writer: str) -> None:
    path = _written(tmp_path, writer)
    files = VirtualFiles()
    with duckdb.connect() as con:
        con.register_filesystem(files)
        for kept in _KEPT:
            (url,) = files.add([(str(path), identity(path), kept)])
            ids = [row[0] for row in con.execute(f"SELECT id FROM read_parquet('{url}')").fetchall()]
            assert sorted(ids) == [i for group in kept for i in range(2048 * group, 2048 * (group + 1))]


@pytest.mark.parametrize("n_groups", [1, 14, 15, 16, 128, 300])
def test_any_number_of_row_groups_is_listed(tmp_path: Path, n_groups: int) -> None:
    path = Path(write(tmp_path / "x.parquet", pa.table({"id": np.arange(n_groups)}), 1))
    found = layout(str(path), identity(path))
    pages = path.read_bytes()[: found.start]
    assert found.keep(range(n_groups)) == path.read_bytes()[found.start :]
    for kept in (range(0, n_groups, 2), range(min(n_groups, 14)), range(min(n_groups, 15)), range(n_groups - 1)):
        ids = pq.read_table(io.BytesIO(pages + found.keep(list(kept))))["id"].to_pylist()
        assert ids == list(kept)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1PAR1", b"PAR1" + bytes(50) + b"PAR1", b"x" * 100, b"PAR1\xff\xff\xff\x7fPAR1"]
)
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises((skipml.FooterError, OSError)):
        VirtualFiles().add([(str(path), identity(path), [0])])


def test_a_file_in_another_state_is_refused(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.parquet", rows()))
    planned = identity(path)
    files = VirtualFiles()
    (url,) = files.add([(str(path), planned, [0])])
    write(path, rows(400, 100))
    with pytest.raises(skipml.FileChangedError):
        files.open(url)


def test_reads_cross_from_the_pages_into_the_footer(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.parquet", rows()))
    files = VirtualFiles()
    (url,) = files.add([(str(path), identity(path), [1, 3])])
    found = layout(str(path), identity(path))
    whole = path.read_bytes()[: found.start] + found.keep([1, 3])
    assert files.size(url) == len(whole)
    handle = files.open(url)
    for start in (0, 1, found.start - 1, found.start, found.start + 1, len(whole) - 1, len(whole)):
        for size in (0, 1, 2, 100, len(whole)):
            assert handle.seek(start) == start
            assert handle.read(size) == whole[start : start + size]
            assert handle.tell() == min(start + size, len(whole))
    assert handle.seek(-4, 2) == len(whole) - 4
    assert handle.read() == b"PAR1"
    handle.close()
    handle.close()


def test_virtual_files_cannot_be_written(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.parquet", rows()))
    files = VirtualFiles()
    (url,) = files.add([(str(path), identity(path), [0])])
    with pytest.raises(PermissionError):
        files.open(url, "wb")


def test_forgotten_plans_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "_MAX_FILES", 2)
    path = Path(write(tmp_path / "x.parquet", rows()))
    files = VirtualFiles()
    urls = [files.add([(str(path), identity(path), [0])])[0] for _ in range(3)]
    assert [files.exists(url) for url in urls] == [False, True, True]
    with pytest.raises(FileNotFoundError, match="run it again"):
        files.open(urls[0])


def test_the_same_file_is_another_virtual_file_in_each_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "is_settled", lambda *_: False)
    path = Path(write(tmp_path / "x.parquet", rows()))
    files = VirtualFiles()
    found: list[str] = []

    def add() -> None:
        found.extend(files.add([(str(path), identity(path), [0])])[0] for _ in range(50))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 200
