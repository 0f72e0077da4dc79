"""A nearest-neighbour index that lives in plain Parquet."""
