"""The benchmark of the first rows by score, on a small table: every way gives the same rows, and the figures add up."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.topk import __main__ as topk
from benchmarks.topk.measure import Measured, Question
from benchmarks.topk.output import BEGIN, END, plot, print_measured, update_readme, write_json
from benchmarks.tpc.suite import ModelSpec, Suite, TableSpec
from tests.small_tables import use_small_tables, write

_SUITE = Suite(
    name="small",
    folder=Path("small"),
    tables=(TableSpec("lines", ("id",), "price"),),
    representative="value",
    models=(ModelSpec("value", "lines", ("amount", "price"), "amount * price", (8, 8)),),
)
_QUESTIONS = (Question("DESC", 10, ""), Question("ASC", 3, "l_shipmode = 'AIR'"))
_LINES = """
    SELECT i AS id, (hash(i + 1) % 50)::DECIMAL(7, 2) AS amount, (hash(i + 2) % 90_000 / 100)::DECIMAL(7, 2) AS price,
           CASE hash(i) % 7 WHEN 0 THEN 'AIR' ELSE 'RAIL' END AS l_shipmode FROM range(40_960) AS t(i) ORDER BY i"""


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Measured]:
    def cluster(source: Path, target: Path, by: object, **_: object) -> None:
        write(f"SELECT * FROM '{source}' ORDER BY amount * price", target)

    use_small_tables(monkeypatch, tmp_path, _LINES)
    monkeypatch.setattr("skipml.cluster", cluster)  # its row groups have 4,096 rows at least
    monkeypatch.setattr(topk, "QUESTIONS", _QUESTIONS)
    return topk.run(_SUITE, ("value",), 1, lambda: None)


def test_every_way_is_asked_and_its_figures_are_shown(measured: list[Measured], tmp_path: Path) -> None:
    assert len(measured) == 2 * len(_QUESTIONS)
    for one in measured:
        assert (one.rows, one.row_groups) == (40_960, 20)
        assert [s.metadata for s in one.skipping] == ["footers", "hulls", "score maps"]
        for skipping in one.skipping:
            assert 0 < skipping.read <= one.row_groups
            assert skipping.rows_scored == 2048 * (skipping.visited + skipping.read)
            assert len(skipping.on.seconds) == len(skipping.off.seconds) == len(skipping.planning) == 1
    first = next(m for m in measured if m.layout == "clustered" and m.question.k == 10)
    assert any(s.visited and s.read <= 2 for s in first.skipping)
    text = io.StringIO()
    print_measured(Console(file=text, width=160), measured)
    assert "value, lineitem clustered: 40,960 rows in 20 row groups" in text.getvalue()
    write_json(tmp_path / "topk.json", {"scorer": "native"}, measured)
    assert len(json.loads((tmp_path / "topk.json").read_text())["results"]) == len(measured)
    plot(tmp_path / "topk.png", measured)
    assert (tmp_path / "topk.png").stat().st_size > 10_000
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update_readme(readme, {"processor": "x", "cores": 2, "load_average": 0.1, "duckdb": "2"}, measured)
    assert readme.read_text().startswith(f"before\n{BEGIN}\n| lineitem SF1 | first rows |")
