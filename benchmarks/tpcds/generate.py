"""Makes the tables of the suite and all their layouts, and prints paths and sizes.

usage: python -m benchmarks.tpcds.generate [--scale 1]
"""

from benchmarks.tpc.tables.generate import generate
from benchmarks.tpcds.models import SUITE

if __name__ == "__main__":
    generate(SUITE)
