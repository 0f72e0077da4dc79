"""The first rows by score: skipml against DuckDB computing every score with the same function."""
