"""What the labels of folders are called: as the folders, by a map, or cleaned, as a text encoder
reads them: golden_retriever → golden retriever."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trustvlm.errors import InvalidInput
from trustvlm.reading.lists import read_map
from trustvlm.reading.shapes import WNID

_SHOWN = 5
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


@dataclass(frozen=True)
class LabelName:
    """The name of a label, and its own prompt where the map has one."""

    name: str
    prompt: str | None = None


@dataclass(frozen=True)
class Naming:
    """How the names of folders (or of a list) become names of labels.

    Attributes:
        names: a map, folder → name. clean: whether names are cleaned (after the map).
    """

    names: Path | None = None
    clean: bool = False

    def labels(self, folders: Iterable[str], keep: Collection[str] = ()) -> dict[str, LabelName]:
        """Folder → its label; folders in `keep` are called as they are.

        Raises:
            NotFound, InvalidInput: a map that cannot be read or lacks a folder, or two folders with
                one name.
        """
        folders = list(folders)
        labels = {folder: LabelName(folder) for folder in folders}
        renamed = [folder for folder in folders if folder not in keep]
        if self.names is not None:
            labels |= _mapped(self.names, renamed)
        if self.clean:
            labels |= {
                folder: LabelName(clean_name(labels[folder].name), labels[folder].prompt)
                for folder in renamed
            }
        folder_of: dict[str, str] = {}
        for folder, label in labels.items():
            name = unicodedata.normalize("NFC", label.name)  # as the catalog has it
            if (other := folder_of.setdefault(name, folder)) != folder:
                where = (
                    f"in {self.names}" if self.names is not None else "(--names FILE names folders)"
                )
                both = f"{other!r} and {folder!r} would both become the label {label.name!r}"
                raise InvalidInput(f"{both}; give one of them another name {where}")
        return labels


def _mapped(path: Path, folders: list[str]) -> dict[str, LabelName]:
    entries = read_map(path)
    if missing := [folder for folder in folders if folder not in entries]:
        some = ", ".join(map(repr, missing[:_SHOWN])) + (
            f" and {len(missing) - _SHOWN:,} more" if missing[_SHOWN:] else ""
        )
        raise InvalidInput(f"{path}: no name for {some}")
    return {folder: LabelName(entries[folder].name, entries[folder].prompt) for folder in folders}


def advice(names: Collection[str], *, folders: bool) -> Iterator[str]:
    """What a text encoder will not read as it is meant, with an example and the remedy for names of
    folders or of a list."""
    odd = [name for name in names if clean_name(name) != name]
    wnids = [name for name in names if is_wnid(name)]
    if odd:
        what = (
            f"{len(odd):,} of {len(names):,} names go to the text encoder exactly as "
            f"spelled, such as {odd[0]!r}"
        )
        yield f"{what}; --clean-names turns it into {clean_name(odd[0])!r}"
    if wnids:
        what = (
            f"{len(wnids):,} of {len(names):,} names are WordNet ids such as {wnids[0]!r}, "
            f"unknown to text encoders"
        )
        remedy = f"--names FILE gives them names (lines '{wnids[0]} tench', or a JSON class index)"
        yield f"{what}; {remedy if folders else 'register a list of plain names instead'}"
