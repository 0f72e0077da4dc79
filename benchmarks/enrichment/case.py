"""One measurement of enrichment, in a process of its own, so that its memory and first calls are its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import skipml
from benchmarks.tpc.data import ROOT
from skipml.metadata.loading import load
from skipml.metadata.storage import sidecar_path


@dataclass(frozen=True, slots=True)
class Case:
    """A file, settings of `skipml.enrich`, threads, and how often to run it; `enriched` says that it is up to date."""

    path: str
    root: str
    settings: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    repeat: int = 1
    enriched: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of each run (wall, CPU of all threads), how far the process grew above what it was when it began, and for
    comparison the CPU time that Arrow takes to decode the same columns and nothing else.
    """

    wall_seconds: list[float]
    cpu_seconds: list[float]
    decode_seconds: float
    load_seconds: float
    rows: int
    row_groups: int
    pairs: int
    sidecar_bytes: int
    peak_growth_bytes: int

    @property
    def cpu(self) -> float:
        """CPU seconds of the best run, which a busy machine changes less than wall time."""
        return min(self.cpu_seconds)

    @property
    def wall(self) -> float:
        """Wall seconds of the best run."""
        return min(self.wall_seconds)


def measure(case: Case) -> Measured:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.enrichment.case", json.dumps(asdict(case))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return Measured(**json.loads(done.stdout))


def _measure(case: Case) -> Measured:
    sidecar = Path(sidecar_path(case.path, case.root))
    before, wall, cpu = _memory("VmRSS"), [], []
    for _ in range(case.repeat):
        if not case.enriched:
            sidecar.unlink(missing_ok=True)
        started, used = time.perf_counter(), time.process_time()
        (report,) = skipml.enrich(case.path, root=case.root, **case.settings).files
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    if report.state != ("up to date" if case.enriched else "enriched"):
        raise RuntimeError(f"{case.path} was {report.state}")
    peak = _memory("VmHWM")
    started = time.perf_counter()
    metadata = load(case.path, case.root).metadata  # after a run that wrote it, nothing of it is remembered
    seconds = time.perf_counter() - started
    columns = [column.name for column in metadata.columns] if metadata else []
    return Measured(
        wall_seconds=wall,
        cpu_seconds=cpu,
        decode_seconds=min(_decode(case.path, columns) for _ in range(case.repeat)),
        load_seconds=seconds,
        rows=report.n_rows,
        row_groups=report.n_row_groups,
        pairs=len(metadata.pairs) if metadata else 0,
        sidecar_bytes=sidecar.stat().st_size,
        peak_growth_bytes=peak - before,
    )


def _decode(path: str, columns: list[str]) -> float:
    """CPU seconds to decode every row group on one thread, from a file that stays open."""
    with pq.ParquetFile(path) as file:
        started = time.process_time()
        for group in range(file.num_row_groups):
            file.read_row_group(group, columns=columns, use_threads=False)
        return time.process_time() - started


def _memory(field: str) -> int:
    """VmRSS, what the process holds, or VmHWM, the most it ever held; 0 where the system does not say (not Linux)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)


def main() -> None:
    """Measure the case on the command line, on a small copy first, and print what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", help="a Case as JSON")
    case = Case(**json.loads(parser.parse_args().case))
    pa.set_cpu_count(case.threads)
    with tempfile.TemporaryDirectory() as folder:  # loads what is loaded at the first call
        small = Path(folder) / "small.parquet"
        pq.write_table(pa.table({"a": [1.0, 2.0], "b": [2.0, 4.0]}), small)
        skipml.enrich(small, pairs="all")
    print(json.dumps(asdict(_measure(case))))


if __name__ == "__main__":
    main()
