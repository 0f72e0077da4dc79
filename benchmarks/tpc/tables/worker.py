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
from benchmarks.tpc.tables.systems import Answer, Query, Session, pytorch_udf


class TunedProcess:
    """A process that runs queries in sessions of pytorch_udf, and takes their time itself."""

    def __init__(self, model: Path, spec: ModelSpec, inputs: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, model, spec, inputs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it is up

    def open(self) -> Session:
        """A new session there, which ends the one before."""
        self._ask("open")
        return self

    def run(self, query: Query) -> Answer:
        """Run a query there."""
        answer: Answer = self._ask(query)
        return answer

    def close(self) -> None:
        """Close the session there."""
        self._ask("close")

    def end(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()

    def _ask(self, message: object) -> Any:
        self._pipe.send(message)
        answer = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _serve(pipe: Connection, model: Path, spec: ModelSpec, inputs: tuple[str, ...]) -> None:
    sys.modules["pyarrow.dataset"] = None  # type: ignore[assignment]  # an import of it fails from now on
    import torch

    from benchmarks.tpc.networks import load

    torch.set_num_threads(1)
    network = load(model)
    session: Session = pytorch_udf(network, spec, inputs)
    pipe.send(None)
    while (message := pipe.recv()) is not None:
        try:
            if isinstance(message, Query):
                pipe.send(session.run(message))
                continue
            session.close()
            if message == "open":
                session = pytorch_udf(network, spec, inputs)
            pipe.send(None)
        except Exception as error:
            pipe.send(error)
