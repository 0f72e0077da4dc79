"""The files that are enriched and clustered while their writers are killed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ["a", "b", "c"]
ROWS, ROW_GROUP_ROWS = 1_000, 125  # small: most of a short operation is writing, which is what a kill can harm


@dataclass(frozen=True, slots=True)
class Lake:
    """A folder of data files and what a worker makes of them."""

    folder: Path

    @property
    def data(self) -> Path:
        """Where the data files lie, with their sidecars."""
        return self.folder / "data"

    @property
    def files(self) -> list[Path]:
        """The data files."""
        return [self.data / f"{i}.parquet" for i in range(4)]

    @property
    def clustered(self) -> Path:
        """Where the first data file is clustered to."""
        return self.data / "clustered.parquet"

    @property
    def root(self) -> Path:
        """Where sidecars lie that are not beside their files."""
        return self.folder / "sidecars"

    def write(self) -> dict[Path, pa.Table]:
        """Write the data files; returns by file, the clustered one too, the rows it has to hold, ordered by id."""
        self.data.mkdir(parents=True)
        self.root.mkdir()
        tables = {path: _rows(seed) for seed, path in enumerate(self.files)}
        for path, table in tables.items():
            pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS)
        return tables | {self.clustered: tables[self.files[0]]}


def _rows(seed: int) -> pa.Table:
    """`b` follows `a`, which hulls know and limits do not; `c` has NULLs and NaNs in some row groups."""
    rng = np.random.default_rng(seed)
    a, c = rng.random(ROWS), rng.random(ROWS)
    c[rng.random(ROWS) < 0.001] = np.nan
    columns = {"id": np.arange(ROWS), "a": a, "b": a + 0.01 * rng.random(ROWS)}
    return pa.table({**columns, "c": pa.array(c, mask=rng.random(ROWS) < 0.001), "text": [f"row {i}" for i in a]})
