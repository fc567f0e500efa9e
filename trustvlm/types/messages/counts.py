"""Numbers of things in words."""

from __future__ import annotations


def count(number: int, singular: str, plural: str | None = None) -> str:
    """ "1 label", "2,000 labels"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
