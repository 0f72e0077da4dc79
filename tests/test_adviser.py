"""The adviser's estimates are what enriching and planning give, and its choices fit the table and the budget."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import skipml
from skipml.adviser import Recommendation, choose_pairs
from skipml.bounds.memory import SHARED
from skipml.gains import Choice, Search, Space
from skipml.network import Affine, LeakyRelu, Network
from skipml.probes import SELECTIVITIES, filters_of
from skipml.samples import Sample, read_sample
from tests.oracle import linear, model
from tests.soundness.lakes import Lake, lakes

pytestmark = pytest.mark.usefixtures("patient")
Floats = NDArray[np.float64]

GROUP = 1000


def write(path: Path, columns: dict[str, Floats]) -> str:
    pq.write_table(pa.table(columns), path, row_group_size=GROUP)
    return str(path)


def independent(path: Path, d: int = 3, groups: int = 8) -> str:
    rng = np.random.default_rng(0)
    return write(path, {name: rng.random(groups * GROUP) for name in "abcdefgh"[:d]})


def correlated(path: Path, groups: int = 8) -> str:
    """`b` follows `a`, `c` follows nothing."""
    rng = np.random.default_rng(1)
    a, noise, c = rng.random((3, groups * GROUP))
    return write(path, {"a": a, "b": a + 0.1 * noise, "c": c})


def clustered(path: Path, groups: int = 8) -> str:
    """Rows near four corners of a cube no two of which share a side: every pair of columns fills its square."""
    rng = np.random.default_rng(2)
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    rows = corners[rng.integers(0, 4, groups * GROUP)] + 0.05 * rng.random((groups * GROUP, 3))
    return write(path, dict(zip("abc", rows.T, strict=True)))


def drifting(path: Path, groups: int = 8) -> str:
    """`a` rises from the first row of a row group to the last, and `b` goes up and down with it."""
    rng = np.random.default_rng(3)
    a = np.tile(np.linspace(0, 1, GROUP), groups)
    return write(path, {"a": a, "b": np.sin(12 * a) + 0.1 * rng.random(len(a))})


def network(d: int, seed: int = 0, outputs: int = 1) -> skipml.Model:
    rng = np.random.default_rng(seed)
    ops = (
        Affine(rng.normal(size=(6, d)), rng.normal(size=6)),
        LeakyRelu(0.0),
        Affine(rng.normal(size=(outputs, 6)), np.zeros(outputs)),
    )
    return model(Network(d, outputs, np.dtype(np.float64), ops))


def reality(path: str, sample: Sample, models: Sequence[skipml.Model], **settings: Any) -> float:
    """The share that is skipped after enriching, of the skippable pairs of a row group and a filter of the adviser."""
    skipml.enrich(path, **settings)
    skipped = skippable = 0
    for found in filters_of(models, sample):
        SHARED.forget()  # the adviser prunes without knowing what other filters found out
        decisions = skipml.plan(path, found.predicate).decisions
        skipped += int((decisions[found.skippable] == skipml.SKIP).sum())
        skippable += int(found.skippable.sum())
    return skipped / skippable


def test_correlated_columns_get_a_hull(tmp_path: Path) -> None:
    path = correlated(tmp_path / "x.parquet")
    advice = skipml.recommend(path, bytes_per_row_group=13)
    assert advice.pairs == (("a", "b"),)
    assert advice.skipped > advice.base + 0.1
    skipml.enrich(path, advice.columns, **advice.settings)
    assert skipml.enrich(path, advice.columns, **advice.settings).files[0].state == "up to date"


def test_independent_columns_get_no_hull(tmp_path: Path) -> None:
    assert skipml.recommend(independent(tmp_path / "x.parquet"), bytes_per_row_group=45).pairs == ()


def test_clusters_get_boxes(tmp_path: Path) -> None:
    advice = skipml.recommend(clustered(tmp_path / "x.parquet"), bytes_per_row_group=100)
    assert advice.boxes >= 4
    assert advice.pairs == ()
    assert advice.steps[0].what == "4 boxes"


def test_rows_in_order_get_blocks(tmp_path: Path) -> None:
    path = drifting(tmp_path / "x.parquet")
    sample = read_sample([path], None, 8, GROUP)
    search = Search(sample, filters_of([network(2, 1)], sample), Space((), (), runs=(2, 4, 8)), 400)
    search.run(lambda share: None)
    assert search.choice in (Choice(runs=4), Choice(runs=8))
    advice = replace(skipml.recommend(path, bytes_per_row_group=0), block_rows=250)
    assert advice.settings["block_rows"] == 250
    assert "--block-rows 250" in str(advice)


@pytest.mark.parametrize("table", [independent, correlated, clustered])
def test_the_shares_are_those_of_enriching_and_planning(tmp_path: Path, table: Callable[[Path], str]) -> None:
    path, models = table(tmp_path / "x.parquet"), [network(3, seed) for seed in range(3)]
    sample = read_sample([path], ["a", "b", "c"], 8, GROUP)
    advice = skipml.recommend(path, models=models, bytes_per_row_group=31)
    assert advice.steps or table is independent
    assert not advice.score_maps
    assert reality(path, sample, models, pairs=[]) == pytest.approx(advice.base, abs=0.01)
    assert reality(path, sample, models, **advice.settings) == pytest.approx(advice.skipped, abs=0.01)


def test_a_sample_of_the_rows_gives_nearly_the_same(tmp_path: Path) -> None:
    path, models = correlated(tmp_path / "x.parquet", groups=24), [network(3, seed) for seed in range(3)]
    whole = read_sample([path], ["a", "b", "c"], 24, GROUP)
    advice = skipml.recommend(path, models=models, bytes_per_row_group=31, rows_per_row_group=400)
    assert reality(path, whole, models, pairs=[]) == pytest.approx(advice.base, abs=0.15)
    assert reality(path, whole, models, **advice.settings) == pytest.approx(advice.skipped, abs=0.15)


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(n_bytes=st.integers(0, 80), seed=st.integers(0, 3))
def test_the_budget_is_kept(tmp_path_factory: pytest.TempPathFactory, n_bytes: int, seed: int) -> None:
    path = correlated(tmp_path_factory.mktemp("adviser") / "x.parquet", groups=4)
    advice = skipml.recommend(path, models=[network(3, seed)], bytes_per_row_group=n_bytes, row_group_sample=3)
    assert advice.n_bytes == advice.choice.n_bytes(3, 1) <= n_bytes
    assert all(step.gain >= 0.005 and step.gain_per_byte == step.gain / step.n_bytes for step in advice.steps)
    shares = [advice.base, *(step.after for step in advice.steps)]
    assert shares == sorted(shares)
    assert [step.before for step in advice.steps] == shares[:-1]


def test_score_maps_of_models_leave_nothing_to_skip(tmp_path: Path) -> None:
    path, models = clustered(tmp_path / "x.parquet"), [network(3, 5, outputs=2)]
    advice = skipml.recommend(path, models=models)
    assert advice.score_maps
    assert advice.skipped == 1
    assert advice.settings["models"] == models
    assert "models=models" in str(advice)
    assert not advice.probes


def test_models_name_columns_in_any_case(tmp_path: Path) -> None:
    path = correlated(tmp_path / "x.parquet")
    upper = skipml.Model(network(2).function, ("B", "A"))
    assert skipml.recommend(path, models=[upper], bytes_per_row_group=8).columns == ("b", "a")
    assert skipml.recommend(path, ["a", "B", "c"], models=[upper], bytes_per_row_group=8).columns == ("a", "b", "c")


def test_the_advice_is_the_same_each_time(tmp_path: Path) -> None:
    path = correlated(tmp_path / "x.parquet")
    first, second = (skipml.recommend(path, bytes_per_row_group=24, row_group_sample=3) for _ in range(2))
    assert str(first) == str(second)
    assert first.to_dict() == second.to_dict()


def test_the_text_says_what_to_do(tmp_path: Path) -> None:
    path = correlated(tmp_path / "x.parquet")
    advice = skipml.recommend(path, bytes_per_row_group=13)
    text = str(advice)
    assert re.search(r"hull of a, b \(\d+ bytes\) .* chosen", text)
    assert f"{advice.steps[0].gain_per_byte:+.2%}  chosen" in text
    assert f"--columns a,b,c --pairs a:b --hull-bytes {advice.hull_bytes}" in text
    assert json.loads(json.dumps(advice.to_dict()))["pairs"] == [["a", "b"]]
    code = next(line for line in text.splitlines() if line.startswith("skipml.enrich("))
    report = eval(code, {"skipml": skipml})
    assert report.files[0].state == "enriched"


def test_nothing_helps_where_every_row_group_passes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"a": np.zeros(3 * GROUP), "b": np.zeros(3 * GROUP)})
    advice = skipml.recommend(path)
    assert (advice.skippable, advice.steps, advice.settings["pairs"]) == (0, (), [])
    assert "No metadata can help" in str(advice)


def test_progress_rises_to_one(tmp_path: Path) -> None:
    shares: list[float] = []
    skipml.recommend(correlated(tmp_path / "x.parquet"), bytes_per_row_group=24, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 2


def test_pairs_with_one_column_each_of_two_are_kept(tmp_path: Path) -> None:
    """A model of two columns sees only their own hull, whatever follows from the others."""
    rng = np.random.default_rng(0)
    a = rng.random(4000)
    rows = pa.table({"a": a, "b": a, "c": -a, "d": rng.random(4000)})
    sample = Sample(rows.schema.names, [rows.slice(0, 2000), rows.slice(2000)])
    pairs, gains = choose_pairs(sample)
    assert set(pairs) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert all(gain >= 0.005 for gain in gains)


def test_pairs_are_chosen_for_the_models_that_are_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 4000))
    rows = pa.table({"a": a, "b": b, "c": a, "d": b + 0.5 * rng.random(4000)})
    sample = Sample(rows.schema.names, [rows.slice(0, 2000), rows.slice(2000)])
    minus = skipml.Model(linear([[1.0, -0.5, 0.1]], [0.0]), ("b", "d", "a"))
    assert choose_pairs(sample, models=[minus])[0] == (("b", "d"),)


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(lakes())
def test_any_table_gets_advice(tmp_path_factory: pytest.TempPathFactory, lake: Lake) -> None:
    paths, _ = lake.write(tmp_path_factory.mktemp("lake"), np.random.default_rng(lake.seed))
    try:
        advice = skipml.recommend(paths, list(lake.columns)[:3], bytes_per_row_group=24, row_group_sample=3)
    except skipml.EnrichmentError as error:
        assert "no row" in str(error)  # noqa: PT017
        return
    assert isinstance(advice, Recommendation)
    assert 0 <= advice.base <= advice.skipped <= 1
    assert str(advice)
    skipml.enrich(paths, advice.columns, **advice.settings)


def test_the_filters_pass_what_they_say_and_leave_out_what_holds_none(tmp_path: Path) -> None:
    path = correlated(tmp_path / "x.parquet")
    sample = read_sample([path], None, 8, 300)
    found = filters_of([network(3)], sample)
    assert len(found) >= 4
    for test in found:
        passing = test.predicate.matches(pa.table(sample.values.T.tolist(), list(sample.columns)))
        assert passing.mean() <= SELECTIVITIES[0] * 1.01
        assert (np.bincount(sample.group[passing], minlength=8) == 0).tolist() == test.skippable.tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"columns": ["gone"]}, skipml.SchemaError, "gone"),
        ({"columns": ["t"]}, skipml.SchemaError, "cannot be a model input"),
        ({"columns": "ab"}, skipml.EnrichmentError, "list of names"),
        ({"bytes_per_row_group": -1}, skipml.EnrichmentError, "at least 0"),
        ({"row_group_sample": 0}, skipml.EnrichmentError, "at least 1"),
        (
            {"columns": ["a"], "models": [model(linear([[1, 1]], [0]))]},
            skipml.SchemaError,
            "model reads the column 'b'",
        ),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": [1.0, 2.0], "t": ["x", "y"]}), tmp_path / "x.parquet")
    with pytest.raises(error, match=message):
        skipml.recommend(tmp_path / "x.parquet", **arguments)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(skipml.FooterError, match="no file matches"):
        skipml.recommend(tmp_path / "x.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(skipml.FooterError, match=r"bad\.parquet"):
        skipml.recommend(tmp_path / "bad.parquet")
    pq.write_table(pa.table({"a": pa.array([], pa.float64())}), tmp_path / "empty.parquet")
    with pytest.raises(skipml.EnrichmentError, match=r"empty\.parquet: there is no row"):
        skipml.recommend(tmp_path / "empty.parquet")
    data = bytearray(Path(independent(tmp_path / "x.parquet")).read_bytes())
    data[4:60_000] = bytes(60_000 - 4)
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(skipml.EnrichmentError, match=r"x\.parquet, row group 0"):
        skipml.recommend(tmp_path / "x.parquet")


def test_a_file_without_model_inputs_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": ["x", "y"]}), tmp_path / "x.parquet")
    with pytest.raises(skipml.SchemaError, match=r"x\.parquet: no column can be a model input"):
        skipml.recommend(tmp_path / "x.parquet")
