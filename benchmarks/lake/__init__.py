"""Planning a model filter over a lake of many files, from a metadata cache and without."""
