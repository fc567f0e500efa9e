"""Attributes as they are stored, and indexed keys."""
