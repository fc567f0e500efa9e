"""Stores the answers of spaces that log them, beside the calls that are answered."""
