"""Tables of names: CSV and TSV, separated by commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.parquet import read_batches
from trustvlm.reading.sets.columns import folded, only_column
from trustvlm.reading.shapes import is_comment
from trustvlm.reading.text import read_text
from trustvlm.types.attributes.values import is_column, row_attributes, with_decimal_commas
from trustvlm.types.bounds import path_of
from trustvlm.types.messages.commands import suggested, word

NAMES = frozenset((
    "name", "names", "label", "labels", "label_name", "labelname", "class", "classes", "class_name",
    "classname", "category", "categories", "category_name", "display_name", "displayname",
))  # fmt: skip
"""What columns of names are called, in lower case with "_" for blanks."""
_PROMPTS = frozenset(("prompt", "text"))
_PARENTS = frozenset(("parent",))
_NUMBERS = frozenset((
    "index", "idx", "id", "number", "class_id", "label_id", "category_id", "class_index",
    "label_index",
))  # fmt: skip
_FILES = re.compile(
    r"(.*_)?(file|files|filename|filepath|path|image|images|img|photo|picture|url|uri|src)(_.*)?"
)
DELIMITERS = "\t;,|"
_PARENT_TABLE = "a table with the columns child and parent"


@dataclass(frozen=True)
class Table:
    """The header of a file, and what reads (place in words, cells) of each row below it; the cells
    of the columns at some places. `delimiter`: what separates the cells of a text."""

    header: list[str]
    rows: Callable[[Sequence[int]], Iterator[tuple[str, Sequence[Any]]]]
    delimiter: str = ","


def open_table(path: Path, expected: str) -> Table:
    """A CSV, TSV or Parquet file with a header; `expected`: what it should be, for messages.

    Raises:
        NotFound, InvalidInput: no such file, or one of another kind.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet_table(path)
    text = read_text(path, expected)
    number, line = first_line(text)
    header = max((cells_of(line, one) for one in DELIMITERS), key=len)
    delimiter = next((one for one in DELIMITERS if cells_of(line, one) == header), ",")

    def rows(places: Sequence[int]) -> Iterator[tuple[str, Sequence[Any]]]:
        for place, cells in table_rows(path, text, number, delimiter, len(header)):
            yield place, [cells[at] for at in places]

    return Table(header, rows, delimiter)


def _parquet_table(path: Path) -> Table:
    if not path.exists():
        raise NotFound(f"no file {path}")
    header: list[str] = []
    batches = read_batches(path, lambda facts: header.extend(facts.schema.names))
    first = next(batches, None)

    def rows(places: Sequence[int]) -> Iterator[tuple[str, Sequence[Any]]]:
        row = 0
        for batch in chain([] if first is None else [first], batches):
            for cells in zip(*(batch.column(at).to_pylist() for at in places), strict=True):
                yield f"row {row}", cells
                row += 1

    return Table(header, rows)


class Listed(NamedTuple):
    """One name of a list.

    Attributes:
        name: as the list has it. prompt: the name's own prompt, or None. place: the line or item of
            the list, in words.
        keys: what else the list calls it: its class number, its WordNet id, its folder.
        attributes: those of the label.
        parent: the node of the taxonomy that it stands under, or None.
    """

    name: str
    prompt: str | None
    place: str
    keys: tuple[str, ...] = ()
    attributes: dict[str, Any] | None = None
    parent: str | None = None


@dataclass(frozen=True)
class _Layout:
    """How a table is laid out.

    Attributes:
        skipped: lines before the first row. width: number of columns.
        name, prompt, key: places of the columns of names, prompts, and class numbers or folders.
        folders: the key is a folder, which each row needs. parent: place of the column of parents.
        attributes: places and names of the columns of attributes.
    """

    skipped: int
    delimiter: str
    width: int
    name: int
    prompt: int | None
    key: int | None
    folders: bool = False
    attributes: tuple[tuple[int, str], ...] = ()
    parent: int | None = None


def names_in_table(path: Path, text: str) -> list[Listed] | None:
    """The names of a table, in order of the index where there is one; None where the first line is
    no header of names.

    Raises:
        InvalidInput: a table of another kind, of files and their labels for instance, or a row that
            does not fit.
    """
    layout = _layout_of_names(path, *first_line(text))
    if layout is None:
        return None
    entries = list(_entries(path, text, layout))
    if layout.key is None:
        return [one._replace(keys=(str(place),)) for place, one in enumerate(entries)]
    for one in entries:
        if not re.fullmatch(r"-?\d{1,18}", one.keys[0]):
            raise InvalidInput(
                f"{path}, {one.place}: expected the number of a class, got {one.keys[0]!r:.60}"
            )
    entries = [one._replace(keys=(str(int(one.keys[0])),)) for one in entries]
    require_distinct(path, [int(one.keys[0]) for one in entries])
    return sorted(entries, key=lambda one: int(one.keys[0]))


def _layout_of_names(path: Path, number: int, line: str) -> _Layout | None:
    """The layout of a table of names with this first line; None: the line is no header of names.
    Raises InvalidInput: a table of another kind."""
    for delimiter in DELIMITERS:
        columns, raw = _columns(line, delimiter), cells_of(line, delimiter)
        if (len(columns) > 1 or delimiter in line) and not {*NAMES, *_PROMPTS}.isdisjoint(columns):
            break
    else:
        return None
    described = tuple(
        (only_column(str(path), raw, raw, name), name)
        for name in dict.fromkeys(filter(is_column, raw))
    )
    of_labels = [one for place, one in enumerate(columns) if not is_column(raw[place])]
    if any(_FILES.fullmatch(column) for column in of_labels):
        raise InvalidInput(
            f"{path}: expected a list of names, got a table of images and their labels (columns "
            f"{', '.join(columns)}); {suggested('register', files=f'SPACE {word(str(path))}')} "
            f"registers these"
        )
    words = (NAMES, _PROMPTS, _NUMBERS, _PARENTS)
    names, *others = (_places(columns, some) for some in words)
    if len(names) != 1 or sum(map(len, others)) < len(of_labels) - 1 or any(o[1:] for o in others):
        raise InvalidInput(
            f"{path}: expected the column name and, optionally, prompt (or text), index, parent, "
            f"attributes and attr.KEY; got {', '.join(columns)}"
        )
    prompt, index, parent = map(_only, others)
    return _Layout(
        number, delimiter, len(columns), names[0], prompt, index, attributes=described,
        parent=parent,
    )  # fmt: skip


def folders_in_table(path: Path, text: str) -> list[Listed] | None:
    """The names of a table, their folders as keys; None where the first line has one column.

    Raises:
        InvalidInput: other columns than those of folders, names and prompts, or a row that does not
            fit.
    """
    number, line = first_line(text)
    delimiter = next((one for one in DELIMITERS if len(cells_of(line, one)) > 1), None)
    if delimiter is None:
        return None
    columns = _columns(line, delimiter)
    names, prompts = _places(columns, NAMES), _places(columns, _PROMPTS)
    others = [place for place in range(len(columns)) if place not in (*names[-1:], *prompts)]
    if names and len(others) == 1 and not prompts[1:]:
        layout = _Layout(
            number, delimiter, len(columns), names[-1], _only(prompts), others[0], True
        )
    elif not names and len(columns) == 2:  # no header
        layout = _Layout(number - 1, delimiter, 2, 1, None, 0, True)
    else:
        raise InvalidInput(
            f"{path}: expected the columns folder and name and, optionally, prompt; got "
            f"{', '.join(columns)}"
        )
    return list(_entries(path, text, layout))


def require_distinct(path: Path, numbers: Sequence[int]) -> None:
    """Raises InvalidInput where a class number occurs twice."""
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise InvalidInput(f"{path}: the class number {twice} occurs twice")


def _entries(path: Path, text: str, layout: _Layout) -> Iterator[Listed]:
    """Each row as a name, its prompt and, where the layout has one, its key."""
    for place, cells in table_rows(path, text, layout.skipped, layout.delimiter, layout.width):
        key = None if layout.key is None else cells[layout.key]
        if not cells[layout.name] or (layout.folders and not key):
            expected = "a folder and its name" if layout.folders else "a name"
            raise InvalidInput(
                f"{path}, {place}: expected {expected}, got an empty cell in {cells!r:.80}"
            )
        prompt = None if layout.prompt is None else cells[layout.prompt] or None
        described = with_decimal_commas(
            {name: cells[at] for at, name in layout.attributes}, layout.delimiter
        )
        attributes = row_attributes(described, f"{path}, {place}: ") if described else None
        keys = () if key is None else (key,)
        parent = None if layout.parent is None else cells[layout.parent] or None
        yield Listed(cells[layout.name], prompt, place, keys, attributes, parent)


def table_rows(
    path: Path, text: str, skipped: int, delimiter: str, width: int
) -> Iterator[tuple[str, list[str]]]:
    """(place in words, cells) of each row that is not empty, after `skipped` lines.

    Raises:
        InvalidInput: no valid CSV, or a row of more than `width` cells.
    """
    lines = (f"{line}\n" for line in text.split("\n")[skipped:])
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    line = skipped + 1
    try:
        for row in reader:
            place, line = f"line {line}", skipped + reader.line_num + 1
            if not (cells := _stripped(row)):
                continue
            if len(cells) > width:
                raise InvalidInput(
                    f"{path}, {place}: expected {width} columns, got {len(cells)}; a cell "
                    f"with {delimiter!r} in it needs quotes"
                )
            yield place, cells + [""] * (width - len(cells))
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {line}: expected valid CSV: {error}") from error


def first_line(text: str) -> tuple[int, str]:
    """(number, content) of the first line that is not empty, a comment, or what Excel writes before
    a header (sep=;)."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not is_comment(line) and not re.fullmatch(r"sep=.", line.strip()):
            return number, line
    return 1, ""


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of a line, without blanks around them."""
    try:
        return _stripped(next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []))
    except csv.Error:  # longer than a cell may be
        return []


def _stripped(row: Sequence[str]) -> list[str]:
    """Cells without blanks around them, and without empty ones at the end."""
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _columns(header: str, delimiter: str) -> list[str]:
    return [folded(cell) for cell in cells_of(header, delimiter)]


def _places(columns: Sequence[str], words: Collection[str]) -> list[int]:
    return [place for place, column in enumerate(columns) if column in words]


def _only(places: Sequence[int]) -> int | None:
    return places[0] if places else None


def read_parents(path: str | PathLike[str]) -> dict[str, str | None]:
    """The edges of a taxonomy from a CSV or TSV file: label or node → the node that it stands
    under, as :meth:`trustvlm.TrustService.set_parents` takes them.

    A first line "child,parent" (or "name,parent", "label,parent") is the header; without one the
    two columns are in this order. An empty parent stands for none.

    Raises:
        NotFound: no such file. InvalidInput: other columns, a row without a child, or a child with
            two parents.
    """
    path = path_of("path", path)
    text = read_text(path, _PARENT_TABLE)
    number, line = first_line(text)
    delimiter = next((one for one in DELIMITERS if len(cells_of(line, one)) == 2), None)
    if delimiter is None:
        raise InvalidInput(f"{path}, line {number}: expected {_PARENT_TABLE}, got {line!r:.80}")
    first, second = (cell.casefold() for cell in cells_of(line, delimiter))
    header = {"child", *NAMES}
    child, parent = (1, 0) if first == "parent" and second in header else (0, 1)
    has_header = child == 1 or (second == "parent" and first in header)
    parents: dict[str, str | None] = {}
    for place, cells in table_rows(path, text, number - (not has_header), delimiter, 2):
        name, above = cells[child], cells[parent] or None
        if not name:
            raise InvalidInput(f"{path}, {place}: expected a child, got an empty cell")
        if parents.setdefault(name, above) != above:
            raise InvalidInput(
                f"{path}, {place}: {name!r:.60} has two parents, {parents[name]!r:.60} and "
                f"{above!r:.60}"
            )
    if not parents:
        raise InvalidInput(f"{path}: expected {_PARENT_TABLE}, got no rows")
    return parents
