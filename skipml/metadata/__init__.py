"""What enrichment adds to a block of rows: one file per kind, each with how it is built, encoded and decoded."""
