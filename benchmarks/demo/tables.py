"""lineitem in two orders: as generated, and sorted by one of the model's columns."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmarks.tpc.data import tpc_table, write_parquet

ROW_GROUP_ROWS = 16_384
SORTED_BY = "l_extendedprice"


def layouts() -> dict[str, Path]:
    """The Parquet file of each layout, made if it is not there: half a minute the first time."""
    generated = tpc_table("tpch", "lineitem", scale=1, row_group_rows=ROW_GROUP_ROWS)
    ordered = generated.with_name(f"lineitem_by_{SORTED_BY}.parquet")
    if not ordered.exists():
        with Console(stderr=True).status(f"sorting lineitem by {SORTED_BY}"):
            write_parquet(f"SELECT * FROM '{generated}' ORDER BY {SORTED_BY}", ordered, ROW_GROUP_ROWS)
    return {"as generated": generated, f"sorted by {SORTED_BY}": ordered}
