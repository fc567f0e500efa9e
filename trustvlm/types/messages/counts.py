"""Nouns with their numbers and articles."""

from __future__ import annotations


def count(number: int, singular: str, plural: str | None = None) -> str:
    """ "1 label", "2,000 labels"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def a_or_an(noun: str) -> str:
    """ "a list", "an int"."""
    return f"{'an' if noun[:1].lower() in tuple('aeio') else 'a'} {noun}"
