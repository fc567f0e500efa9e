"""Tables of names: CSV and TSV with a header, separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trustvlm.errors import InvalidInput
from trustvlm.reading.shapes import is_comment

__all__ = [
    "DELIMITERS",
    "HEADER_ALONE",
    "NAMES",
    "Header",
    "cells_of",
    "first_line",
    "header_of",
    "rows_of",
    "table_rows",
]

NAMES = {
    *(
        "name",
        "names",
        "label",
        "labels",
        "label_name",
        "labelname",
        "class",
        "classes",
        "class_name",
        "classname",
    ),
    *("category", "categories", "category_name", "display_name", "displayname"),
}
PROMPTS = ("prompt", "text")
NUMBERS = (
    "index",
    "idx",
    "id",
    "number",
    "class_id",
    "label_id",
    "category_id",
    "class_index",
    "label_index",
)
DELIMITERS = "\t;,|"
FILES = re.compile(
    r"(.*_)?(file|files|filename|filepath|path|image|images|img|photo|picture|url|uri|src)(_.*)?"
)
"""How columns are called, in lower case with "_" for blanks."""

HEADER_ALONE = NAMES
"""What the first of many lines without columns may say, to be a header."""


@dataclass(frozen=True)
class Header:
    """How a table is laid out.

    Attributes:
        line: the number of the header's line. delimiter: between its columns.
        name, prompt, number: places of its columns.
    """

    line: int
    delimiter: str
    columns: int
    name: int
    prompt: int | None
    number: int | None


def header_of(path: Path, text: str) -> Header | None:
    """The header of a table of names, None where the first line is none.

    Raises:
        InvalidInput: it is the header of another table, of files and their labels for instance.
    """
    number, line = first_line(text)
    for delimiter in DELIMITERS:
        columns = [
            re.sub(r"[\s-]+", "_", column.casefold()) for column in cells_of(line, delimiter)
        ]
        if (len(columns) > 1 or delimiter in line) and set(columns) & {*NAMES, *PROMPTS}:
            return _header(path, number, delimiter, columns)
    return None


def first_line(text: str) -> tuple[int, str]:
    """(number, content) of the first line that is not empty, a comment, or what Excel writes before
    a header (sep=;)."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not is_comment(line) and not re.fullmatch(r"sep=.", line.strip()):
            return number, line
    return 1, ""


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of one line without blanks around them, and without empty ones at its end."""
    try:
        cells = [
            cell.strip()
            for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        ]
    except csv.Error:  # longer than a cell may be
        return []
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _header(path: Path, line: int, delimiter: str, columns: Sequence[str]) -> Header:
    names = [place for place, column in enumerate(columns) if column in NAMES]
    prompts = [place for place, column in enumerate(columns) if column in PROMPTS]
    numbers = [place for place, column in enumerate(columns) if column in NUMBERS]
    there = ", ".join(columns)
    if any(FILES.fullmatch(column) for column in columns):
        raise InvalidInput(
            f"{path}: expected a list of names, got a table of images and their labels (columns "
            f"{there}); "
            f"register a folder with a sub-folder for each label, or the files of one label "
            f"with --label NAME"
        )
    if (
        len(names) != 1
        or len(prompts) > 1
        or len(numbers) > 1
        or len(names + prompts + numbers) < len(columns)
    ):
        raise InvalidInput(
            f"{path}: expected the column name and, optionally, prompt (or text) and index; got "
            f"{there}"
        )
    return Header(
        line,
        delimiter,
        len(columns),
        names[0],
        next(iter(prompts), None),
        next(iter(numbers), None),
    )


def table_rows(
    path: Path, text: str, header: Header
) -> Iterator[tuple[str, str | None, str, tuple[str, ...]]]:
    """(name, prompt, place, keys) of each row, in order of the index where there is one."""
    rows = []
    for line, cells in rows_of(path, text, header.line, header.delimiter):
        place = f"line {line}"
        if len(cells) > header.columns:
            expected = f"expected {header.columns} columns, got {len(cells)}"
            raise InvalidInput(
                f"{path}, {place}: {expected}; a cell with {header.delimiter!r} in it needs quotes"
            )
        cells += [""] * (header.columns - len(cells))
        if not cells[header.name]:
            raise InvalidInput(f"{path}, {place}: expected a name, got an empty cell")
        number = None if header.number is None else _number(path, place, cells[header.number])
        prompt = None if header.prompt is None else cells[header.prompt] or None
        rows.append((number, cells[header.name], prompt, place))
    if header.number is not None:
        numbers = [row[0] for row in rows]
        if len(set(numbers)) < len(numbers):
            twice = next(number for number in numbers if numbers.count(number) > 1)
            raise InvalidInput(f"{path}: the class number {twice} occurs twice")
        rows.sort(key=lambda row: row[0] or 0)
    for place_in_list, (number, name, prompt, place) in enumerate(rows):
        yield name, prompt, place, (str(place_in_list if number is None else number),)


def rows_of(path: Path, text: str, skip: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of each row behind the first `skip` lines that is not
    empty."""
    lines = text.split("\n")[skip:]
    reader = csv.reader(
        (f"{line}\n" for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    first = skip + 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield first, cells
            first = skip + reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {first}: expected valid CSV: {error}") from error


def _number(path: Path, place: str, cell: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", cell):
        raise InvalidInput(f"{path}, {place}: expected the number of a class, got {cell!r:.60}")
    return int(cell)
