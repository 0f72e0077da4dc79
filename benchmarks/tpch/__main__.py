"""What python -m benchmarks.tpch runs."""

from benchmarks.tpch.run import run

run()
