"""Taxonomies from files: tables with the columns child and parent."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from trustvlm.errors import InvalidInput
from trustvlm.reading.tables import DELIMITERS, NAMES, cells_of, first_line, table_rows
from trustvlm.reading.text import read_text

__all__ = ["read_parents"]

_WHAT = "a table with the columns child and parent"


def read_parents(path: str | PathLike[str]) -> dict[str, str | None]:
    """The edges of a taxonomy from a CSV or TSV file: label or node → the node that it stands
    under, as :meth:`trustvlm.TrustService.set_parents` takes them.

    A first line "child,parent" (or "name,parent", "label,parent") is the header; without one the
    two columns are in this order. An empty parent stands for none.

    Raises:
        NotFound: no such file. InvalidInput: other columns, a row without a child, or a child with
            two parents.
    """
    path = Path(path)
    text = read_text(path, _WHAT)
    number, line = first_line(text)
    delimiter = next((one for one in DELIMITERS if len(cells_of(line, one)) == 2), None)
    if delimiter is None:
        raise InvalidInput(f"{path}, line {number}: expected {_WHAT}, got {line!r:.80}")
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
        raise InvalidInput(f"{path}: expected {_WHAT}, got no rows")
    return parents
