"""Reads the probabilities that other classifiers give."""
