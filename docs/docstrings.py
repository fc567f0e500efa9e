"""Gives each parameter, attribute and error of a docstring an item of its own in the Python
reference: docstrings name several on one line, which the reader of docstrings would take for one,
or cut off at its second line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_SECTION = re.compile(r"^(Args|Attributes|Raises):\n((?:(?: {4}.*)?\n)*(?: {4}.*)?)", re.MULTILINE)
_NAMED = re.compile(r"(?:^|(?<=\. ))(?:[a-z_]\w*, )*[a-z_]\w*: ")
_ERRORS = re.compile(r"(?:^|(?<=\. ))(?:[A-Z]\w+, )*[A-Z]\w+: ")


class OneItemEach(griffe.Extension):
    """Changes docstrings when they are loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Divide the sections of an object's docstring into items."""
        if obj.docstring is not None:
            obj.docstring.value = divided(obj.docstring.value)


def divided(docstring: str) -> str:
    """The docstring with an item for each name in its sections."""
    return _SECTION.sub(lambda at: f"{at[1]}:\n{_items(at[1], at[2])}\n", docstring)


def _items(section: str, text: str) -> str:
    """The items of a section, each on a line of its own."""
    lines = []
    for part in _parts(section, text):
        pattern = _ERRORS if section == "Raises" else _NAMED
        starts = [at.start() for at in pattern.finditer(part)] or [0]
        for start, end in zip(starts, [*starts[1:], len(part)], strict=True):
            named, _, meaning = part[start:end].strip().partition(": ")
            first, *others = named.split(", ")
            lines.append(f"    {first}: {meaning}\n")
            lines += [f"    {name}: see `{first}`.\n" for name in others]
    return "".join(lines)


def _parts(section: str, text: str) -> Iterator[str]:
    """The texts of a section that begin on a line of their own, each on one line: those of errors
    go on without more blanks in front."""
    part: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        if part and section != "Raises" and not line.startswith(" " * 8):
            yield " ".join(part)
            part = []
        part.append(line.strip())
    if part:
        yield " ".join(part)
