"""Lists of label names: one a line, tables (CSV, TSV), JSON lists and class indexes."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trustvlm.errors import InvalidInput
from trustvlm.reading.shapes import is_comment, other_shape
from trustvlm.reading.tables import HEADER_ALONE, header_of, table_rows
from trustvlm.reading.text import read_text

__all__ = [
    "EXPECTED",
    "Listed",
    "NameList",
    "json_of",
    "listed_in_json",
    "plain_lines",
    "read_names",
    "repeated",
]

_FIELDS = {"name", "prompt", "text", "id", "supercategory"}
EXPECTED = (
    "a list of names (one a line; CSV with the columns name and prompt; a JSON list or class index)"
)
"""For messages."""


class Listed(NamedTuple):
    """One name of a list.

    Attributes:
        name: as the list has it. prompt: the name's own prompt, or None. place: the line or item of
            the list, in words.
        keys: what else the list calls it: its class number, its WordNet id.
    """

    name: str
    prompt: str | None
    place: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class NameList:
    """The names of a file, in its order, and what is to be said of the file."""

    names: list[Listed]
    notes: list[str]


def read_names(path: Path) -> NameList:
    """The names of a list: see docs/folders.md for the kinds of files.

    Raises:
        NotFound, InvalidInput: no such file, not text, or a file of another kind; the message says
            which.
    """
    text = read_text(path, EXPECTED)
    notes: list[str] = []
    if (content := json_of(path, text)) is not None:
        names = list(listed_in_json(path, content))
    elif (header := header_of(path, text)) is not None:
        names = [Listed(*row) for row in table_rows(path, text, header)]
    else:
        names, notes = plain_lines(path, text)
    if not names:
        raise InvalidInput(f"{path}: expected one label name a line, found none")
    return NameList(names, notes + list(_repeats(path, names)))


def repeated(names: Sequence[Listed]) -> dict[str, list[Listed]]:
    """Name → its entries, for names that occur more than once."""
    keys = [
        one.name if one.name.isascii() else unicodedata.normalize("NFC", one.name) for one in names
    ]
    if len(set(keys)) == len(keys):
        return {}
    places: dict[str, list[Listed]] = {}
    for key, one in zip(keys, names, strict=True):
        places.setdefault(key, []).append(one)
    return {key: same for key, same in places.items() if len(same) > 1}


def _repeats(path: Path, names: Sequence[Listed]) -> Iterator[str]:
    again = repeated(names)
    for name, same in list(again.items())[:5]:
        places = ", ".join(one.place for one in same[:5]) + (", …" if same[5:] else "")
        yield f"{path}: the name {name!r} occurs {len(same)} times ({places}); it becomes one label"
    if len(again) > 5:
        yield f"{path}: {len(again) - 5:,} more names occur more than once"
    if again:
        labels = (
            f"{len(names):,} entries make "
            f"{len(names) - sum(len(same) - 1 for same in again.values()):,} labels"
        )
        yield (
            f"{path}: {labels}; class numbers after a repeated name no longer match the "
            f"positions in the file"
        )


# One a line


def plain_lines(path: Path, text: str) -> tuple[list[Listed], list[str]]:
    """The names of a list, one a line, and what is to be said of it. Raises InvalidInput for files
    of another kind."""
    lines = {
        number: line.strip()
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    }
    comments = [number for number, line in lines.items() if is_comment(line)]
    for number in comments:
        del lines[number]
    notes = (
        [f"{path}: left out: {_lines(comments)}, read as a comment (it begins with '#')"]
        if comments
        else []
    )
    if len(lines) > 1 and next(iter(lines.values())).strip('"').casefold() in HEADER_ALONE:
        number = next(iter(lines))
        notes.append(
            f"{path}: line {number}, {lines.pop(number)!r}, is read as the header, not as a label"
        )
    if not lines:
        return [], notes
    if (shape := other_shape(list(lines.values()))) is not None:
        raise InvalidInput(
            f"{path}: expected {EXPECTED}, got what looks like {shape}; a JSON list takes any names"
        )
    if all(len(line) > 1 and line[0] == line[-1] == '"' for line in lines.values()):
        lines = {number: line[1:-1].replace('""', '"') for number, line in lines.items()}
    elif "\t" in text:
        raw = text.split("\n")
        lines = {number: raw[number - 1] for number in lines}  # a tab at its beginning is no blank
    return [_of_line(path, number, line) for number, line in lines.items()], notes


def _of_line(path: Path, number: int, line: str) -> Listed:
    if "\t" not in line:
        return Listed(line, None, f"line {number}")
    name, *rest = (part.strip() for part in line.split("\t"))
    if len(rest) > 1:
        raise InvalidInput(
            f"{path}, line {number}: expected a name, or a name, a tab and a prompt; got "
            f"{len(rest)} tabs"
        )
    if not name:
        raise InvalidInput(f"{path}, line {number}: expected a name before the tab, got none")
    return Listed(name, (rest[0] or None) if rest else None, f"line {number}")


def _lines(numbers: list[int]) -> str:
    some = ", ".join(map(str, numbers[:5])) + (", …" if numbers[5:] else "")
    return f"line{'s' if numbers[1:] else ''} {some}"


# JSON


def json_of(path: Path, text: str) -> Any:
    """The content of JSON; None for other text, also for names, one a line, that begin with a
    bracket."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _object(path, pairs))
    except RecursionError as error:
        raise InvalidInput(
            f"{path}: expected {EXPECTED}, this is JSON that is nested too deep"
        ) from error
    except json.JSONDecodeError as error:
        first = text.strip().split("\n", maxsplit=1)[0].strip()
        if (
            first.startswith(("{", '["', "['", "[[", "[{", "[("))
            or first == "["
            or (first[-1:] == "," and first[:1] == "[")
        ):
            what = (
                "JSON lines (NDJSON)"
                if _is_json(first)
                else f"JSON that cannot be read ({error.msg}, line {error.lineno})"
            )
            raise InvalidInput(f"{path}: expected {EXPECTED}, this is {what}") from error
        return None


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput(f"{path}: the key {twice!r} occurs twice")
    return content


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def listed_in_json(path: Path, content: Any) -> Iterator[Listed]:
    """A list of names, a list of objects with a name, or a class index in either direction, in
    order of the index."""
    if isinstance(content, list):
        for number, item in enumerate(content):
            yield _item(path, number, item)
        return
    numbered = _by_number(content)
    if numbered is None:
        some = ", ".join(map(repr, list(content)[:3]))
        raise InvalidInput(
            f"{path}: expected a JSON list of names, or a class index ({{'0': 'cat'}} or "
            f"{{'cat': 0}}); got an object with the "
            f"keys {some}"
        )
    numbers = [number for number, *_ in numbered]
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise InvalidInput(f"{path}: the class number {twice} occurs twice")
    for number, name, keys in sorted(numbered):
        yield Listed(
            _text(path, f"class {number}", name), None, f"class {number}", (str(number), *keys)
        )


def _by_number(content: dict[str, Any]) -> list[tuple[int, str, tuple[str, ...]]] | None:
    """(number, name, other keys) of a class index; None where it is none."""
    values = list(content.values())
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        first = min(values)
        counts = first not in (0, 1) or max(values) - first >= len(
            values
        )  # how many images each class has, for instance
        return None if counts else [(value, key, ()) for key, value in content.items()]
    if not all(_is_number(key) for key in content):
        return None
    if all(isinstance(value, str) for value in values):
        return [(int(key), value, ()) for key, value in content.items()]
    if all(
        isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
        for value in values
    ):
        return [(int(key), value[1], (value[0],)) for key, value in content.items()]
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19


def _item(path: Path, number: int, item: Any) -> Listed:
    place = f"item {number + 1}"
    if isinstance(item, str):
        return Listed(_text(path, place, item), None, place, (str(number),))
    if not isinstance(item, dict) or "name" not in item or not set(item) <= _FIELDS:
        got = (
            f"the fields {', '.join(item)}" if isinstance(item, dict) else f"{json.dumps(item):.60}"
        )
        expected = "expected a name, or an object with name and, optionally, prompt"
        raise InvalidInput(f"{path}, {place}: {expected}; got {got}")
    prompt = item.get("prompt") or item.get("text") or None
    return Listed(
        _text(path, place, item["name"]),
        None if prompt is None else _text(path, f"{place}, prompt", prompt),
        place,
        (str(item.get("id", number)),),
    )


def _text(path: Path, place: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{path}, {place}: expected a text, got {json.dumps(value):.60}")
    return value.strip()
