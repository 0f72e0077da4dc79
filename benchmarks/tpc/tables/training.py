"""The networks of a suite's models, trained once on a sample of their tables and kept under .data/."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.tpc.data import DATA
from benchmarks.tpc.networks import Training, load, save, train
from benchmarks.tpc.suite import ModelSpec
from benchmarks.tpc.tables.layouts import Layout

_SAMPLED_ROWS = 200_000


def trained(spec: ModelSpec, table: Layout, seed: int) -> tuple[nn.Sequential, Path]:
    """The model's network, trained on a sample of the table, or read where it was trained before; and its file."""
    training = Training(seed=seed)
    key = f"{asdict(spec)} {training} {_SAMPLED_ROWS} {table.scale}"
    path = DATA / "tables" / f"{spec.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.onnx"
    if not path.exists():
        rows = table.read((*spec.columns, spec.target))
        rows = rows[~np.isnan(rows).any(axis=1)]
        chosen = np.random.default_rng(seed).permutation(len(rows))[:_SAMPLED_ROWS]
        widths = (len(spec.columns), *spec.hidden, spec.classes or 1)
        save(train(widths, rows[chosen, :-1], rows[chosen, -1], training), path)
    return load(path), path
