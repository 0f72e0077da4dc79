from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC

from skipml.errors import ModelError, SchemaError
from skipml.heads import Head
from skipml.models import from_torch
from skipml.scores import Model
from skipml.vectors import common_dimension, vectors_of

RNG = np.random.default_rng(3)
MATRIX = RNG.normal(size=(300, 10))
TARGET = MATRIX @ RNG.normal(size=10) > 0


def fixed(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), rows.shape[1])


@pytest.mark.parametrize("shape", [(384, 1), (384, 3), (7, 1)])
def test_a_head_gives_what_torch_gives(shape: tuple[int, int]) -> None:
    module = torch.nn.Linear(*shape)
    rows = RNG.normal(size=(1000, shape[0])).astype(np.float32)
    model = Model.from_torch(module, columns=["e"])
    expected = module(torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(model.evaluate(pa.table({"e": fixed(rows)})), expected, rtol=1e-4, atol=1e-5)
    assert model.columns == ("e",)
    assert model.function.n_inputs == 1


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (LogisticRegression(), lambda m: m.predict_proba(MATRIX)[:, 1]),
        (make_pipeline(StandardScaler(), LogisticRegression()), lambda m: m.predict_proba(MATRIX)[:, 1]),
        (make_pipeline(MinMaxScaler(), LinearRegression()), lambda m: m.predict(MATRIX)),
        (LinearSVC(), lambda m: m.decision_function(MATRIX)),
        (MLPClassifier((8,), max_iter=2000, solver="lbfgs"), lambda m: m.predict_proba(MATRIX)[:, 1]),
    ],
)
def test_a_head_gives_what_scikit_learn_gives(estimator: Any, expected: Any) -> None:
    fitted = estimator.fit(MATRIX, TARGET)
    model = Model.from_sklearn(fitted, columns=["e"])
    found = model.evaluate(pa.table({"e": fixed(MATRIX)}))[:, 0]
    np.testing.assert_allclose(found, expected(fitted), rtol=1e-9, atol=1e-12)


def test_the_outputs_of_a_vector_do_not_depend_on_its_place() -> None:
    for widths in [(384, 1), (384, 32, 1), (5, 3)]:
        layers: list[torch.nn.Module] = []
        for a, b in pairwise(widths):
            layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
        head = Head.of(from_torch(torch.nn.Sequential(*layers[:-1])))
        rows = RNG.normal(size=(2500, widths[0])).astype(np.float32)
        whole, order = head.forward(rows), RNG.permutation(len(rows))
        np.testing.assert_array_equal(head.forward(rows[order]), whole[order])
        np.testing.assert_array_equal(np.concatenate([head.forward(rows[:1]), head.forward(rows[1:70])]), whole[:70])


def test_a_model_of_another_kind_is_refused() -> None:
    pca = make_pipeline(StandardScaler(), PCA(2), LogisticRegression()).fit(MATRIX, TARGET)
    with pytest.raises(ModelError):
        Model.from_sklearn(pca, columns=["e"])
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(2, max_depth=2).fit(MATRIX, TARGET)
    with pytest.raises(ModelError, match="single column of vectors is read by linear models"):
        Model.from_sklearn(forest, columns=["e"])


def test_two_columns_are_not_one_vector() -> None:
    with pytest.raises(ModelError, match="name one column per input"):
        Model.from_torch(torch.nn.Linear(3, 1), columns=["a", "b"])


KINDS = [pa.list_(pa.float32()), pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16())]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows_without_a_vector(kind: pa.DataType) -> None:
    rows = [[1.0, 2.0], None, [1.0], [], [1.0, None], [3.0, 4.0, 5.0], [np.nan, 1.0], [-0.5, 8.0]]
    values: list[Any] = rows
    if kind.value_type == pa.float16():
        values = [row if row is None else [v if v is None else np.float16(v) for v in row] for row in rows]
    column = pa.array(values, kind)
    expected = [True, False, False, False, False, False, True, True]
    for array in (column, pa.chunked_array([column[:3], column[3:3], column[3:]]), column[1:]):
        found, usable = vectors_of(array, 2, "e")
        assert usable.tolist() == expected[-len(array) :]
        np.testing.assert_array_equal(found[-1], [-0.5, 8.0])
        np.testing.assert_array_equal(found[~usable], 0.0)
        assert found.shape == (len(array), 2)


def test_vectors_of_one_length_with_null() -> None:
    column = pa.array([[1.0, 2.0], None, [3.0, None], [4.0, 5.0]], pa.list_(pa.float32(), 2))
    found, usable = vectors_of(column, 2, "e")
    assert usable.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(found, [[1, 2], [0, 0], [0, 0], [4, 5]])
    assert not vectors_of(column, 3, "e")[1].any()


def test_whole_vectors_are_not_copied() -> None:
    rows = RNG.normal(size=(100, 8)).astype(np.float32)
    column = fixed(rows)
    found, usable = vectors_of(column[10:], 8, "e")
    assert usable.all()
    np.testing.assert_array_equal(found, rows[10:])
    assert found.ctypes.data == column.flatten().buffers()[1].address + 10 * 8 * 4


def test_a_column_of_another_type_is_refused() -> None:
    with pytest.raises(SchemaError, match="column 'e' has type int64"):
        vectors_of(pa.array([1, 2]), 2, "e")
    model = Model.from_torch(torch.nn.Linear(2, 1), columns=["e"])
    with pytest.raises(SchemaError, match="reads vectors of 2 values"):
        model.evaluate(pa.table({"e": pa.array([[1], [2]], pa.list_(pa.int32()))}))


def test_a_row_without_a_vector_has_no_score() -> None:
    model = Model.from_torch(torch.nn.Linear(2, 1), columns=["E"])
    rows = pa.table({"e": pa.array([[1.0, 2.0], None, [1.0]], pa.list_(pa.float32()))})
    assert np.isnan(model.evaluate(rows)[:, 0]).tolist() == [False, True, True]
    assert (model > -1e9).matches(rows).tolist() == [True, False, False]
    assert (model <= 1e9).matches(rows).tolist() == [True, False, False]


def test_the_common_dimension() -> None:
    kind = pa.list_(pa.float32())
    assert common_dimension(pa.array([[1.0, 2.0], [], None, [1.0], [3.0, 4.0]], kind)) == 2
    assert common_dimension(pa.chunked_array([pa.array([None, []], kind)])) == 0
    assert common_dimension(pa.chunked_array([], kind)) == 0
