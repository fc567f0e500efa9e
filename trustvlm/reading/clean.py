"""Names as a text encoder reads them, from the names of folders: golden_retriever → golden
retriever."""

from __future__ import annotations

import re

from trustvlm.reading.shapes import WNID

# 001.Black_footed_Albatross, 01_cat, n02085620-Chihuahua
_NUMBER = re.compile(r"(?:\d+\.|0\d*[-_ ]|n\d{8}[-_ ])(?=\D)[-_ ]*")
_BLANKS = re.compile(r"[_\s]+|(?<=\w)\+(?=\w)")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# The only names that may change.
_PERHAPS = re.compile(r"[_+]|^\d|^n\d|\s\s|^\s|\s$|[a-z][A-Z]|[A-Z]{2}")
# letters of the first word at least: AnnualCrop has two words, McDonald and DeLorean have one
_WORD = 3


def clean_name(name: str) -> str:
    """A name without a number or a WordNet id in front, with blanks for underscores and between
    AnnualCrop's words.

    A name is cleaned alike in every list; case and hyphens stay (t-shirt). A name that would become
    empty, such as a bare number or WordNet id, stays as it is.
    """
    if not _PERHAPS.search(name):
        return name
    text = _BLANKS.sub(" ", _NUMBER.sub("", name, count=1) if _NUMBER.match(name) else name).strip()
    return " ".join(_apart(word) for word in text.split()) or name


def is_wnid(name: str) -> bool:
    """Whether a name is a bare WordNet id, such as n01440764: no word that a text encoder knows."""
    return WNID.fullmatch(name) is not None


def _apart(word: str) -> str:
    parts = _WORDS.split(word)
    apart = len(parts) > 1 and len(parts[0]) >= _WORD and parts[0][0].isupper()
    return " ".join(parts) if apart else word
