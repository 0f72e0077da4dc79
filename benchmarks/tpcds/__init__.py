"""The benchmark over TPC-DS."""
