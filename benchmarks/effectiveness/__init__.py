"""How much of what could be skipped is skipped, on TPC-H and TPC-DS in generation order; see README.md."""
