"""Maps from the names of folders to the names of labels, in the kinds of files that lists of names
have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trustvlm.errors import InvalidInput
from trustvlm.reading.lists import Listed, json_of, listed_in_json, plain_lines
from trustvlm.reading.tables import DELIMITERS, NAMES, PROMPTS, cells_of, first_line, rows_of
from trustvlm.reading.text import read_text

__all__ = ["read_map"]

_EXPECTED = (
    "a map of folders to names (a table with the columns folder and name; JSON; lines "
    "'n01440764 tench')"
)
_WNID_LINE = re.compile(r"(n\d{8})[\s:]+(?:\d+\s+)?(\S.*)")  # "n02119789 1 kit_fox", too


def read_map(path: Path) -> dict[str, Listed]:
    """Folder → its entry: see docs/folders.md for the kinds of files.

    Raises:
        NotFound, InvalidInput: no such file, another kind of file, or a folder with two names.
    """
    entries: dict[str, Listed] = {}
    for one in _entries(path, read_text(path, _EXPECTED)):
        for key in one.keys:
            first = entries.setdefault(key, one)
            if first.name != one.name:
                two = f"{first.name!r} ({first.place}) and {one.name!r} ({one.place})"
                raise InvalidInput(f"{path}: the folder {key!r} has two names: {two}")
    if not entries:
        raise InvalidInput(f"{path}: expected {_EXPECTED}, found nothing")
    return entries


def _entries(path: Path, text: str) -> Iterator[Listed]:
    content = json_of(path, text)
    if isinstance(content, dict) and all(
        isinstance(value, str) and value.strip() for value in content.values()
    ):
        return (Listed(name.strip(), None, f"key {key!r}", (key,)) for key, name in content.items())
    if content is not None:
        return listed_in_json(path, content)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if lines and all(_WNID_LINE.fullmatch(line) for line in lines):
        return (_of_wnid(number, line) for number, line in enumerate(lines, start=1))
    skip, first = first_line(text)
    delimiter = next((one for one in DELIMITERS if len(cells_of(first, one)) > 1), None)
    if delimiter is None:  # folders 0, 1, 2 …
        return (
            Listed(one.name, None, one.place, (str(i),))
            for i, one in enumerate(plain_lines(path, text)[0])
        )
    return _of_table(path, text, skip - 1, delimiter)


def _of_wnid(number: int, line: str) -> Listed:
    """ "n01440764 tench, Tinca tinca": the first of the names."""
    match = _WNID_LINE.fullmatch(line)
    assert match is not None  # the caller made sure of it
    wnid, names = match.groups()
    return Listed(names.split(",")[0].strip(), None, f"entry {number}", (wnid,))


def _of_table(path: Path, text: str, skip: int, delimiter: str) -> Iterator[Listed]:
    rows = list(rows_of(path, text, skip, delimiter))
    folder, name, prompt, headed = _columns(path, rows[0][1])
    for line, cells in rows[headed:]:
        if max(folder, name) >= len(cells) or not cells[folder] or not cells[name]:
            raise InvalidInput(
                f"{path}, line {line}: expected a folder and its name, got {cells!r:.80}"
            )
        if len(cells) > len(rows[0][1]):
            raise InvalidInput(
                f"{path}, line {line}: expected {len(rows[0][1])} columns, got {len(cells)}"
            )
        own = cells[prompt] or None if prompt is not None and prompt < len(cells) else None
        yield Listed(cells[name], own, f"line {line}", (cells[folder],))


def _columns(path: Path, header: Sequence[str]) -> tuple[int, int, int | None, bool]:
    """Places of folder, name and prompt, and whether the first row is a header. Without one:
    folder, name."""
    columns = [re.sub(r"[\s-]+", "_", cell.casefold()) for cell in header]
    names = [place for place, column in enumerate(columns) if column in NAMES]
    prompts = [place for place, column in enumerate(columns) if column in PROMPTS]
    others = [place for place in range(len(columns)) if place not in (names[-1:] + prompts)]
    if names and len(others) == 1 and len(prompts) < 2:
        return others[0], names[-1], next(iter(prompts), None), True
    if not names and len(columns) == 2:
        return 0, 1, None, False
    raise InvalidInput(
        f"{path}: expected the columns folder and name and, optionally, prompt; got "
        f"{', '.join(header)}"
    )
