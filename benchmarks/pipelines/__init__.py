"""A scikit-learn pipeline over lineitem as a filter, end to end."""
