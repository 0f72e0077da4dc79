"""Nearest neighbours in Parquet: learned pruning against its baselines, and the index against its peers."""
