"""The published end-to-end protocol: PyTorch in a DuckDB function scores what is left, verification and loading count.

One thread: PyTorch's functions hold Python's lock, and with two threads both sides take several times as long.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.torch_function import create_score
from benchmarks.tpc.published.blocks import read_rows
from benchmarks.tpc.published.filters import BINS, Filter
from benchmarks.tpc.published.measure import Network
from benchmarks.tpc.published.methods import METHODS, SCORING_SECONDS_PER_ROW, Method, stored
from benchmarks.tpc.published.training import trained
from skipml.bounds.budget import Budget
from skipml.bounds.memory import Memory
from skipml.decisions import SKIP, prune
from skipml.engines.virtual import VirtualFiles
from skipml.footers import read_footers
from skipml.identity import identity
from skipml.metadata.refine import refine
from skipml.regions import from_refined

BASELINE = "PyTorch"
NAMES = ("min-max", "hull 13 B", "hull 13 B, 44 boxes", "score map 32 B", "score map 256 B")
_FUNCTION = "published_model"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that the filters of a network took in all, of which for planning, and the share of blocks left."""

    suite: str
    function: str
    depth: str
    system: str
    n_filters: int
    seconds: float
    planning: float
    blocks_left: float


class _Run:
    """One way to answer a filter, with what it has taken."""

    def __init__(self, net: Network, connection: duckdb.DuckDBPyConnection, method: Method | None, root: Path) -> None:
        self._net, self._connection, self._method, self._root = net, connection, method, root
        # What is left is scored by PyTorch, so that this is what verification may save.
        self._memory = Memory()
        self._files = VirtualFiles()
        connection.register_filesystem(self._files)
        self._budget = Budget(SCORING_SECONDS_PER_ROW, share=_SHARE, memory=self._memory)
        self.name = BASELINE if method is None else method.name
        self.seconds = self.planning = 0.0
        self.left: list[float] = []

    def rows(self, f: Filter) -> list[tuple[Any, ...]]:
        """The qualifying rows, sorted; the time is added."""
        started = time.perf_counter()
        kept = None if self._method is None else self._left(f)
        self.planning += time.perf_counter() - started
        found: pa.Table = self._connection.execute(self._sql(f, kept)).to_arrow_table()
        self.seconds += time.perf_counter() - started
        self.left.append(1.0 if kept is None else len(kept) / len(f.matches))
        return sorted(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def warm_up(self, f: Filter) -> None:
        """Load code and files once; what is found out about scores is forgotten again."""
        self.rows(f)
        self.seconds = self.planning = 0.0
        self.left.clear()
        self._memory.forget()

    def _left(self, f: Filter) -> NDArray[np.int64]:
        """The row groups that are left."""
        columns = self._net.model.columns
        seen = from_refined(refine(read_footers([str(self._net.path)], columns), self._root), columns)
        return np.flatnonzero(prune(self._net.predicate(f), seen, self._budget).decision != SKIP)

    def _sql(self, f: Filter, kept: NDArray[np.int64] | None) -> str:
        columns = ", ".join(self._net.model.columns)
        inputs = ", ".join(f"{name}::FLOAT" for name in self._net.model.columns)
        path = str(self._net.path)
        if kept is not None and len(kept) < len(f.matches):
            (path,) = self._files.add([(path, identity(path), kept.tolist())])
        condition = f"{_FUNCTION}({inputs}) BETWEEN {f.lower!r}::DOUBLE AND {f.upper!r}::DOUBLE"
        return f"SELECT {columns} FROM '{path}' WHERE {condition}"


_SHARE = 0.1
"""Of the cost of scoring what verification may take without success."""


def timings(net: Network, seed: int) -> Iterator[Timing]:
    """Every system on the filters of the first bin, by turns; raises AssertionError where two give other rows."""
    chosen = [f for f in net.filters if f.bin == BINS[0] and f.skippable.any()]
    module = trained(net.function, net.depth, read_rows(net.function)[0], seed)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        connection.execute("SET threads = 1; SET enable_progress_bar = false; SET parquet_metadata_cache = true")
        create_score(connection, _FUNCTION, module, ["FLOAT"] * len(net.model.columns))
        methods = [method for method in METHODS if method.name in NAMES]
        roots = [Path(folder) / str(i) for i in range(len(methods))]
        for method, root in zip(methods, roots, strict=True):
            stored(method, net.path, net.model, root)
        runs = [_Run(net, connection, None, Path(folder))]
        runs += [_Run(net, connection, method, root) for method, root in zip(methods, roots, strict=True)]
        for run in runs:
            run.warm_up(chosen[0])
        for i, f in enumerate(chosen):
            turn = i % len(runs)
            found = {run.name: run.rows(f) for run in (*runs[turn:], *runs[:turn])}
            wrong = [name for name, rows in found.items() if rows != found[BASELINE]]
            assert not wrong, f"{net.function.name}, {net.depth}: {wrong} gave other rows than PyTorch for {f}"
        for run in runs:
            yield Timing(
                suite=net.function.suite,
                function=net.function.name,
                depth=net.depth,
                system=run.name,
                n_filters=len(chosen),
                seconds=round(run.seconds, 5),
                planning=round(run.planning, 5),
                blocks_left=round(float(np.mean(run.left)), 4),
            )
