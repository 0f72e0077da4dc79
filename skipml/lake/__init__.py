"""Tables of many files: what is known of each file as a whole, from a metadata cache or from a catalog."""
