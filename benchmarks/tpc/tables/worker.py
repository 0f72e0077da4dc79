"""PyTorch in a DuckDB function without pyarrow.dataset, in a process of its own, as it would break its users here.

DuckDB 1.5 hands each batch over through pyarrow.dataset where it can be imported, which takes longer than the rest.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.tpc.suite import ModelSpec
from benchmarks.tpc.tables.systems import Answer, Query, pytorch_udf


class TunedSession:
    """A session of pytorch_udf in another process, which takes the time itself."""

    def __init__(self, model: Path, spec: ModelSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, model, spec), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()  # it is up

    def run(self, query: Query) -> Answer:
        """Run a query there."""
        self._pipe.send(query)
        answer: Answer = self._answer()
        return answer

    def _answer(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def _serve(pipe: Connection, model: Path, spec: ModelSpec) -> None:
    sys.modules["pyarrow.dataset"] = None  # type: ignore[assignment]  # an import of it fails from now on
    import torch

    from benchmarks.tpc.networks import load

    torch.set_num_threads(1)
    session = pytorch_udf(load(model), spec)
    pipe.send(None)
    while (query := pipe.recv()) is not None:
        try:
            pipe.send(session.run(query))
        except Exception as error:
            pipe.send(error)
    session.close()
