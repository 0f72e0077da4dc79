"""Files that change or are damaged: the new state, a clear error, or the error DuckDB gives without skipml."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

import skipml
from skipml.engines import routes
from tests.engines.conftest import rows, write
from tests.oracle import ask, identity, model, rows_of

_HIGH = "SELECT id FROM '{}' WHERE minus(a, b) > 370"


def _damaged(good: bytes) -> Mapping[str, bytes]:
    return {
        "empty": b"",
        "magic only": b"PAR1",
        "two magics": b"PAR1PAR1",
        "garbage": bytes(range(256)) * 12,
        "garbage between magics": b"PAR1" + bytes(range(256)) + b"\x10\0\0\0PAR1",
        "a footer longer than the file": b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1",
        "cut off": good[:-1],
        "cut in half": good[: len(good) // 2],
        "no footer": good[:200],
        "a hole in the footer": good[:-300] + bytes(100) + good[-200:],
        "another footer length": good[:-8] + b"\x01\x02\0\0PAR1",
        "encrypted": good[:-4] + b"PARE",
    }


@pytest.mark.parametrize("name", _damaged(b""))
@pytest.mark.parametrize("pattern", ["*.parquet", "bad.parquet"])
def test_a_damaged_file_gives_the_error_of_duckdb(
    con: skipml.Connection, tmp_path: Path, name: str, pattern: str
) -> None:
    good = Path(write(tmp_path / "good.parquet", rows()))
    (tmp_path / "bad.parquet").write_bytes(_damaged(good.read_bytes())[name])
    answers = ask(con, _HIGH.format(tmp_path / pattern))
    assert answers.skipping == answers.plain


def test_damage_in_a_row_group_that_is_skipped_is_not_seen(con: skipml.Connection, tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.parquet", rows()))
    good = path.read_bytes()
    path.write_bytes(b"PAR1" + bytes(400) + good[404:])
    answers = ask(con, _HIGH.format(path))
    assert "Error" in answers.plain[0]
    assert answers.skipping == ["(386,)", "(387,)", "(388,)"]


@pytest.mark.parametrize("name", ["empty", "garbage", "cut off", "encrypted"])
def test_a_plan_names_the_damaged_file(tmp_path: Path, name: str) -> None:
    good = Path(write(tmp_path / "good.parquet", rows()))
    (tmp_path / "bad.parquet").write_bytes(_damaged(good.read_bytes())[name])
    plan = skipml.plan(tmp_path / "*.parquet", model(identity()) > 370)
    assert len(plan.decisions) == 8, "the good file is planned"
    with pytest.raises(skipml.FooterError, match=r"bad\.parquet"):
        plan.scan()


def test_a_pattern_without_files_is_named() -> None:
    with pytest.raises(skipml.FooterError, match="nowhere"):
        skipml.plan("nowhere/*.parquet", model(identity()) > 370)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", rows().drop_columns(["a"]))
    plan = skipml.plan(path, model(identity()) > 370)
    assert set(plan.decisions.tolist()) == {skipml.EVALUATE}
    with pytest.raises(skipml.SchemaError, match="'a'"):
        plan.scan().read_all()


def test_a_column_of_text_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", pa.table({"a": ["1", "2"]}))
    with pytest.raises(skipml.SchemaError, match="'a'"):
        skipml.plan(path, model(identity()) > 370).scan().read_all()


def _change(path: Path, how: str) -> None:
    if how == "rewritten":
        write(path, rows().slice(0, 100))
    elif how == "replaced by its equal":
        shutil.copy(path, path.with_suffix(".copy"))
        path.with_suffix(".copy").replace(path)
    elif how == "touched":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()


_CHANGES = ["rewritten", "replaced by its equal", "touched", "removed"]


@pytest.mark.parametrize("how", _CHANGES)
def test_a_file_that_changes_between_plan_and_scan_fails_the_scan(tmp_path: Path, how: str) -> None:
    path = Path(write(tmp_path / "x.parquet", rows()))
    plan = skipml.plan(path, model(identity()) > 370)
    _change(path, how)
    with pytest.raises((skipml.FileChangedError, FileNotFoundError) if how == "removed" else skipml.FileChangedError):
        plan.scan().read_all()


def test_a_file_that_changes_during_a_scan_fails_the_scan(tmp_path: Path) -> None:
    paths = [Path(write(tmp_path / f"{i}.parquet", rows(400 * i))) for i in range(2)]
    reader = skipml.plan(paths, model(identity()) > 370).scan()
    first = reader.read_next_batch()
    assert first["id"].to_pylist()[0] == 371
    _change(paths[1], "rewritten")
    with pytest.raises(skipml.FileChangedError, match=r"1\.parquet"):
        reader.read_all()


@pytest.mark.parametrize("how", _CHANGES)
@pytest.mark.parametrize("pattern", ["x0.parquet", "*.parquet"])
def test_a_file_that_changes_between_plan_and_query_fails_the_query(
    con: skipml.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, pattern: str
) -> None:
    paths = [Path(write(tmp_path / f"x{i}.parquet", rows(400 * i))) for i in range(2)]
    real = routes.choose

    def choose(*given: object) -> object:
        route = real(*given)  # type: ignore[arg-type]
        _change(paths[0], how)
        return route

    monkeypatch.setattr(routes, "choose", choose)
    with pytest.raises(skipml.FileChangedError, match=r"x0\.parquet"):
        con.cursor().execute(_HIGH.format(tmp_path / pattern)).fetchall()


def test_the_next_query_sees_the_new_file(con: skipml.Connection, tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.parquet", rows()))
    os.utime(path, ns=(10**18, 10**18))  # old enough to be remembered
    sql = f"SELECT id FROM '{path}' WHERE minus(a, 0) > 370"
    assert len(rows_of(con, sql)) == 29
    write(path, rows(1000))
    assert len(rows_of(con, sql)) == 400


@pytest.mark.parametrize("name", ["we[ir]d", "st*r", "q'uote", "a b", "x.y", "ünï", "a#b", "50%", "k=v", "semi;colon"])
@pytest.mark.parametrize("n_files", [1, 2])
def test_file_names_may_be_odd(con: skipml.Connection, tmp_path: Path, name: str, n_files: int) -> None:
    paths = [write(tmp_path / name / f"{name}{i}.parquet", rows(400 * i)) for i in range(n_files)]
    listed = ", ".join("'" + glob.escape(path).replace("'", "''") + "'" for path in paths)
    answers = ask(con, f"SELECT id FROM read_parquet([{listed}]) WHERE minus(a, b) > 370")
    assert answers.plain
    assert answers.skipping == answers.plain
    assert answers.skipped == 7


def test_relative_paths_are_relative_to_the_working_directory(
    con: skipml.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        write(tmp_path / f"x{i}.parquet", rows(400 * i))
    monkeypatch.chdir(tmp_path)
    for pattern in ("x0.parquet", "./x0.parquet", "x*.parquet", f"../{tmp_path.name}/x*.parquet"):
        answers = ask(con, f"SELECT id FROM '{pattern}' WHERE minus(a, b) > 370")
        assert answers.plain
        assert answers.skipping == answers.plain
        assert answers.skipped == 7


def test_links_lead_to_the_file(con: skipml.Connection, tmp_path: Path) -> None:
    path = write(tmp_path / "real" / "x.parquet", rows())
    (tmp_path / "link.parquet").symlink_to(path)
    answers = ask(con, _HIGH.format(tmp_path / "link.parquet"))
    assert answers.skipped == 7
    assert answers.skipping == answers.plain
