"""Trains the networks of the published protocol: 120 epochs of Adam on four fifths of 2,000 rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from benchmarks.tpc.data import DATA
from benchmarks.tpc.networks import Training, load, save, train
from benchmarks.tpc.published.blocks import Rows
from benchmarks.tpc.published.workload import HIDDEN, Function

_TRAINING = Training(epochs=120, batch_rows=512, learning_rate=0.01, folding=torch.float64)
_TRAIN_SHARE = 0.8


def trained(function: Function, depth: str, rows: Rows, seed: int) -> nn.Sequential:
    """The network, shallow or deep, trained on these rows, or read from .data/ where it was trained before."""
    key = hashlib.sha256(f"{function} {depth} {seed}".encode()).hexdigest()[:16]
    path = DATA / "published" / f"{function.name}-{depth}-{key}.onnx"
    if not path.exists():
        usable = np.flatnonzero(rows.usable)
        chosen = np.random.default_rng(seed).permutation(usable)[: round(_TRAIN_SHARE * len(usable))]
        # one function's labels count from 1: its last label becomes the one before it
        targets = np.minimum(rows.targets[chosen], function.classes - 1) if function.classes else rows.targets[chosen]
        widths = (len(function.features), *HIDDEN[depth], function.classes or 1)
        save(train(widths, rows.inputs[chosen], targets, replace(_TRAINING, seed=seed)), path)
    return load(path)
