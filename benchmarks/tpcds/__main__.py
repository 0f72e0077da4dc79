"""What python -m benchmarks.tpcds runs."""

from benchmarks.tpcds.run import run

run()
