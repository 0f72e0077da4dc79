"""What enrichment costs and how near its hulls are to the exact ones; see README.md."""
