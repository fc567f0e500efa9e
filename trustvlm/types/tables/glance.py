"""Answers as people look at them: a few lines in a console, a table in a notebook."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from trustvlm.types.messages.stored_text import clipped, printable
from trustvlm.types.tables.probability import chance, percent

TEXT_ROWS, HTML_ROWS = 8, 50
"""Rows of a table that are shown."""
_TEXT_CELL, _HTML_CELL = 24, 48  # characters
_COLOURS = {"accept": "#1a7f37", "review": "#8a5a00", "unknown": "#6e40c9"}
"""Backgrounds of white text: legible on light and on dark pages."""


class Share(float):
    """A number from 0 to 1, shown in per cent, with a bar in HTML."""


class Chance(Share):
    """A probability, which is never shown as 100 % or 0 %."""


class Decision(str):
    """A decision, which has a colour in HTML."""

    __slots__ = ()


class Place(str):
    """A path or an address; its end is shown where there is not enough room."""

    __slots__ = ()


class Picture(bytes):
    """A small JPEG, for HTML only; empty: there is none."""


@dataclass(frozen=True)
class Glance:
    """What is shown of an answer.

    Attributes:
        lines: what it is, and what its numbers mean.
        columns: names. rows: the first rows, a cell for each column. total: number of all rows.
    """

    lines: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    total: int


def as_text(glance: Glance) -> str:
    """Lines, then the first rows as a table without borders; at most 2,000 characters."""
    rows = [[_cell(cell, _TEXT_CELL) for cell in row] for row in glance.rows[:TEXT_ROWS]]
    table = [list(glance.columns), *rows]
    lines = [clipped(printable(line), 200) for line in glance.lines]
    if rows:
        right = _numeric(glance)
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        for row in table:
            cells = (
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(row, widths, right, strict=True)
            )
            lines.append("  ".join(cells).rstrip())
    if glance.total > len(rows):
        lines.append(f"… {glance.total - len(rows):,} more")
    return clipped("\n".join(lines), 2_000)


def as_html(glance: Glance) -> str:
    """An HTML fragment without scripts and style sheets; all texts are escaped."""
    rows = glance.rows[:HTML_ROWS]
    look = "white-space:nowrap;padding:.1em .5em;text-align:"
    sides = [f' style="{look}{"right" if right else "left"}"' for right in _numeric(glance)]
    head = "".join(
        f"<th{side}>{escape(name)}</th>" for name, side in zip(glance.columns, sides, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{side}>{_html_cell(cell)}</td>" for cell, side in zip(row, sides, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    lines = "".join(f"<div>{escape(printable(line))}</div>" for line in glance.lines)
    more = f"<div>… {glance.total - len(rows):,} more</div>" if glance.total > len(rows) else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    return f'<div style="overflow-x:auto">{lines}{table}{more}</div>'


def _html_cell(cell: Any) -> str:
    if isinstance(cell, Picture):
        data = b64encode(cell).decode()
        look = "height:3em;max-width:6em;object-fit:contain;vertical-align:middle"
        return f'<img alt="" style="{look}" src="data:image/jpeg;base64,{data}">' if cell else ""
    text = escape(_cell(cell, _HTML_CELL))
    if isinstance(cell, Decision) and cell in _COLOURS:
        look = f"background:{_COLOURS[cell]};color:#fff;padding:0 .5em;border-radius:.7em"
        return f'<span style="{look}">{text}</span>'
    if isinstance(cell, Share) and not math.isnan(cell):
        width = f"{100 * min(max(cell, 0.0), 1.0):.1f}%"
        frame = "display:inline-block;width:5em;height:.6em;border:1px solid;margin-left:.5em"
        bar = f'<span style="display:block;height:100%;width:{width};background:#4078c0"></span>'
        return f'{text}<span aria-hidden="true" style="{frame}">{bar}</span>'
    if isinstance(cell, str) and len(cell) > _HTML_CELL:
        return f'<span title="{escape(printable(cell))}">{text}</span>'
    return text


def _cell(cell: Any, most: int) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, Share):
        return chance(cell) if isinstance(cell, Chance) else percent(cell)
    if isinstance(cell, float):
        return f"{cell:.1e}" if 0 < abs(cell) < 5e-5 else f"{cell:.4f}"
    text = printable(str(cell))
    if isinstance(cell, Place) and len(text) > most:
        return "…" + text[len(text) - most + 1 :]
    return clipped(text, most)


def _numeric(glance: Glance) -> list[bool]:
    """Which columns hold numbers only."""
    cells = [[row[i] for row in glance.rows] for i in range(len(glance.columns))]
    return [all(cell is None or isinstance(cell, int | float) for cell in one) for one in cells]
