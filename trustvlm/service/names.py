"""What a space or a label may be called."""

from __future__ import annotations

import unicodedata

from trustvlm.errors import InvalidInput

__all__ = ["MAX_NAME", "check_name"]

MAX_NAME = 500
"""Characters; the longest of the 1,608 names of LVIS, OpenImages and Objects365 has 45."""


def check_name(name: object, what: str) -> str:
    """`name` itself, when people and files can hold it.

    Raises:
        InvalidInput: not a string, empty, too long, blanks at an end, or control, format or surrogate characters.
    """
    if not isinstance(name, str):
        raise InvalidInput(f"{what}: expected a string, got {type(name).__name__}")
    if not name.strip():
        raise InvalidInput(f"{what}: expected a name, got an empty one")
    if len(name) > MAX_NAME:
        raise InvalidInput(f"{what}: expected at most {MAX_NAME} characters, got {len(name)} ({name[:20]!r}…)")
    if name != name.strip():
        raise InvalidInput(f"{what}: {name!r} begins or ends with blanks")
    for character in name:
        # Cc control, Cs surrogate, Zl/Zp line breaks, and the bidirectional overrides that make a name read as another.
        if (
            unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
            or character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        ):
            raise InvalidInput(f"{what}: {name!r} holds the character U+{ord(character):04X}, which a name may not")
    return name
