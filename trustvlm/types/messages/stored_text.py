"""Texts of callers that name something, as they are stored and sent."""

from __future__ import annotations

MAX_SOURCE = 4_096
"""Characters that are kept of the name of an image; the longest path that Linux opens."""


def stored_text(text: str, most: int = MAX_SOURCE) -> str:
    """A text in UTF-8, with escapes for what is none, without NUL characters, cut after `most`
    characters."""
    plain = text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"
