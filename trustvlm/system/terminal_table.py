"""Tables as lines of text that fit a width, without cutting a name silently.

In a narrow terminal, in this order: texts wrap at blanks, paths begin with an ellipsis and names
longer than 40 columns end with one, columns are left out by rank, texts wrap to fewer columns
still, and where the columns of rank 0 do not fit either, each row becomes a block of lines. Without
a width (in a pipe) each row is one complete line.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

_GAP = 2
_PATH, _WORDS, _FEWEST_WORDS = 12, 20, 14  # columns that paths and texts get at least
_NAME = 40  # columns that any other cell gets at least, where it has as many
_YIELDS = ("start", "words", "end")
"""Which cells become narrower, the last ones first."""
_MIN_WIDTH = 20  # a narrower terminal wraps by itself


@dataclass(frozen=True)
class Shape:
    """How a column is laid out.

    Attributes:
        title: its heading. right: align to the right.
        rank: a narrow table leaves out the column of the highest rank first; never one of rank 0.
        narrow: its cells in a narrow table. "start": the beginning and an ellipsis (names; numbers
            and names of up to 40 columns stay whole). "end": an ellipsis and the end (paths).
            "words": several lines, wrapped at blanks, and within words that are too long.
    """

    title: str
    right: bool = False
    rank: int = 0
    narrow: Literal["start", "end", "words"] = "start"


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        row: which row of the block it belongs to; None for headings and empty lines.
        parts: (text, column it is of), two blanks apart.
    """

    row: int | None
    parts: Sequence[tuple[str, int]]

    def __str__(self) -> str:
        return (" " * _GAP).join(text for text, _ in self.parts).rstrip()


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is (or of COLUMNS there); None for a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


class Table:
    """Lays out blocks of rows; columns never become narrower from block to block.

    Args:
        shapes: the columns. width: columns of the terminal, None without a limit.
    """

    def __init__(self, shapes: Sequence[Shape], width: int | None) -> None:
        self._shapes = shapes
        self._width = width
        self._natural = [_cells(shape.title) for shape in shapes]
        self._longest = list(self._natural)  # the longest word, where a column wraps at words
        self._columns: tuple[int, ...] | None = None  # those shown before; () for blocks of lines
        self._cut: set[int] = set()

    @property
    def left_out(self) -> list[str]:
        """Titles of the columns that did not fit in the latest block."""
        shown = self._columns or range(len(self._shapes))
        return [shape.title for i, shape in enumerate(self._shapes) if i not in shown]

    @property
    def cut(self) -> list[str]:
        """Titles of the columns of which a cell had an ellipsis."""
        return [shape.title for i, shape in enumerate(self._shapes) if i in self._cut]

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterator[Line]:
        """The lines of a block of rows, with headings before the first block."""
        for row in rows:
            for i, cell in enumerate(row):
                self._natural[i] = max(self._natural[i], _cells(cell))
                if self._shapes[i].narrow == "words":
                    self._longest[i] = max(self._longest[i], *map(_cells, cell.split(" ")))
        widths = self._fitted()
        columns = () if widths is None else tuple(widths)
        if widths is None:
            yield from self._blocks(rows, begun=self._columns is not None)
        else:
            if columns != self._columns:
                yield from self._heading(widths)
            for number, row in enumerate(rows):
                yield from self._aligned(number, row, widths)
        self._columns = columns

    def _fitted(self) -> dict[int, int] | None:
        """Column → width of the columns that fit; None where those of rank 0 do not fit."""
        if self._width is None:
            return dict(enumerate(self._natural))
        for words in (_WORDS, _FEWEST_WORDS):
            if (widths := self._fitted_with(words, self._width)) is not None:
                return widths
        return None

    def _fitted_with(self, words: int, room: int) -> dict[int, int] | None:
        """Column → width, where texts get at least `words` columns; None where those of rank 0 do
        not fit in `room` columns."""
        widths = dict(enumerate(self._natural))
        floors = {i: self._floor(i, words) for i in widths}
        while _total(floors) > room:
            leaving = max(floors, key=lambda i: self._shapes[i].rank)
            if not self._shapes[leaving].rank:
                return None
            del floors[leaving], widths[leaving]
        while _total(widths) > room:
            elastic = [i for i in widths if widths[i] > floors[i]]
            widest = max(elastic, key=lambda i: (_YIELDS.index(self._shapes[i].narrow), widths[i]))
            widths[widest] -= 1
        return widths

    def _floor(self, column: int, words: int) -> int:
        shape, natural = self._shapes[column], self._natural[column]
        if shape.narrow == "words":
            return max(min(self._longest[column], _NAME), min(natural, words))
        return max(_cells(shape.title), min(natural, _PATH if shape.narrow == "end" else _NAME))

    def _heading(self, widths: dict[int, int]) -> Iterator[Line]:
        shapes = self._shapes
        titles = [(_padded(shapes[i], shapes[i].title, width), i) for i, width in widths.items()]
        yield Line(None, titles)
        if self._width is not None:
            yield Line(None, [("─" * width, i) for i, width in widths.items()])

    def _aligned(self, number: int, row: Sequence[str], widths: dict[int, int]) -> Iterator[Line]:
        cells = {i: self._narrowed(i, row[i], width) for i, width in widths.items()}
        for k in range(max(map(len, cells.values()))):
            texts = {i: cell[k] if k < len(cell) else "" for i, cell in cells.items()}
            parts = [(_padded(self._shapes[i], text, widths[i]), i) for i, text in texts.items()]
            yield Line(number, parts)

    def _narrowed(self, column: int, cell: str, width: int) -> list[str]:
        if _cells(cell) <= width:
            return [cell]
        if self._shapes[column].narrow == "words":
            return _filled(cell, width)
        self._cut.add(column)
        at_end = self._shapes[column].narrow == "end"
        return [ending(cell, width) if at_end else beginning(cell, width)]

    def _blocks(self, rows: Sequence[Sequence[str]], *, begun: bool) -> Iterator[Line]:
        """Each row as lines of title and cell, all columns, empty cells aside."""
        assert self._width is not None
        margin = max(_cells(shape.title) for shape in self._shapes)
        room = max(self._width - margin - _GAP, _MIN_WIDTH)
        for number, row in enumerate(rows):
            if begun or number:
                yield Line(None, [])
            for i, cell in enumerate(row):
                path = self._shapes[i].narrow == "end"
                texts = self._narrowed(i, cell, room) if path else _filled(cell, room)
                for k, text in enumerate(texts if cell else ()):
                    title = self._shapes[i].title if k == 0 else ""
                    yield Line(number, [(_padded(Shape(title), title, margin), -1), (text, i)])


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, broken at blanks: longer words stay unbroken."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and _cells(lines[-1]) + 1 + _cells(word) <= max(width, _FEWEST_WORDS):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _filled(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, broken at blanks, and within longer words."""
    return [part for line in wrapped(text, width) for part in _broken(line, width)]


def _broken(word: str, width: int) -> Iterator[str]:
    """A word in parts of at most `width` columns (at least two)."""
    while _cells(word) > width:
        part = _fitting(word, width)
        yield part
        word = word[len(part) :]
    yield word


def beginning(text: str, width: int) -> str:
    """The beginning of `text` before an ellipsis, `width` columns at most."""
    return f"{_fitting(text, width - 1)}…"


def _fitting(text: str, width: int) -> str:
    """The longest beginning of `text` in at most `width` columns, with all that combines with its
    last character."""
    from rich.cells import cell_len

    end = 0
    while end < len(text) and cell_len(text[: end + 1]) <= width:
        end += 1
    while 0 < end < len(text) and not cell_len(text[end]):  # it would belong to the next line
        end -= 1
    return text[:end]


def ending(text: str, width: int) -> str:
    """The end of `text` behind an ellipsis, `width` columns at most."""
    from rich.cells import cell_len

    start = len(text)
    while start and cell_len(text[start - 1 :]) < width:
        start -= 1
    while start < len(text) and not cell_len(text[start]):  # combines with a hidden character
        start += 1
    return f"…{text[start:]}"


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _padded(shape: Shape, text: str, width: int) -> str:
    blanks = " " * (width - _cells(text))
    return blanks + text if shape.right else text + blanks


def _cells(text: str) -> int:
    from rich.cells import cell_len  # East Asian characters are two columns wide

    return len(text) if text.isascii() else cell_len(text)
