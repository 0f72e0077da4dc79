from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from skipml.errors import FooterError
from skipml.footers import read_footers
from skipml.parquet.thrift import BINARY, I32, I64, LIST, STRUCT
from tests.writers import Struct, edit_footer, write_duckdb, write_fastparquet, write_polars, write_pyarrow
from tests.zone_maps import duckdb_statistics, small_file

BROKEN = {
    "empty": b"",
    "garbage": b"PAR1" + bytes(range(256)) * 4 + b"PAR1",
    "no magic": b"hello world, this is text and no Parquet",
    "encrypted": b"PARE" + bytes(100) + (50).to_bytes(4, "little") + b"PARE",
    "footer longer than the file": b"PAR1" + bytes(20) + (2**31).to_bytes(4, "little") + b"PAR1",
    "empty footer": b"PAR1" + bytes(4) + b"PAR1",
}


@pytest.mark.parametrize("name", [*BROKEN, "a directory", "absent"])
def test_a_bad_file_is_recorded_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    write_duckdb(pa.table({"x": [1]}), good)
    if name in BROKEN:
        bad.write_bytes(BROKEN[name])
    elif name == "a directory":
        bad.mkdir()
    footers = read_footers([str(good), str(bad), str(good)], ["x"])
    assert [bool(error) for error in footers.errors] == [False, True, False]
    assert str(bad) in footers.errors[1]
    assert footers.file_index.tolist() == [0, 2]
    with pytest.raises(FooterError, match=r"bad\.parquet"):
        read_footers([str(good), str(bad)], ["x"], strict=True)


def test_encrypted_columns_under_a_plain_footer(tmp_path: Path) -> None:
    path = small_file(tmp_path)

    def hide(footer: Struct) -> None:
        chunk = footer[4][1][1][1][1][0]
        chunk.drop(3)
        key = Struct()
        key.put(1, LIST, (BINARY, [b"x"]))
        crypto = Struct()
        crypto.put(2, STRUCT, key)
        chunk.put(8, STRUCT, crypto)
        decoy = b"\x19\x18\x01x\x15\x00\x16\x04\x00\x00\x16\x08\x16\x04\x00"  # chunk and group
        chunk.put(9, BINARY, decoy)

    edit_footer(path, hide)
    footers = read_footers([str(path)], ["x"])
    assert "encrypted columns" in footers.errors[0]
    assert len(footers) == 0


@pytest.mark.parametrize("lie", [False, True])
def test_a_chunk_that_moved_to_another_row_group(tmp_path: Path, lie: bool) -> None:
    path = tmp_path / "file.parquet"
    write_pyarrow(pa.table({"x": [1, 2], "y": [3, 4]}), path, 1)

    def move(footer: Struct) -> None:
        first, second = (group[1][1] for group in footer[4][1])
        second.insert(0, first.pop())

    edit_footer(path, move)
    if lie:
        data = path.read_bytes()
        assert data.count(b"\x19\x1c\x26") == data.count(b"\x19\x3c\x26") == 1
        path.write_bytes(data.replace(b"\x19\x1c\x26", b"\x19\x2c\x26").replace(b"\x19\x3c\x26", b"\x19\x2c\x26"))
    assert "does not understand" in read_footers([str(path)], ["x"]).errors[0]


def test_two_row_groups_passed_off_as_one_of_two_columns(tmp_path: Path) -> None:
    path = small_file(tmp_path)

    def second_column(footer: Struct) -> None:
        schema = footer[2][1]
        schema[0].put(5, I32, 2)
        schema.append(schema[1])

    edit_footer(path, second_column)
    data = path.read_bytes()
    two_of_one, one_of_two = b"\x19\x2c\x19\x1c\x26", b"\x19\x1c\x19\x2c\x26"
    assert data.count(two_of_one) == 1
    path.write_bytes(data.replace(two_of_one, one_of_two))
    assert "does not understand" in read_footers([str(path)], ["x"]).errors[0]


@pytest.mark.parametrize("rows", [-1, -5, None])
def test_a_row_group_without_a_number_of_rows(tmp_path: Path, rows: int | None) -> None:
    path = small_file(tmp_path)

    def edit(footer: Struct) -> None:
        group = footer[4][1][1]
        group.drop(3)
        if rows is not None:
            group.put(3, I64, rows)

    edit_footer(path, edit)
    assert "does not understand" in read_footers([str(path)], ["x"]).errors[0]


@pytest.mark.parametrize("liar", [0, 1])
def test_a_row_group_that_lies_about_its_chunks(tmp_path: Path, liar: int) -> None:
    path = small_file(tmp_path)
    group = b"\x19\x1c\x26"  # the list of one chunk, and the chunk's first byte
    parts = path.read_bytes().split(group)
    assert len(parts) == 3
    groups = [b"\x19\x2c\x26" if i == liar else group for i in range(2)]
    path.write_bytes(parts[0] + groups[0] + parts[1] + groups[1] + parts[2])
    assert "does not understand" in read_footers([str(path)], ["x"]).errors[0]


def test_a_file_that_ends_anywhere_is_an_error(tmp_path: Path) -> None:
    whole, cut = small_file(tmp_path), tmp_path / "cut.parquet"
    data = whole.read_bytes()
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        assert read_footers([str(cut)], ["x"]).errors[0], f"cut to {length} of {len(data)} bytes"


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_never_crash_and_give_what_duckdb_reads(tmp_path: Path, seed: int) -> None:
    """Where DuckDB still understands the footer, we read the same statistics or none."""
    path = tmp_path / "file.parquet"
    write = [write_duckdb, write_pyarrow, write_polars, write_fastparquet][seed]
    write(pa.table({"a": ["text", None] * 2000, "x": range(4000), "y": [0.5] * 4000}), path)
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    generator = np.random.default_rng(seed)
    for trial in range(150):
        damaged = bytearray(data)
        for _ in range(trial % 3 + 1):
            damaged[len(data) - 8 - int(generator.integers(1, length + 1))] ^= 1 << int(generator.integers(8))
        path = tmp_path / f"{trial}.parquet"  # DuckDB 1.5 takes an equally old and large file for the same
        path.write_bytes(damaged)
        footers = read_footers([str(path)], ["x"])
        known = footers.columns["x"].known & ~footers.columns["x"].all_null
        expected = duckdb_statistics(path) if known.any() else None
        if expected is None or len(expected) != len(footers):
            continue
        stats = footers.columns["x"]
        for i in np.flatnonzero(known):
            n_rows, low, high, nulls = expected[i]
            assert footers.n_rows[i] == n_rows
            assert stats.null_count[i] in (-1, 0, nulls)
            if stats.sql_type == "BIGINT":
                assert low is not None
                assert high is not None
                assert stats.lower[i] == pytest.approx(float(low), rel=1e-15)
                assert stats.upper[i] == pytest.approx(float(high), rel=1e-15)


def test_random_bytes_behind_a_valid_trailer_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    generator = np.random.default_rng(0)
    for size in generator.integers(1, 400, 300).tolist():
        path.write_bytes(b"PAR1" + generator.bytes(size) + size.to_bytes(4, "little") + b"PAR1")
        assert read_footers([str(path)], ["x"]).errors[0]
