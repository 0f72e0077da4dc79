"""Engines that read what pruning leaves."""
