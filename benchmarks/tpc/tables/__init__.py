"""Model filters over whole tables, end to end: every way to run them, on the table as generated and clustered."""
