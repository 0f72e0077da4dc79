"""The heads, what they look for, and what was trained before them.

- logistic, topic: one of the most frequent topics, as lexicographers filed the definitions.
- logistic, word: whether the text has a word, as keywords label rows.
- linear: the logarithm of the length of the text, by ridge regression.
- perceptron: a topic, with hidden neurons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

import skipml
from benchmarks.embeddings.data import Matrix, Rows

SELECTIVITIES = (1e-3, 1e-2)
KINDS = ("logistic, topic", "logistic, word", "linear", "perceptron")
WORDS = ("plant", "music", "disease")
TOPICS, PERCEPTRONS, TRAINED_ON = 4, 2, 20_000
OVERLAPPING, OTHERS = "nine tenths of the rows", "other rows"
_HIDDEN, _EPOCHS, _BATCH = 32, 5, 512


@dataclass(frozen=True, eq=False)
class Head:
    """A model with the limits that a share of the rows passes, and linear ones of the same topic from before: from rows
    of which it has seen nine of ten, and from others.
    """

    kind: str
    model: skipml.Model
    scores: NDArray[np.float64]
    before: Mapping[str, skipml.Model] = field(default_factory=dict)

    def limit(self, selectivity: float) -> float:
        """What so many rows are above."""
        return float(np.sort(self.scores)[-max(1, round(selectivity * len(self.scores))) - 1])


def heads(rows: Rows) -> list[Head]:
    """Those of each kind, trained on some of the rows."""
    vectors, n = rows.vectors, len(rows.topics)
    number = np.random.default_rng(7).permutation(n)
    size = min(TRAINED_ON, n // 3)
    mine, others = number[:size], number[size : 2 * size]
    overlapping = np.concatenate([mine[: size * 9 // 10], others[: size - size * 9 // 10]])
    found: list[Head] = []

    def add(kind: str, model: skipml.Model, before: Mapping[str, skipml.Model] | None = None) -> None:
        scores = model.function.forward(vectors)[:, 0].astype(np.float64)
        found.append(Head(kind, model, scores, before or {}))

    for i, topic in enumerate(np.argsort(-np.bincount(rows.topics))[:TOPICS].tolist()):
        target = rows.topics == topic
        before = {OVERLAPPING: overlapping, OTHERS: others}
        models = {name: _logistic(vectors[chosen], target[chosen]) for name, chosen in before.items()}
        add(KINDS[0], _logistic(vectors[mine], target[mine]), models)
        if i < PERCEPTRONS:
            add(KINDS[3], _perceptron(vectors[mine], target[mine]))
    for word in WORDS:
        target = np.array([re.search(rf"\b{word}s?\b", text) is not None for text in rows.texts])
        add(KINDS[1], _logistic(vectors[mine], target[mine]))
    length = np.log([len(text) for text in rows.texts])
    add(KINDS[2], _layer(*_ridge(vectors[mine], length[mine])))
    return found


def _ridge(rows: Matrix, target: NDArray[np.float64]) -> tuple[Any, Any]:
    fitted = Ridge().fit(rows, target)
    return np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)


def _logistic(rows: Matrix, target: NDArray[np.bool_]) -> skipml.Model:
    fitted = LogisticRegression(max_iter=100).fit(rows, target)
    return _layer(fitted.coef_, fitted.intercept_)


def _layer(weight: Any, bias: Any) -> skipml.Model:
    """A float32 layer; of logistic regressions the logit."""
    layer = torch.nn.Linear(weight.shape[1], 1)
    with torch.no_grad():
        layer.weight[:] = torch.from_numpy(weight.astype(np.float32))
        layer.bias[:] = torch.from_numpy(bias.astype(np.float32))
    return skipml.Model.from_torch(layer, columns=["embedding"])


def _perceptron(rows: Matrix, target: NDArray[np.bool_]) -> skipml.Model:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(rows.shape[1], _HIDDEN), torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, 1))
    adam = torch.optim.Adam(net.parameters(), 0.003)
    x, y = torch.from_numpy(np.array(rows)), torch.from_numpy(target.astype(np.float32))
    for _ in range(_EPOCHS):
        order = torch.randperm(len(x))
        for start in range(0, len(x), _BATCH):
            chosen = order[start : start + _BATCH]
            adam.zero_grad()
            loss: Any = torch.nn.functional.binary_cross_entropy_with_logits(net(x[chosen])[:, 0], y[chosen])
            loss.backward()
            adam.step()
    return skipml.Model.from_torch(net, columns=["embedding"])


def cosine(head: Head, other: skipml.Model) -> float:
    """Of the weights of two linear heads."""
    one, two = (model.function.first.weight.astype(np.float64)[0] for model in (head.model, other))  # type: ignore[attr-defined]
    return float(one @ two / np.sqrt((one @ one) * (two @ two)))
