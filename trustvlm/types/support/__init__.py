"""Answers about cleaning and extending the support images of a space."""
