"""The benchmark over TPC-H."""
