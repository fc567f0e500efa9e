"""Rows on stdout as a table, JSON lines or CSV, a block at a time, so that output of any length
streams."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

import click

from trustvlm.cli.printing.safe_text import cell_text, note, shown
from trustvlm.cli.printing.suggested import placed
from trustvlm.system.terminal_table import Line, Shape, Table, terminal_width, wrapped

Row = Mapping[str, Any]
T = TypeVar("T")

BLOCK_ROWS = 1_000


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading. cell: the name of a row's value (None is shown as nothing), or row →
            text. form: how the value is formatted.
        style: rich style, or row → style, used on a terminal. right: align to the right.
        rank, narrow: what a terminal that is too narrow does to it, see
            :class:`trustvlm.system.terminal_table.Shape`.
        optional: left out where none of the first rows has it.
    """

    title: str
    cell: str | Callable[[Row], str]
    style: str | Callable[[Row], str] = ""
    right: bool = False
    rank: int = 0
    narrow: Literal["start", "end", "words"] = "start"
    form: str = ""
    optional: bool = False

    def text(self, row: Row) -> str:
        """The text of its cell in a row."""
        if not isinstance(self.cell, str):
            return self.cell(row)
        value = row[self.cell]
        return "" if value is None else format(value, self.form)

    def style_of(self, row: Row) -> str:
        """The style of its cell in a row."""
        return self.style if isinstance(self.style, str) else self.style(row)


class RowWriter(Protocol):
    """Writes rows to stdout; may be called again with more rows of the same kind."""

    def write(self, rows: Iterable[Row]) -> None: ...


def row_writer(form: str, columns: Sequence[Column]) -> RowWriter:
    """The writer of format `form`; `columns` are those of the table, the other formats write every
    key of a row."""
    if form == "jsonl":
        return _JsonLines()
    if form == "csv":
        return _Csv()
    return _Table(columns)


VECTOR_FIELDS = ("image_vector", "classifier_image_vector", "text_vector", "prototype")


def row_dicts(rows: Iterable[Any], vectors: bool) -> Iterator[dict[str, Any]]:
    """Rows of dataclasses as dicts; without their vectors where these are not requested."""
    for row in rows:
        values = dict(vars(row))
        yield values if vectors else {k: v for k, v in values.items() if k not in VECTOR_FIELDS}


def blocks(items: Iterable[T], size: int = BLOCK_ROWS) -> Iterator[list[T]]:
    """`items` in lists of at most `size`."""
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block


def as_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON; outside ASCII only where stdout can hold it, and nothing that a terminal would
    interpret."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not utf8, allow_nan=False, indent=indent)
    if text.isprintable():
        return text
    # What is not printable stands inside strings, line breaks of the indentation aside; the escape
    # means the same.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def say(text: str) -> None:
    """A sentence on stdout; a terminal gets it wrapped at blanks."""
    text, width = placed(text), terminal_width()
    click.echo(text if width is None else "\n".join(wrapped(text, width)))


def details(pairs: Mapping[str, object]) -> None:
    """Names and values, one pair a line; on a terminal that is too narrow, a value goes on below
    itself."""
    margin, width = max(map(len, pairs)) + 2, terminal_width()
    for name, value in pairs.items():
        text = shown(placed(str(value)))
        first, *more = [text] if width is None else wrapped(text, width - margin)
        click.echo(f"{name + ':':<{margin}}{first}")
        for line in more:
            click.echo(" " * margin + line)


class _JsonLines:
    def write(self, rows: Iterable[Row]) -> None:
        for block in blocks(rows):
            click.echo("\n".join(as_json(row) for row in block))


class _Csv:
    """A header and lines as RFC 4180 has them, but for the line ends; lists are joined by "|".

    Texts are made safe for spreadsheets and terminals, see
    :func:`trustvlm.cli.printing.safe_text.cell_text`; JSON lines hold them unchanged.
    """

    def __init__(self) -> None:
        self._writer: csv.DictWriter[str] | None = None
        self._buffer = io.StringIO()

    def write(self, rows: Iterable[Row]) -> None:
        for block in blocks(rows):
            if self._writer is None:
                self._writer = csv.DictWriter(self._buffer, list(block[0]), lineterminator="\n")
                self._writer.writeheader()
            self._writer.writerows(
                {name: _csv_value(value) for name, value in row.items()} for row in block
            )
            click.echo(
                self._buffer.getvalue().encode("utf-8", "backslashreplace").decode(), nl=False
            )
            self._buffer.seek(0)
            self._buffer.truncate()


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "|".join(str(_csv_value(part)) for part in value)
    if isinstance(value, dict):
        return as_json(value)
    if isinstance(value, str):
        return cell_text(value)
    return "" if value is None else value


def _whole_rows() -> str:
    """The option of the running command that shows rows whole."""
    context = click.get_current_context(silent=True)
    options = [] if context is None else [one for p in context.command.params for one in p.opts]
    forms = {"--format": "--format jsonl", "--json": "--json"}
    return next((f" and with {text}" for option, text in forms.items() if option in options), "")


class _Table:
    """A table that fits the terminal, in colour; in a pipe plain, and nothing cut off."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._width = terminal_width()
        self._table: Table | None = None
        self._said: set[str] = set()

    def write(self, rows: Iterable[Row]) -> None:
        for block in blocks(rows):
            self._table = table = self._table or self._begun(block)
            lines = table.lines(
                [[shown(column.text(row)) for column in self._columns] for row in block]
            )
            if self._width is None:
                click.echo("\n".join(map(str, lines)))
            else:
                self._coloured(lines, block)
        if self._table is not None:
            self._say("left out", self._table.left_out)
            self._say("cut", self._table.cut)

    def _say(self, what: str, titles: Iterable[str]) -> None:
        """A note on columns of which the terminal does not show all, once for each."""
        if new := [title for title in titles if title not in self._said]:
            self._said |= set(new)
            columns = f"{what} at {self._width} columns: {', '.join(new)}"
            note(f"{columns} (in a pipe{_whole_rows()} nothing is left out or cut)")

    def _begun(self, block: Sequence[Row]) -> Table:
        """The table of the columns that the first rows have something for."""
        self._columns = [
            column
            for column in self._columns
            if not column.optional or any(column.text(row) for row in block)
        ]
        shapes = [
            Shape(column.title, column.right, column.rank, column.narrow)
            for column in self._columns
        ]
        return Table(shapes, self._width)

    def _coloured(self, lines: Iterable[Line], rows: Sequence[Row]) -> None:
        from rich.console import Console
        from rich.text import Text

        console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
        for line in lines:
            text = Text()
            for number, (part, column) in enumerate(line.parts):
                style = (
                    "bold"
                    if line.row is None
                    else self._columns[column].style_of(rows[line.row])
                    if column >= 0
                    else ""
                )
                text.append("  " * bool(number)).append(part, style=style)
            text.rstrip()
            console.print(text, soft_wrap=True)
