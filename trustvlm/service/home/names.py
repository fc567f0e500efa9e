"""Checks names of spaces and labels, and the characters of prompts."""

from __future__ import annotations

import re
import unicodedata

from trustvlm.catalog.store.names import brief, normal
from trustvlm.errors import InvalidInput

MAX_NAME = 500
"""Characters; the longest of the 1,608 names of LVIS, OpenImages and Objects365 has 45."""
MAX_PROMPT = 10 * MAX_NAME
"""Characters of a prompt, a template or a text that is searched for; CLIP reads about 300."""

UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff\ufdd0-\ufdef"
)
"""What is not seen or turns the reading direction: two names that look alike would be two labels.
Not among them: variation selectors (emoji, ideographs), which belong to the character before them,
and joiners, see below."""
JOINERS = "\u200c\u200d"
"""Persian, Indic scripts and emoji need them between two of their own characters."""

_UNSEEN = re.compile(f"[{UNSEEN}]")


def check_name(name: object, what: str) -> str:
    """`name` in normal form C, when it can be read and stored.

    Raises:
        InvalidInput: not a string, empty, too long, blanks at an end, or characters that are not
            seen: control, format, direction and zero-width characters, halves of characters.
    """
    if not isinstance(name, str):
        raise InvalidInput(f"{what}: expected a string, got {type(name).__name__}")
    if len(name) > MAX_NAME:
        raise InvalidInput(
            f"{what}: expected at most {MAX_NAME} characters, got {len(name)} ({name[:20]!r}…)"
        )
    name = normal(name)
    if not name.strip():
        raise InvalidInput(f"{what}: expected a name, got an empty one")
    if name != name.strip():
        raise InvalidInput(f"{what}: {name!r} begins or ends with blanks")
    check_characters(name, what)
    for at, character in enumerate(name):
        if character in JOINERS and not (
            _joins(name[at - 1 : at]) and _joins(name[at + 1 : at + 2])
        ):
            _refuse(name, character, what)
    return name


def check_space_name(name: object, what: str) -> str:
    """`name` in normal form C, when it can be that of a space: it stands between the slashes of
    addresses and holds none. Raises InvalidInput, see :func:`check_name`."""
    name = check_name(name, what)
    if "/" in name:
        raise InvalidInput(
            f"{what}: {name!r} holds '/', which stands between the parts of an address"
        )
    return name


def check_characters(text: str, what: str) -> None:
    """Make sure that `text` has no invisible or deceptive characters.

    Raises:
        InvalidInput: it holds control, direction or zero-width characters, line breaks or halves of
            characters.
    """
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or _UNSEEN.match(character):
            _refuse(text, character, what)


def _joins(neighbour: str) -> bool:
    return bool(neighbour) and not neighbour.isascii() and neighbour not in JOINERS


def _refuse(text: str, character: str, what: str) -> None:
    raise InvalidInput(
        f"{what}: {brief(text)} holds the character U+{ord(character):04X}, which a name may not"
    )
