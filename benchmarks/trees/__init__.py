"""Tree ensembles: row groups proved, and queries against the libraries' own predictions."""
