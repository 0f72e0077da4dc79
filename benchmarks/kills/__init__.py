"""SIGKILL at random moments of enriching and clustering: no damaged file, no wrong skip."""
