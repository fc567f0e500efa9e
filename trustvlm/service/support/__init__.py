"""Cleaning and extending the support images of a space."""
