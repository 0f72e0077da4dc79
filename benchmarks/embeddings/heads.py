"""The heads: logistic regressions and small perceptrons that find one topic, and what was trained before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import skipml
from benchmarks.embeddings.data import Labels, Matrix

SELECTIVITY, TOPICS, TRAINED_ON = 1e-3, 8, 20_000
_HIDDEN, _EPOCHS, _BATCH = 32, 5, 512


@dataclass(frozen=True, eq=False)
class Head:
    """A model of a topic with the limit that one row of a thousand passes, and linear ones of the same topic from
    before: from rows of which it has seen nine of ten, and from others.
    """

    name: str
    model: skipml.Model
    limit: float
    scores: NDArray[np.float64]
    before: dict[str, skipml.Model]


def heads(embeddings: Matrix, topics: Labels) -> list[Head]:
    """A logistic regression and a perceptron for each of the most frequent topics."""
    rng = np.random.default_rng(7)
    number = rng.permutation(len(topics))
    size = min(TRAINED_ON, len(topics) // 3)
    mine, others = number[:size], number[size : 2 * size]
    overlapping = np.concatenate([mine[: size * 9 // 10], others[: size - size * 9 // 10]])
    found = []
    for topic in np.argsort(-np.bincount(topics))[:TOPICS].tolist():
        is_topic = topics == topic
        before = {
            "nine tenths of the rows": _logistic(embeddings[overlapping], is_topic[overlapping]),
            "other rows": _logistic(embeddings[others], is_topic[others]),
        }
        for name, model in (
            ("logistic", _logistic(embeddings[mine], is_topic[mine])),
            ("perceptron", _perceptron(embeddings[mine], is_topic[mine])),
        ):
            scores = model.function.forward(embeddings)[:, 0].astype(np.float64)
            limit = float(np.sort(scores)[-max(1, round(SELECTIVITY * len(scores))) - 1])
            found.append(Head(f"{name}, topic {topic}", model, limit, scores, before))
    return found


def _logistic(rows: Matrix, target: NDArray[np.bool_]) -> skipml.Model:
    """As a float32 layer: the logit."""
    fitted = LogisticRegression(max_iter=300).fit(rows, target)
    layer = torch.nn.Linear(rows.shape[1], 1)
    with torch.no_grad():
        layer.weight[:] = torch.from_numpy(fitted.coef_.astype(np.float32))
        layer.bias[:] = torch.from_numpy(fitted.intercept_.astype(np.float32))
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


def cosine(head: Head, other: skipml.Model) -> float | None:
    """Of the weights of two linear heads."""
    one, two = (model.function.first.weight.astype(np.float64) for model in (head.model, other))  # type: ignore[attr-defined]
    return float(one[0] @ two[0] / np.sqrt((one[0] @ one[0]) * (two[0] @ two[0]))) if len(one) == 1 else None
