"""The demo: a filter with a small network on TPC-H lineitem, through PyTorch in a DuckDB UDF and through skipml."""
