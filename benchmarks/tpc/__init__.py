"""What the TPC-H and TPC-DS benchmarks share: data, the published workload, tables, ways to score, figures."""
