from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import skipml
from skipml.footers import read_footers
from skipml.metadata.refine import ColumnBoxes, refine
from skipml.regions import PairHull, Regions, _divided, from_footers, from_refined
from tests.writers import write_pyarrow


def test_from_footers(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    columns = {"i": [1, 5, None, 7, None, None], "f": [0.5, 1.5, 2.5, 2.5, -1.0, -2.0], "t": ["a"] * 6}
    write_pyarrow(pa.table(columns), path, 2)
    footers = read_footers([str(path)], ["i", "f", "t", "gone"])
    regions = from_footers(footers, ["f", "i", "t", "gone", "i"])
    assert regions.columns == ("f", "i", "t", "gone", "i")
    assert len(regions) == 3
    assert regions.block.tolist() == [0, 1, 2]
    assert regions.n_rows.tolist() == [2, 2, 2]
    inf = np.inf
    assert regions.lower[:, :2].tolist() == [[0.5, 1], [2.5, 7], [-2, -inf]]
    assert regions.upper[:, :2].tolist() == [[1.5, 5], [2.5, 7], [-1, inf]]
    assert np.isneginf(regions.lower[:, 2:4]).all()
    assert regions.unknown.tolist() == [[False, False, True, True, False]] * 3
    assert regions.all_null.tolist() == [[False, block == 2, False, False, block == 2] for block in range(3)]
    assert regions.may_be_null.tolist() == [[False, block > 0, False, True, block > 0] for block in range(3)]
    assert regions.may_be_nan.tolist() == [[True, False, True, True, False]] * 3, "pyarrow counts no NaN"
    with pytest.raises(KeyError):
        from_footers(footers, ["other"])


def test_no_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    path.write_bytes(b"nothing")
    regions = from_footers(read_footers([str(path)], ["i"]), ["i"])
    assert len(regions) == 0
    assert regions.lower.shape == regions.unknown.shape == (0, 1)


def described() -> Regions:
    """Two blocks of three inputs, the first of two boxes, with a polygon of the outer inputs."""
    flag = np.array([[True, False, False], [False, True, False]])
    return Regions(
        columns=("a", "b", "c"),
        lower=np.arange(9.0).reshape(3, 3),
        upper=np.arange(9.0).reshape(3, 3) + 10,
        block=np.array([0, 0, 1]),
        n_rows=np.array([5, 7]),
        unknown=flag,
        all_null=flag[:, [1, 0, 2]],
        may_be_null=flag[:, [2, 0, 1]],
        may_be_nan=flag[:, [2, 1, 0]],
        hulls=(PairHull((0, 2), np.zeros((2, 2)), np.ones((2, 2)), np.ones((2, 1, 2)), np.array([[1.0], [2.0]])),),
        sources=("x", None, "z"),
    )


def test_a_projection_has_the_inputs_in_the_order_asked_for() -> None:
    regions = described()
    assert regions.project(("a", "b", "c")) is regions
    seen = regions.project(["c", "a", "c"])
    chosen = [2, 0, 2]
    assert seen.columns == ("c", "a", "c")
    assert seen.sources == ("z", "x", "z")
    for name in ("lower", "upper", "unknown", "all_null", "may_be_null", "may_be_nan"):
        assert (getattr(seen, name) == getattr(regions, name)[:, chosen]).all(), name
    assert (seen.block == regions.block).all()
    (hull,) = seen.hulls
    assert {seen.columns[i] for i in hull.inputs} == {"a", "c"}
    assert [seen.columns[i] for i in hull.inputs] == ["a", "c"]
    assert regions.project(["a", "b"]).hulls == ()
    assert replace(regions, sources=()).project(["c"]).sources == ()
    with pytest.raises(KeyError):
        regions.project(["a", "d"])


@pytest.mark.parametrize("chosen", [0, 1])
def test_some_of_the_blocks_keep_their_boxes(chosen: int) -> None:
    regions = described()
    mask = np.arange(2) == chosen
    taken = regions.take(mask)
    parts = regions.block == chosen
    assert len(taken) == 1
    assert taken.n_rows.tolist() == [[5, 7][chosen]]
    assert (taken.lower == regions.lower[parts]).all()
    assert (taken.upper == regions.upper[parts]).all()
    assert taken.block.tolist() == [0] * int(parts.sum())
    for name in ("unknown", "all_null", "may_be_null", "may_be_nan"):
        assert (getattr(taken, name) == getattr(regions, name)[mask]).all(), name
    assert taken.hulls[0].offset.tolist() == [[[1.0], [2.0]][chosen]]
    assert taken.sources == regions.sources


def test_blocks_on_both_sides_of_one_that_is_left_out_are_numbered_anew() -> None:
    no = np.zeros((3, 1), np.bool_)
    limits = np.arange(4.0)[:, None]
    whole = Regions(("a",), limits, limits + 1, np.array([0, 1, 2, 2]), np.array([5, 6, 7]), no, no, no, no)
    taken = whole.take(np.array([True, False, True]))
    assert taken.block.tolist() == [0, 1, 1]
    assert taken.lower.tolist() == [[0], [2], [3]]
    assert taken.n_rows.tolist() == [5, 7]


def test_metadata_of_a_column_that_is_no_input_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    values = [0.0, 0.1, 9.0, 9.1, 0.2, 9.2, 0.3, 9.3]
    write_pyarrow(pa.table({"a": values, "b": values, "c": values}), path, 4)
    skipml.enrich(path, ["a", "b"], pairs=[("a", "b")], boxes=2)
    everything = refine(read_footers([str(path)], ["a", "b", "c"]), None)
    for columns in (["a"], ["b"], ["b", "c"], ["a", "c"]):
        for refined in (refine(read_footers([str(path)], columns), None), everything):
            regions = from_refined(refined, columns)
            assert regions.hulls == ()
            assert len(regions.lower) == 4, "boxes of one input are of use"
    bare = from_refined(everything, ["c"])
    assert (bare.hulls, len(bare.lower), bare.coarser) == ((), 2, None), "boxes of none are not"
    both = from_refined(refine(read_footers([str(path)], ["b", "a"]), None), ["b", "a"])
    assert [hull.inputs for hull in both.hulls] == [(1, 0)]
    other = from_refined(refine(read_footers([str(path)], ["c"]), None), ["c"])
    assert other.hulls == ()
    assert len(other.lower) == len(other) == 2
    assert other.coarser is None or len(other.coarser) == 1


def test_limits_of_text_are_those_of_the_columns_that_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    write_pyarrow(pa.table({"a": [1.0, 2.0], "t": ["x", "y"]}), path, 2)
    regions = from_footers(read_footers([str(path)], ["a", "t"]), ["a", "t", "a"])
    assert list(regions.texts) == [1]


def test_boxes_cut_limits_down_and_those_that_contradict_them_say_nothing() -> None:
    no = np.zeros((3, 2), np.bool_)
    whole = Regions(("a", "b"), np.zeros((3, 2)), np.full((3, 2), 9.0), np.arange(3), np.full(3, 4), no, no, no, no)
    boxes = ColumnBoxes(
        ("b", "other"),
        np.array([[1.0, 0], [5, 0], [20, 0], [4, 0], [np.nan, 0]]),
        np.array([[2.0, 0], [5, 0], [30, 0], [4, 0], [np.nan, 0]]),
        np.array([0, 0, 1, 2, 2]),
    )
    found = _divided(whole, boxes, {"b": [1], "a": [0]})
    assert found.block.tolist() == [0, 0, 1, 2, 2]
    assert found.lower.tolist() == [[0, 1], [0, 5], [0, 0], [0, 4], [0, 0]]
    assert found.upper.tolist() == [[9, 2], [9, 5], [9, 9], [9, 4], [9, 9]]


def test_boxes_that_are_stored_divide_blocks(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    values = [0.0, 0.1, 9.0, 9.1, 0.2, 9.2, 0.3, 9.3]
    write_pyarrow(pa.table({"a": values, "b": values}), path, 4)
    skipml.enrich(path, ["a", "b"], pairs=[], boxes=2)
    refined = refine(read_footers([str(path)], ["a", "b"]), None)
    regions = from_refined(refined, ["a", "b"])
    assert regions.coarser is not None
    assert len(regions.coarser.lower) == len(regions) == 2
    assert len(regions.lower) == 4
    assert regions.parent is not None
    assert regions.parent.tolist() == [0, 1]
    assert (regions.upper - regions.lower < 1).all()
