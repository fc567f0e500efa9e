"""Choosing the best of equal values by name."""
