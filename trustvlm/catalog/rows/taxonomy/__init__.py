"""Rows of the taxonomies of spaces."""
