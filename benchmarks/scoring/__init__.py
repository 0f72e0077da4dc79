"""What scoring alone costs in DuckDB: PyTorch, skipml in Python, skipml's extension."""
