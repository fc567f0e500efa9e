"""How names are stored and looked up: in Unicode's normal form C, so that one look is one name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from trustvlm.errors import InvalidInput

_BRIEF = 80


def normal(name: str) -> str:
    """`name` in normal form C: "é" is one character, however it was typed or a file system spells
    it. Raises InvalidInput."""
    if not isinstance(name, str):
        raise InvalidInput(f"name: expected a string, got {type(name).__name__}")
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def brief(name: object) -> str:
    """`name` for a message: quoted, escaped, and no longer than a line."""
    text = repr(name[: _BRIEF + 1] if isinstance(name, str) else name)
    return text if len(text) <= _BRIEF + 2 else text[:_BRIEF] + "…"


def meant(guess: str | None, otherwise: str) -> str:
    """The end of a message on an unknown name: which one was probably meant or, where none is like
    it, `otherwise`."""
    return otherwise if guess is None else f"did you mean {brief(guess)}?"


def forms(names: Iterable[str]) -> set[str]:
    """The names as they are and in normal form: homes made before names were normalised hold the
    former.

    Raises:
        InvalidInput: what is no text, or cannot be stored as UTF-8.
    """
    spellings = set()
    for name in names:
        if not isinstance(name, str):
            raise InvalidInput(f"name: expected a string, got {type(name).__name__}")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"name: {brief(name)} holds half a character (a lone surrogate), which no name does"
            ) from error
        spellings |= {name, normal(name)}
    return spellings
