"""Whole SQL queries: the standard texts of TPC-H and TPC-DS, and some of them with a model predicate."""
