"""Data, workloads and measurements; nothing here is part of the library."""
