"""Answers as tables: for people in a console or a notebook, and as columns for pandas and Arrow."""
