"""The filter workload of the MLSkip paper (arXiv:2606.03946): its methods as baselines, skipml's beside them."""
