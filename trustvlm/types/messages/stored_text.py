"""Texts of callers that name something, as they are shown, stored and sent.

What cannot stand in a text is written as Python writes it, `\\x1b`, `\\u202e` or `\\U000e0001`. A
backslash that already stands before such letters is written `\\x5c`, so that two different texts
are never written alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_SOURCE = 4_096
"""Characters that are kept of the name of an image; the longest path that Linux opens."""
_LIKE_AN_ESCAPE = re.compile(r"\\(?=x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def printable(text: str) -> str:
    """A text with escapes for all that is not printed: control and direction characters, line ends,
    blanks other than the space, halves of characters."""
    return _escaped(text, str.isprintable)


def storable(text: str) -> str:
    """A text in UTF-8 without NUL characters, with escapes for what it had of both."""
    return _escaped(text, lambda one: one != "\0" and not "\ud800" <= one <= "\udfff")


def stored_text(text: str, most: int = MAX_SOURCE) -> str:
    """A text as :func:`storable` writes it, cut after `most` characters."""
    return clipped(storable(text), most)


def clipped(text: str, most: int) -> str:
    """The first `most` characters of a text; of a longer one the last of these is an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _escaped(text: str, passes: Callable[[str], bool]) -> str:
    marked = _LIKE_AN_ESCAPE.sub(r"\\x5c", text)
    return "".join(one if passes(one) else _escape(ord(one)) for one in marked)


def _escape(code: int) -> str:
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )
