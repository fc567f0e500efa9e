"""Answers that back off to a node of the taxonomy."""
