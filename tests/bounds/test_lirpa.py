from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skipml
from skipml.bounds.branch import SKIP, Budget, branch_and_bound
from skipml.bounds.crown import crown
from skipml.bounds.lirpa import LirpaVerifier
from skipml.bounds.verifier import Verifier
from skipml.errors import ModelError
from skipml.network import LeakyRelu, Network
from tests.bounds.test_branch import Above, one_box_each
from tests.strategies import Boxes
from tests.test_network import mlp

VERIFIERS: tuple[Literal["crown", "auto_lirpa"], ...] = ("crown", "auto_lirpa")


@pytest.fixture
def installed() -> None:
    pytest.importorskip("torch")
    try:
        LirpaVerifier(mlp((1, 2, 1)))
    except ModelError as error:
        pytest.skip(str(error))


def some_boxes(d: int, n: int = 200) -> Boxes:
    rng = np.random.default_rng(0)
    centre, radius = rng.normal(size=(n, d)), rng.random((n, d))
    return Boxes(centre - radius, centre + radius)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("dims", [(3, 2), (2, 8, 1), (4, 16, 16, 1), (3, 9, 8, 7, 2)])
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
def test_both_verifiers_contain_the_scores_and_agree(dims: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    network = mlp(dims, dtype)
    box = some_boxes(dims[0])
    ours = Verifier(network).crown(box.lower, box.upper)
    theirs = LirpaVerifier(network).crown(box.lower, box.upper)
    points = box.points(np.random.default_rng(1), 200)
    scores = network.forward(points.reshape(-1, dims[0])).reshape(*points.shape[:2], -1)
    for bounds in (ours, theirs):
        assert (bounds.lower <= scores).all()
        assert (scores <= bounds.upper).all()
    our_gap, their_gap = ours.upper - ours.lower, theirs.upper - theirs.lower
    assert 0.7 < our_gap.sum() / their_gap.sum() < 1.4


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("dims", [(3, 2), (2, 8, 1), (4, 16, 16, 1), (8, 32, 32, 3)])
def test_without_intervals_ours_is_their_crown(dims: tuple[int, ...]) -> None:
    """Intervals cut our ranges, which mostly tightens bounds; with ranges from CROWN alone both must be the same."""
    network = mlp(dims, np.dtype(np.float64))
    box = some_boxes(dims[0])
    verifier = Verifier(network)
    trace = verifier._intervals.trace(box.lower, box.upper)
    uncut = tuple(replace(span, radius=np.full_like(span.radius, 1e300)) for span in trace.before)
    plain = crown(verifier._stages, replace(trace, before=uncut), box.lower, box.upper)
    theirs = LirpaVerifier(network).crown(box.lower, box.upper)
    np.testing.assert_allclose(plain.upper, theirs.upper, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(plain.lower, theirs.lower, rtol=1e-9, atol=1e-9)
    ours = verifier.crown(box.lower, box.upper)
    assert (ours.upper - ours.lower).sum() < (1 + 1e-9) * (theirs.upper - theirs.lower).sum()


@pytest.mark.usefixtures("installed")
def test_leaky_slopes_agree() -> None:
    relu = mlp((3, 8, 8, 1))
    network = Network(3, 1, relu.dtype, tuple(LeakyRelu(0.25) if isinstance(op, LeakyRelu) else op for op in relu.ops))
    box = some_boxes(3)
    theirs = LirpaVerifier(network).crown(box.lower, box.upper)
    points = box.points(np.random.default_rng(1), 200)
    scores = network.forward(points.reshape(-1, 3)).reshape(*points.shape[:2], -1)
    assert (theirs.lower <= scores).all()
    assert (scores <= theirs.upper).all()


@pytest.mark.usefixtures("installed")
def test_branch_and_bound_takes_either_verifier() -> None:
    network = mlp((2, 8, 8, 1))
    box = some_boxes(2, 60)
    limit = float(np.median(Verifier(network).crown(box.lower, box.upper).upper))
    parts = one_box_each(box.lower, box.upper)
    ours = branch_and_bound(Verifier(network), parts, Above(limit), Budget.unlimited()).decision
    theirs = branch_and_bound(LirpaVerifier(network), parts, Above(limit), Budget.unlimited()).decision
    np.testing.assert_array_equal(ours, theirs)
    assert (ours == SKIP).sum() > 20


@pytest.mark.usefixtures("installed")
def test_boxes_without_end_have_no_bounds() -> None:
    bounds = LirpaVerifier(mlp((1, 4, 1))).crown(np.array([[0.0], [-np.inf]]), np.array([[1.0], [np.inf]]))
    assert np.isfinite(bounds.upper[0]).all()
    assert bounds.upper[1, 0] == np.inf
    assert bounds.lower[1, 0] == -np.inf


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    with pytest.raises(ModelError, match=r"pip install --no-deps auto-lirpa==0\.3"):
        LirpaVerifier(mlp((1, 2, 1)))


@pytest.mark.usefixtures("installed")
def test_a_model_may_be_verified_by_auto_lirpa(tmp_path: Path) -> None:
    path = tmp_path / "ramp.parquet"
    table = pa.table({"a": np.arange(400), "b": np.arange(400) % 7})
    pq.write_table(table, path, row_group_size=50)
    network = mlp((2, 6, 1))
    limit = float(np.median(skipml.Model(network, ("a", "b")).evaluate(table)))
    ours, theirs = (
        skipml.plan(path, skipml.Model(network, ("a", "b"), verifier=name) > limit, budget=Budget.unlimited())
        for name in VERIFIERS
    )
    assert ours.result.error == theirs.result.error == ""
    assert ours.decisions.tolist() == theirs.decisions.tolist()
    assert SKIP in ours.decisions


def test_a_verifier_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ModelError, match="there is no verifier 'marabou'"):
        skipml.Model(mlp((1, 2, 1)), ("a",), verifier="marabou")  # type: ignore[arg-type]
