from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import duckdb
import pytest

from skipml.errors import FooterError
from skipml.identity import expand, identity, is_settled, private_connection

NAMES = ["b.parquet", "a.parquet", "a1.parquet", "A.parquet", "é.parquet", "sp ace.parquet", ".hidden.parquet"]
NAMES += ["x/c.parquet", "x/y/d.parquet", "q[1].parquet", "k=1/e.parquet", "it's.parquet", "other.txt"]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for file in tmp_path.rglob("*.parquet"):
        duckdb.execute(f"COPY (SELECT 1 v) TO '{str(file).replace(chr(39), chr(39) * 2)}' (FORMAT parquet)")
    return tmp_path


@pytest.mark.parametrize(
    "pattern", ["*.parquet", "**/*.parquet", "*/*.parquet", "[ab]*.parquet", "?.parquet", "x", "."]
)
def test_globs_match_what_duckdb_reads_in_its_order(lake: Path, pattern: str) -> None:
    paths = duckdb.execute(
        "SELECT filename FROM read_parquet($glob, filename = true, hive_partitioning = false) ORDER BY file_index",
        {"glob": str(lake / pattern)},
    ).fetchall()
    assert list(expand(lake / pattern)) == [path for (path,) in paths]


def test_lists_keep_their_order(lake: Path) -> None:
    files = [str(lake / "b.parquet"), str(lake / "a.parquet"), str(lake / "b.parquet")]
    assert expand(files) == tuple(files)
    assert expand([lake / "x/**/*.parquet", files[0]]) == (*expand(str(lake / "x" / "**" / "*.parquet")), files[0])


@pytest.mark.parametrize("name", ["q[1].parquet", "it's.parquet", "sp ace.parquet"])
def test_a_file_is_taken_by_its_name(lake: Path, name: str) -> None:
    assert expand(lake / name) == (str(lake / name),)


@pytest.mark.parametrize("pattern", ["nothing*.parquet", "absent.parquet", "x/absent/*.parquet"])
def test_a_pattern_without_files_is_named(lake: Path, pattern: str) -> None:
    with pytest.raises(FooterError) as raised:
        expand([lake / "a.parquet", lake / pattern])
    assert str(lake / pattern) in str(raised.value)


def test_an_empty_list(lake: Path) -> None:
    with pytest.raises(FooterError, match="list of paths is empty"):
        expand([])


def test_identity_tells_states_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12")
    before = identity(path)
    assert (before, before.size) == (identity(path), 2)
    with path.open("rb") as file:
        assert identity(file.fileno()) == before
    os.utime(path, ns=(0, before.mtime_ns + 1))
    assert identity(path) != before
    (tmp_path / "other").write_bytes(b"34")
    os.utime(tmp_path / "other", ns=(0, before.mtime_ns))
    os.replace(tmp_path / "other", path)
    assert identity(path) != before, "another file of the same size and time"
    with pytest.raises(OSError, match="absent"):
        identity(tmp_path / "absent")


def test_a_file_is_as_young_as_its_last_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the rest of the suite ages files
    path = tmp_path / "file"
    path.write_bytes(b"12")
    os.utime(path, ns=(0, 1))
    assert not is_settled(identity(path).written_ns, time.time_ns()), "as cp -p leaves it"


def test_each_thread_has_its_own_connection() -> None:
    found = [private_connection()]
    thread = threading.Thread(target=lambda: found.append(private_connection()))
    thread.start()
    thread.join()
    assert found[0] is private_connection()
    assert found[0] is not found[1]
    setting = found[0].execute("SELECT current_setting('autoload_known_extensions')").fetchall()
    assert setting == [(False,)]
