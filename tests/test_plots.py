"""What a picture of a row group shows, and what it says where it cannot show it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon, Rectangle
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save_model
from typer.testing import CliRunner

from skipml.cli import app
from skipml.enrich import enrich
from skipml.errors import FileChangedError, FooterError, PredicateError, SchemaError, SkipmlError
from skipml.features import model_inputs
from skipml.plots import plot_row_group, save
from skipml.scores import Model
from tests.oracle import linear

Floats = NDArray[np.float64]
N = 1000
NAN = float("nan")
BOX, HULL, BOXES = "#0072b2", "#d55e00", "#009e73"


def _table() -> pa.Table:
    """Three row groups: `b` apart from `a`, near it, and near it with NULL and NaN; `c` is 1 to 5; `text` is text."""
    rng = np.random.default_rng(0)
    a, noise = rng.random(3 * N), rng.random(3 * N)
    b = np.where(np.arange(3 * N) < N, noise, 0.9 * a + 0.1 * noise)
    b[-2], c = NAN, np.arange(3 * N) % 5 + 1.0
    columns = {"a": a, "b": pa.array(b, mask=np.arange(3 * N) == 3 * N - 1), "C": c, "text": ["x"] * (3 * N)}
    return pa.table({**columns, "day": pa.array(np.arange(3 * N, dtype=np.int32)).cast(pa.date32())})


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bare") / "t.parquet"
    pq.write_table(_table(), path, row_group_size=N)
    return path


@pytest.fixture(scope="module")
def enriched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("enriched") / "t.parquet"
    pq.write_table(_table(), path, row_group_size=N)
    enrich(path, ["a", "b", "C"], pairs=[("a", "b")], boxes=8)
    return path


def _model(weights: list[float], columns: list[str]) -> Model:
    return Model(linear([weights], [0.0]), tuple(columns))


def _axes(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def _title(figure: Figure) -> str:
    return _axes(figure).get_title()


def _labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def _patches(figure: Figure, colour: str) -> list[Patch]:
    return [patch for patch in _axes(figure).patches if to_hex(patch.get_edgecolor()) == colour]


def _points(figure: Figure) -> Floats:
    return np.asarray(_axes(figure).collections[0].get_offsets(), np.float64)


def _contours(figure: Figure) -> list[ContourSet]:
    return [artist for artist in _axes(figure).collections if isinstance(artist, ContourSet)]


def _corners(patch: Patch) -> Floats:
    if isinstance(patch, Rectangle):
        return np.array([patch.get_xy(), patch.get_corners()[2]], np.float64)
    assert isinstance(patch, Polygon)
    return np.asarray(patch.get_xy(), np.float64)[:-1]


def _inside(polygon: Floats, points: Floats) -> NDArray[np.bool_]:
    """Whether points are to the left of every edge of a counter-clockwise or clockwise polygon, but for rounding."""
    step = np.roll(polygon, -1, axis=0) - polygon
    x, y = polygon.T
    turn = np.sign(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    apart = points[:, None] - polygon
    return np.asarray((turn * (step[:, 0] * apart[..., 1] - step[:, 1] * apart[..., 0]) >= -1e-9).all(axis=1))


def _rows(path: Path, group: int, names: list[str]) -> Floats:
    table = pq.ParquetFile(path).read_row_group(group, columns=names)
    rows = np.stack([np.asarray(table[name].to_numpy(), np.float64) for name in names], axis=1)
    return rows[np.isfinite(rows).all(axis=1)]


@pytest.mark.parametrize("pair", [["a", "b"], ["b", "a"], ["B", "A"]])
def test_all_that_is_stored_is_drawn_around_the_rows(enriched: Path, pair: list[str]) -> None:
    figure = plot_row_group(enriched, pair, row_group=2)
    names = [name.lower() for name in pair]
    rows = _rows(enriched, 2, names)
    assert len(rows) == N - 2
    np.testing.assert_array_equal(_points(figure), rows)
    (box,) = map(_corners, _patches(figure, BOX))
    np.testing.assert_array_equal(box, [rows.min(axis=0), rows.max(axis=0)])
    (hull,) = map(_corners, _patches(figure, HULL))
    assert len(hull) > 4
    assert _inside(hull, rows).all()
    assert not _inside(hull, np.array([[rows[:, 0].min(), rows[:, 1].max()]])).any()
    assert (_axes(figure).get_xlabel(), _axes(figure).get_ylabel()) == tuple(names)
    assert "row group 2: 1,000 rows" in _title(figure)


def test_every_row_is_in_a_box(enriched: Path) -> None:
    figure = plot_row_group(enriched, ["a", "b"], row_group=1)
    boxes = np.array([_corners(patch) for patch in _patches(figure, BOXES)])
    rows = _rows(enriched, 1, ["a", "b"])
    assert len(boxes) == 8
    inside = (rows[:, None] >= boxes[:, 0]) & (rows[:, None] <= boxes[:, 1])
    assert np.any(np.all(inside, axis=2), axis=1).all()
    assert _labels(figure) == ["1,000 rows", "min-max box", "stored hull", "8 stored boxes"]


def test_the_row_group_whose_hull_cuts_most_off_is_chosen(enriched: Path) -> None:
    assert "row group 0" not in _title(plot_row_group(enriched, ["a", "b"]))
    assert "row group 0" in _title(plot_row_group(enriched, ["a", "C"]))


def test_without_metadata_there_is_a_box_and_a_word_about_it(bare: Path) -> None:
    figure = plot_row_group(bare, ["a", "b"])
    assert len(_patches(figure, BOX)) == len(_axes(figure).patches) == 1
    assert _labels(figure) == ["1,000 rows", "min-max box"]
    assert "no hull or boxes of this pair are stored" in _title(figure)


def test_metadata_of_another_state_of_the_file_is_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(_table(), path, row_group_size=N)
    enrich(path, ["a", "b"], pairs=[("a", "b")], boxes=2)
    pq.write_table(_table().slice(1), path, row_group_size=N)
    assert len(_axes(plot_row_group(path, ["a", "b"])).patches) == 1


def test_metadata_below_a_root_is_found(bare: Path, tmp_path: Path) -> None:
    enrich(bare, ["a", "b"], pairs=[("b", "a")], root=tmp_path)
    figure = plot_row_group(bare, ["a", "b"], root=tmp_path)
    (hull,) = map(_corners, _patches(figure, HULL))
    assert _inside(hull, _points(figure)).all()


@settings(max_examples=25, deadline=None)
@given(limit=st.floats(-1.2, 1.2), slope=st.sampled_from([-1.0, -0.5, 0.0, 2.0]))
def test_the_fill_is_where_the_score_passes(enriched: Path, limit: float, slope: float) -> None:
    scorer = _model([-1.0, slope], ["a", "b"])
    figure = plot_row_group(enriched, ["b", "a"], row_group=1, model=scorer, limit=limit)
    b, a = np.meshgrid(*(np.linspace(*side, 7) for side in (_axes(figure).get_xlim(), _axes(figure).get_ylim())))
    score = (slope * b - a).ravel()
    clear = np.abs(score - limit) > 0.02
    fills = [contours for contours in _contours(figure) if contours.filled]
    places = np.stack([b.ravel(), a.ravel()], axis=1)
    filled = np.zeros(len(places), np.bool_)
    for fill in fills:
        (path,) = fill.get_paths()
        filled |= path.contains_points(places, radius=1e-3) | path.contains_points(places, radius=-1e-3)
    np.testing.assert_array_equal(filled[clear], (score > limit)[clear])


def test_the_boundary_lies_where_the_score_is_the_limit(enriched: Path) -> None:
    scorer = _model([-1.0, 1.0, 0.1], ["A", "b", "c"])
    figure = plot_row_group(enriched, ["a", "b"], row_group=1, model=scorer, limit=0.5)
    (line,) = [contours for contours in _contours(figure) if not contours.filled]
    a, b = np.asarray(line.get_paths()[0].vertices).T
    np.testing.assert_allclose(b - a + 0.1 * 3, 0.5, atol=1e-5)
    assert _labels(figure)[-2:] == ["score > 0.5", "score = 0.5"]
    assert "boundary at the median of the rest: C = 3" in _title(figure)


def test_the_decisions_are_in_the_title(enriched: Path, bare: Path) -> None:
    scorer = _model([-1.0, 1.0], ["a", "b"])

    def title(path: Path, group: int, limit: float) -> str:
        return _title(plot_row_group(path, ["a", "b"], row_group=group, model=scorer, limit=limit))

    assert "score > 0.5: EVALUATE by min-max alone, SKIP with the metadata\nmin-max of a: no NaN count" in title(
        enriched, 1, 0.5
    )
    assert "score > 0.05: EVALUATE by min-max alone, EVALUATE with the metadata" in title(enriched, 1, 0.05)
    assert "EVALUATE by min-max alone, EVALUATE with the metadata" in title(bare, 1, 0.5)


def test_of_many_rows_a_sample_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    pq.write_table(pa.table({"a": np.arange(30_000), "b": np.arange(30_000) % 100}), path)
    figure = plot_row_group(path, ["a", "b"])
    assert len(np.unique(_points(figure)[:, 0])) == 20_000
    assert _labels(figure)[0] == "20,000 of 30,000 rows"


def test_a_date_is_in_seconds(bare: Path) -> None:
    axes = _axes(plot_row_group(bare, ["day", "a"], row_group=1))
    assert axes.get_xlabel() == "day (seconds)"
    assert axes.get_xlim()[0] < N * 86400 < (2 * N - 1) * 86400 < axes.get_xlim()[1]


def test_names_are_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "$^$.parquet"
    pq.write_table(pa.table({"$_$": [1.0, 2.0], "b": [1.0, 2.0]}), path)
    figure = plot_row_group(path, ["$_$", "b"])
    save(figure, tmp_path / "x.png")
    assert _axes(figure).get_xlabel() == "$_$"
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize("values", [[], [None, None], [NAN], [float("inf"), 1.0], [7.0, 7.0], [-1e300, 1e300]])
def test_odd_columns_are_drawn_too(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "odd.parquet"
    column = pa.array(values, pa.float64())
    pq.write_table(pa.table({"a": column, "b": column, "c": column}), path)
    enrich(path, pairs="all", boxes=2)
    scorer = _model([1.0, 1.0], ["a", "c"])
    save(plot_row_group(path, ["a", "b"], model=scorer, limit=0.0), tmp_path / "odd.png")
    assert (tmp_path / "odd.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("pair", "options", "error", "message"),
    [
        (["a", "gone"], {}, SchemaError, "t.parquet: column 'gone' is missing"),
        (["a", "text"], {}, SchemaError, "column 'text' has type string"),
        (["a", "A"], {}, SchemaError, "two different columns"),
        (["a"], {}, SchemaError, "two different columns"),
        (["a", "b"], {"row_group": 3}, FooterError, "has no row group 3 to draw: it has 3, counted from 0"),
        (["a", "b"], {"row_group": -1}, FooterError, "no row group -1"),
        (["a", "b"], {"limit": 0.5}, PredicateError, "both: a model and a limit"),
        (["a", "b"], {"model": _model([1.0], ["gone"]), "limit": 1.0}, SchemaError, "column 'gone'"),
        (["a", "b"], {"model": _model([1.0], ["a"]), "limit": NAN}, PredicateError, "NaN"),
    ],
)
def test_errors_say_what_and_where(
    bare: Path, pair: list[str], options: dict[str, Any], error: type[SkipmlError], message: str
) -> None:
    with pytest.raises(error, match=message):
        plot_row_group(bare, pair, **options)


def test_one_file_is_drawn(tmp_path: Path) -> None:
    for name in ("t", "u"):
        pq.write_table(_table(), tmp_path / f"{name}.parquet")
    with pytest.raises(FooterError, match="means 2; choose one"):
        plot_row_group(tmp_path, ["a", "b"])


def test_a_file_without_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    pq.ParquetWriter(path, pa.schema({"a": pa.float64(), "b": pa.float64()})).close()
    with pytest.raises(FooterError, match="has no row groups to draw"):
        plot_row_group(path, ["a", "b"])


def test_a_file_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(_table(), path)

    def rewrite(rows: pa.Table, names: list[str]) -> Any:
        if rows.num_rows:
            os.utime(path, ns=(0, 0))
        return model_inputs(rows, names)

    monkeypatch.setattr("skipml.plots.model_inputs", rewrite)
    with pytest.raises(FileChangedError, match="draw it again"):
        plot_row_group(path, ["a", "b"])


@pytest.mark.parametrize(("name", "message"), [("no/where.png", "No such file"), ("picture.xyz", "not supported")])
def test_a_picture_that_cannot_be_written(bare: Path, tmp_path: Path, name: str, message: str) -> None:
    figure = plot_row_group(bare, ["a", "b"])
    with pytest.raises(SkipmlError, match=f"{name} cannot be written: .*{message}"):
        save(figure, tmp_path / name)


def test_without_matplotlib_the_error_names_the_extra(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = CliRunner().invoke(app, ["inspect", str(bare), "--plot", "x.png", "--pair", "a,b"])
    assert result.exit_code == 1
    assert result.stderr == "error: a picture needs matplotlib: pip install 'skipml[plot]'\n"


def test_the_command_line_does_not_import_matplotlib() -> None:
    script = "import sys, skipml.cli; print('matplotlib' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed == "False\n"


def test_inspect_draws(enriched: Path, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.array([[-1.0, 1.0]], np.float32), "w")
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, n]) for name, n in (("x", 2), ("y", 1))]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], "gap", shape[:1], shape[1:], [weight]
    )
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "gap.onnx")
    target = tmp_path / "out.png"
    arguments = ["inspect", str(enriched), "--plot", str(target), "--pair", "a,b"]
    scorer = ["--model", str(tmp_path / "gap.onnx"), "--limit", "0.5"]
    for more in ([], ["--row-group", "1", *scorer], [*scorer, "--columns", "b,C"]):
        result = CliRunner().invoke(app, [*arguments, *more])
        assert (result.exit_code, result.stderr) == (0, "")
        assert "3 row groups" in result.stdout
        assert target.read_bytes().startswith(b"\x89PNG")
        target.unlink()
    failed = CliRunner().invoke(app, [*arguments, "--row-group", "3"])
    assert (failed.exit_code, failed.stdout, failed.stderr.count("\n")) == (1, "", 1)
    assert "has no row group 3" in failed.stderr
    assert not target.exists()


@pytest.mark.parametrize("arguments", [["--plot", "x.png"], ["--pair", "a,b"], ["--row-group", "0"]])
def test_options_of_the_picture_go_together(bare: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["inspect", str(bare), *arguments]).exit_code == 2
