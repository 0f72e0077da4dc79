"""Plans on Arrow: a dataset of the row groups that are left, a stream of the rows that qualify."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from skipml.decisions import SKIP
from skipml.engines.planned_files import PlannedFiles
from skipml.plans import Plan
from skipml.stores import RemoteFile


def candidates(plan: Plan, columns: Sequence[str] | None = None) -> ds.Dataset:
    """A dataset whose fragments are the files with a row group in which a row may qualify, and those row groups.

    Arrow reads them when the dataset is scanned, and does not notice a file that was rewritten after this call;
    `plan.check` does. Its `count_rows` counts whole files, as Arrow does for any choice of row groups: count what it
    reads. Raises FooterError, SchemaError and FileChangedError as `Plan.scan` does.
    """
    schema = plan.schema(columns)
    parquet = ds.ParquetFileFormat(coerce_int96_timestamp_unit="us")
    files, footers, fragments = _file_system(plan.footers.files), plan.footers, []
    for i, path in enumerate(footers.files):
        left = np.unique(footers.row_group[(footers.file_index == i) & (plan.decisions != SKIP)])
        if len(left):
            plan.check(i)
            fragments.append(parquet.make_fragment(str(path), files, row_groups=left.tolist()))
    return ds.FileSystemDataset(fragments, schema, parquet, files)


def _file_system(files: Sequence[str]) -> fs.FileSystem:
    """Where Arrow finds files by their names in the plan."""
    if not any(isinstance(file, RemoteFile) for file in files):
        return fs.LocalFileSystem()
    return fs.PyFileSystem(fs.FSSpecHandler(PlannedFiles({str(file): file for file in files})))


def rows(plan: Plan, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
    """The rows that qualify, as `Plan.scan` gives them."""
    return plan.scan(columns)
