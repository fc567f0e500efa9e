"""The name that was probably meant by an unknown one: another case, separator, accent, plural, or a
typing error."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

GIVE_NONE = "give None for images of no label"
"""What a message on an unknown label asks of a program; files and commands say it in their way."""

_CUTOFF = 0.75


def likest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is most like `name`: equal but for writing or plural, else nearly
    equal."""
    by_key: dict[str, str] = {}
    for other in names:
        by_key.setdefault(_folded(other), other)
    key = _folded(name)
    if key in by_key:
        return by_key[key]
    stem = _stem(key)
    if same := sorted(other for folded, other in by_key.items() if _stem(folded) == stem):
        return same[0]
    matches = get_close_matches(key, by_key, n=1, cutoff=_CUTOFF)
    return by_key[matches[0]] if matches else None


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """The end of a message on an unknown name: "; did you mean 'posterior'?"; nothing where none of
    `names` is like it."""
    meant = likest(name, names) if isinstance(name, str) else None
    return "" if meant is None else f"; did you mean {meant!r:.200}?"


def _folded(name: str) -> str:
    """Letters and digits alone, without case and accents."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in letters if c.isalnum()) or name


def _stem(folded: str) -> str:
    """Without a number in front and without the ending of an English plural."""
    word = folded.lstrip("0123456789") or folded
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
