from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from skipml.metadata import loading
from skipml.metadata.loading import load
from skipml.metadata.storage import sidecar_path
from skipml.metadata.tie import insert, read_footer, split
from skipml.recent import Recent
from tests.metadata.stored import footer_start, loaded, put_in, refused, rewrite, wait, write
from tests.metadata.test_format import bits_of
from tests.writers import write_pyarrow


def _rewrite_with_the_same_footer(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def _swap(path: Path) -> None:
    other = path.with_name("other.parquet")
    write_pyarrow(pq.read_table(path).slice(1), other)
    write(other)
    os.replace(sidecar_path(other), sidecar_path(path))


@pytest.mark.parametrize("change", [rewrite, _rewrite_with_the_same_footer, Path.touch, _swap])
def test_a_sidecar_of_another_state_or_file_is_ignored(path: Path, change: Callable[[Path], None]) -> None:
    write(path)
    loaded(path)
    change(path)
    assert "another file or an older state" in refused(path)
    write(path)
    loaded(path)


def test_embedded_metadata_of_another_file_is_ignored(tmp_path: Path, path: Path) -> None:
    put_in(path)
    other = tmp_path / "other.parquet"
    write_pyarrow(pq.read_table(path).slice(1), other)
    base, value = read_footer(other)[1], split(read_footer(path)[1]).value
    assert value is not None
    footer = insert(base, value)
    data = other.read_bytes()[: footer_start(other)]
    other.write_bytes(data + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert "another file or an older state" in refused(other)


def test_damaged_sidecars_are_ignored(path: Path) -> None:
    write(path)
    sidecar = Path(sidecar_path(path))
    good = sidecar.read_bytes()
    later = bytearray(good)
    later[8] = 2
    for data, reason in [
        (b"", "damaged"),
        (good[:-1], "damaged"),
        (good + b"?", "damaged"),
        (b"PAR1", "no skipml metadata"),
        (bytes(later), "version 2"),
    ]:
        sidecar.write_bytes(data)
        assert reason in refused(path)
        assert str(sidecar) in refused(path)
    sidecar.unlink()
    os.mkfifo(sidecar)
    assert "no file" in refused(path)
    sidecar.unlink()
    sidecar.mkdir()
    assert "no file" in refused(path)


def test_every_byte_of_an_embedded_footer_counts(path: Path) -> None:
    metadata = put_in(path)
    good, start = path.read_bytes(), footer_start(path)
    value = split(read_footer(path)[1]).value
    assert value is not None
    inside = good.index(value)
    for at in range(start, len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        found = load(path)
        if found.metadata is not None:
            assert inside <= at < inside + len(value), at  # spare bits of base64
            assert bits_of(found.metadata) == bits_of(metadata)


def test_load_never_raises(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "text.parquet").write_text("no Parquet at all")
    (tmp_path / "directory.parquet").mkdir()
    names = ["pipe.parquet", "empty.parquet", "text.parquet", "directory.parquet", "missing.parquet", "nul\0.parquet"]
    for name in [*names, "text.parquet/below", "long" * 99]:
        for root in (None, tmp_path / "root", tmp_path / "text.parquet"):
            found = load(os.path.join(tmp_path, name), root)
            assert found.metadata is None
            assert found.reason


@pytest.mark.parametrize("place", ["sidecar", "footer", "nowhere"])
def test_results_are_remembered(path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "footer":
        put_in(path)
    if place == "sidecar":
        write(path)
    wait(monkeypatch)
    first = load(path)
    assert (first.metadata is None) == (place == "nowhere")
    calls: list[Any] = []
    with monkeypatch.context() as patch:
        status = os.stat

        def count(*args: Any) -> os.stat_result:
            calls.append(args)
            return status(*args)

        patch.setattr(os, "stat", count)
        patch.setattr(loading, "read_footer", None)
        assert load(path) is first
    assert len(calls) == 2
    metadata = write(path, turn="later")
    assert bits_of(loaded(path)) == bits_of(metadata)
    os.unlink(sidecar_path(path))
    assert (load(path).metadata is None) == (place != "footer")


def test_what_was_written_a_moment_ago_is_not_remembered(path: Path) -> None:
    os.utime(path, (1e9, 1e9))
    write(path)
    loaded(path)
    assert not loading._cache._entries


def test_the_memory_is_bounded(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path)
    wait(monkeypatch)
    monkeypatch.setattr(loading, "_cache", Recent(5000, lambda known: known.nbytes))
    for i in range(10):
        copy = tmp_path / f"{i}.parquet"
        shutil.copy(path, copy)
        write(copy)
        loaded(copy)
        loaded(tmp_path / "0.parquet")
    write(tmp_path / "9.parquet", turn="again")
    loaded(tmp_path / "9.parquet")
    cache = loading._cache
    assert 1 < len(cache._entries) < 10
    assert cache._held == sum(entry.nbytes for entry in cache._entries.values()) <= 5000
    with monkeypatch.context() as patch:
        patch.setattr(loading, "read_footer", None)
        for kept in ("0.parquet", "9.parquet"):
            assert load(tmp_path / kept).metadata is not None, "not the longest unused was dropped"
