"""What docstrings say of single names: of the fields of an answer in the OpenAPI document, of
arguments and errors in the Python reference (docs/docstrings.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_SECTION = re.compile(r"^(Args|Attributes|Raises):\n((?:(?: {4}.*)?\n)*(?: {4}.*)?)", re.MULTILINE)
_NAMED = re.compile(r"(?:^|(?<=\. ))(?:[a-z_]\w*, )*[a-z_]\w*: ")
_ERRORS = re.compile(r"(?:^|(?<=\. ))(?:[A-Z]\w+, )*[A-Z]\w+: ")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")
_OF_PYTHON = re.compile(r"to_arrow|iteration|\[\"")
_IN_JSON = {"None": "null", "NaN": "null", "True": "true", "False": "false"}


def divided(docstring: str) -> str:
    """The docstring with a line for each name of its sections, which may stand on one line there
    or go on to a second one without blanks in front."""

    def section(at: re.Match[str]) -> str:
        lines = (f"    {name}: {meaning}\n" for name, meaning in _items(at[1], at[2]))
        return f"{at[1]}:\n{''.join(lines)}\n"

    return _SECTION.sub(section, docstring)


def describe_fields(schema: dict[str, Any]) -> None:
    """Move what the description of a schema, which is the docstring of a dataclass, says of its
    attributes to its properties, in words of JSON; take out what is about Python alone."""
    docstring, properties = schema.get("description", ""), schema.get("properties", {})
    for section, text in _SECTION.findall(docstring):
        for name, meaning in _items(section, text):
            if name in properties:
                properties[name].setdefault("description", meaning)
    for field in properties.values():
        if "description" in field:
            field["description"] = _of_json(field["description"])
    paragraphs = _SECTION.sub("", docstring).strip().split("\n\n")
    if docstring:
        schema["description"] = "\n\n".join(
            _of_json(one) for one in paragraphs if not _OF_PYTHON.search(one)
        )


def _of_json(text: str) -> str:
    plain = _ROLE.sub(r"`\1`", text)
    return re.sub(rf"\b({'|'.join(_IN_JSON)})\b", lambda word: _IN_JSON[word[0]], plain)


def _items(section: str, text: str) -> Iterator[tuple[str, str]]:
    """(name, meaning) of a section."""
    for part in _parts(section, text):
        pattern = _ERRORS if section == "Raises" else _NAMED
        starts = [at.start() for at in pattern.finditer(part)] or [0]
        for start, end in zip(starts, [*starts[1:], len(part)], strict=True):
            named, _, meaning = part[start:end].strip().partition(": ")
            first, *others = named.split(", ")
            yield first, meaning
            yield from ((name, f"see `{first}`.") for name in others)


def _parts(section: str, text: str) -> Iterator[str]:
    """The texts of a section that begin on a line of their own, each on one line; of errors all
    are one."""
    part: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        if part and section != "Raises" and not line.startswith(" " * 8):
            yield " ".join(part)
            part = []
        part.append(line.strip())
    if part:
        yield " ".join(part)
