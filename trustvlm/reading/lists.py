"""Lists of label names, and maps from folders to names: one a line, tables (CSV, TSV), JSON lists
and class indexes."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.shapes import is_comment, other_shape
from trustvlm.reading.tables import (
    NAMES,
    Listed,
    folders_in_table,
    names_in_table,
    require_distinct,
)
from trustvlm.reading.text import read_text
from trustvlm.types.attributes.values import once_each, row_attributes

_FIELDS = {"name", "prompt", "text", "id", "supercategory", "attributes", "parent"}
_LIST = (
    "a list of names (one a line; CSV with the columns name, prompt, parent; a JSON list or class "
    "index)"
)
_MAP = (
    "a map of folders to names (a table with the columns folder and name; JSON; lines 'n01440764 "
    "tench')"
)
_WNID_LINE = re.compile(r"(n\d{8})[\s:]+(?:\d+\s+)?(\S.*)")  # "n02119789 1 kit_fox", too


@dataclass(frozen=True)
class NameList:
    """The names of a file, in its order, and notes on the file for the user."""

    names: list[Listed]
    notes: list[str]


def read_names(path: Path) -> NameList:
    """The names of a list: see docs/folders.md for the kinds of files.

    Raises:
        NotFound, InvalidInput: no such file, not text, or a file of another kind; the message says
            which.
    """
    text = read_text(path, _LIST)
    notes: list[str] = []
    if (content := _json_of(path, text)) is not None:
        names = list(_in_json(path, content))
    elif (rows := names_in_table(path, text)) is not None:
        names = rows
    else:
        names, notes = _in_lines(path, text)
    if not names:
        raise InvalidInput(f"{path}: expected one label name a line, found none")
    return NameList(names, notes + list(_repeats(path, names)))


def read_map(path: Path) -> dict[str, Listed]:
    """Folder → its entry: see docs/folders.md for the kinds of files.

    Raises:
        NotFound, InvalidInput: no such file, another kind of file, or a folder with two names.
    """
    entries: dict[str, Listed] = {}
    for one in _map_entries(path, read_text(path, _MAP)):
        for key in one.keys:
            first = entries.setdefault(key, one)
            if first.name != one.name:
                two = f"{first.name!r} ({first.place}) and {one.name!r} ({one.place})"
                raise InvalidInput(f"{path}: the folder {key!r} has two names: {two}")
    if not entries:
        raise InvalidInput(f"{path}: expected {_MAP}, found nothing")
    return entries


def _map_entries(path: Path, text: str) -> Iterable[Listed]:
    content = _json_of(path, text)
    if isinstance(content, dict) and all(
        isinstance(name, str) and name.strip() for name in content.values()
    ):
        return [Listed(name.strip(), None, f"key {key!r}", (key,)) for key, name in content.items()]
    if content is not None:
        return _in_json(path, content)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    matches = [match for match in map(_WNID_LINE.fullmatch, lines) if match is not None]
    if lines and len(matches) == len(lines):  # of several names, the first
        return [
            Listed(match[2].split(",")[0].strip(), None, f"entry {number}", (match[1],))
            for number, match in enumerate(matches, start=1)
        ]
    if (rows := folders_in_table(path, text)) is not None:
        return rows
    names, _ = _in_lines(path, text)  # of the folders 0, 1, 2 …
    return [one._replace(keys=(str(number),)) for number, one in enumerate(names)]


def _repeats(path: Path, names: Sequence[Listed]) -> Iterator[str]:
    places: dict[str, list[str]] = {}
    for one in names:
        places.setdefault(unicodedata.normalize("NFC", one.name), []).append(one.place)
    if len(places) == len(names):
        return
    repeated = {name: lines for name, lines in places.items() if lines[1:]}
    for name, lines in list(repeated.items())[:5]:
        some = ", ".join(lines[:5]) + (", …" if lines[5:] else "")
        yield f"{path}: the name {name!r} occurs {len(lines)} times ({some}); it becomes one label"
    if len(repeated) > 5:
        yield f"{path}: {len(repeated) - 5:,} more names occur more than once"
    yield (
        f"{path}: {len(names):,} entries make {len(places):,} labels; class numbers after a "
        f"repeated name no longer match the positions in the file"
    )


# One a line


def _in_lines(path: Path, text: str) -> tuple[list[Listed], list[str]]:
    """The names of a list, one a line, and notes on it. Raises InvalidInput for files
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
    if len(lines) > 1 and next(iter(lines.values())).strip('"').casefold() in NAMES:
        number = next(iter(lines))
        notes.append(
            f"{path}: line {number}, {lines.pop(number)!r}, is read as the header, not as a label"
        )
    if not lines:
        return [], notes
    if (shape := other_shape(list(lines.values()))) is not None:
        raise InvalidInput(
            f"{path}: expected {_LIST}, got what looks like {shape}; a JSON list takes any names"
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


def _json_of(path: Path, text: str) -> Any:
    """The content of JSON; None for other text, also for names, one a line, that begin with a
    bracket."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _object(path, pairs))
    except RecursionError as error:
        raise InvalidInput(
            f"{path}: expected {_LIST}, this is JSON that is nested too deep"
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
            raise InvalidInput(f"{path}: expected {_LIST}, this is {what}") from error
        return None


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    try:
        return once_each(pairs)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _in_json(path: Path, content: Any) -> Iterator[Listed]:
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
    require_distinct(path, [number for number, *_ in numbered])
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
        expected = "expected a name, or an object with name and, optionally, prompt, parent and "
        expected += "attributes"
        raise InvalidInput(f"{path}, {place}: {expected}; got {got}")
    prompt, parent = item.get("prompt") or item.get("text") or None, item.get("parent") or None
    return Listed(
        _text(path, place, item["name"]),
        None if prompt is None else _text(path, f"{place}, prompt", prompt),
        place,
        (str(item.get("id", number)),),
        row_attributes(item, f"{path}, {place}: "),
        None if parent is None else _text(path, f"{place}, parent", parent),
    )


def _text(path: Path, place: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{path}, {place}: expected a text, got {json.dumps(value):.60}")
    return value.strip()
