"""Trees in the extension: the same bits as in Python and in the libraries, wherever a row stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

import skipml
from skipml.engines.kernels import Kernels
from skipml.library import NoExtensionError, find_extension
from skipml.models.native import to_bytes
from skipml.trees import Trees
from tests.forests import LINKS, Rng, edge_rows, ensembles, random_trees
from tests.models.fitted import KINDS, edges

_ALLOWED = {"allow_unsigned_extensions": "true"}


def _runs() -> bool:
    try:
        Kernels(find_extension())
    except NoExtensionError:
        return False
    return True


pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.skipif(not _runs(), reason="the extension is not built")]


@pytest.fixture
def con() -> Iterator[skipml.Connection]:
    with skipml.connect(config={"threads": 1, **_ALLOWED}) as connection:
        yield connection


def _equal(trees: Trees, found: np.ndarray, expected: np.ndarray) -> bool:
    """Bit for bit, but for how exp is rounded."""
    if trees.link.kind == "identity":
        return found.tobytes() == expected.tobytes()
    return np.allclose(found, expected, rtol=4 * float(np.finfo(trees.dtype).eps), atol=0, equal_nan=True)


@settings(max_examples=150)
@given(ensembles())
def test_rows_at_thresholds_and_with_nan_get_what_python_gives(case: tuple[Trees, Rng]) -> None:
    trees, rng = case
    rows = edge_rows(trees, rng, 60)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    loaded, columns = Kernels(find_extension()).load(trees), list(rows.T)
    found = loaded.forward_columns(columns)
    assert _equal(trees, found, trees.forward(rows))
    for start, size in ((0, 1), (1, 15), (7, 16), (20, 17), (43, 17)):
        part = loaded.forward_columns([column[start : start + size] for column in columns])
        assert part.tobytes() == found[start : start + size].tobytes()


@pytest.mark.parametrize(("n_inputs", "depth"), [(1, 5), (2, 7), (4, 9), (6, 10)])
def test_trees_of_every_size_lead_to_the_same_leaves(n_inputs: int, depth: int) -> None:
    """Sets of one to four words, of few and of more inputs, and trees that are too large or too shallow for sets."""
    rng = np.random.default_rng(depth)
    pool = [np.append(rng.normal(size=40 * i + 10), [0.0, np.inf, -np.inf]) for i in range(n_inputs)]
    for n_outputs in (1, 3):
        trees = random_trees(rng, pool, n_outputs, "identity", n_trees=9, depth=depth)
        rows = edge_rows(trees, rng, 300)
        rows[rng.random(rows.shape) < 0.1] = np.nan
        found = Kernels(find_extension()).load(trees).forward_columns(list(rows.T))
        assert _equal(trees, found, trees.forward(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_get_what_the_library_predicts(kind: str) -> None:
    kernels = Kernels(find_extension())
    for seed in range(2):
        rng = np.random.default_rng([seed, len(kind)])
        fit, name = KINDS[kind]
        fitted = fit(rng, name)
        rows = edges(fitted, rng)
        found = kernels.load(fitted.trees).forward_columns(list(rows.T))
        theirs = np.asarray(fitted.predict(rows), np.float64).reshape(len(rows), -1)
        theirs = theirs[:, 1:] if theirs.shape[1] == 2 else theirs
        assert np.abs(found - theirs).max() <= fitted.tolerance * np.abs(theirs).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_sql_gives_what_python_gives(con: skipml.Connection, tmp_path: Path, dtype: str, n_outputs: int) -> None:
    rng = np.random.default_rng(n_outputs)
    pool = [np.append(rng.normal(size=9), 0.0) for _ in range(3)]
    trees = random_trees(rng, pool, n_outputs, "identity", n_trees=9, depth=4)
    while trees.dtype != dtype or not trees.takes_nan:
        trees = random_trees(rng, pool, n_outputs, "identity", n_trees=9, depth=4)
    rows = edge_rows(trees, rng, 5000)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    null = rng.random(rows.shape) < 0.05
    path = tmp_path / "x.parquet"
    columns = {name: pa.array(rows[:, i], mask=null[:, i]) for i, name in enumerate("abc")}
    pq.write_table(pa.table({"id": range(5000), **columns}), path, row_group_size=500)
    con.register_model("m", skipml.Model(trees, ("a", "b", "c")))
    assert "native" in con.explain("SELECT 1").scorer
    found = con.execute(f"SELECT m(a, b, c) FROM '{path}' ORDER BY id").fetchnumpy()["m(a, b, c)"]
    plan = con.execute(f"EXPLAIN SELECT m(a, b, c) FROM '{path}'").fetchall()[0][1]
    assert "skipml_score" in plan
    whole = ~null.any(axis=1)
    expected = trees.forward(rows[whole])
    values = [found[i] for i in np.flatnonzero(whole)]
    assert np.array(values, trees.dtype).reshape(expected.shape).tobytes() == expected.tobytes()


def test_links_and_models_without_nan_are_in_the_file() -> None:
    rng = np.random.default_rng(3)
    pool = [np.append(rng.normal(size=9), 0.0)]
    for link in LINKS:
        trees = replace(random_trees(rng, pool, 3, link, n_trees=5, depth=3), takes_nan=False)
        found = Kernels(find_extension()).load(trees).forward_columns([np.array([0.0, np.nan, 1.0])])
        assert np.isnan(found).tolist() == [[False] * 3, [True] * 3, [False] * 3]
        assert _equal(trees, found, trees.forward(np.array([[0.0], [np.nan], [1.0]])))


def test_a_damaged_file_is_refused(con: skipml.Connection) -> None:
    rng = np.random.default_rng(4)
    content = to_bytes(random_trees(rng, [np.zeros(1)], 1, "identity", n_trees=2, depth=2))
    con.execute("CALL skipml_register('whole', ?)", [content])
    for damaged in (content[:-40], content[:100] + b"\xff" + content[101:]):
        with pytest.raises(duckdb.Error, match="damaged or cut off"):
            con.execute("CALL skipml_register('damaged', ?)", [damaged])
