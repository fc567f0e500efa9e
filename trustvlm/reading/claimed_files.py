"""Files of claims: a label a line, or a table of files and labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.columns import set_columns
from trustvlm.reading.sets.rows import label_name
from trustvlm.reading.tables import open_table
from trustvlm.reading.text import read_text

_TABLES = (".csv", ".tsv", ".parquet")
_CLAIMED = "claimed"
"""The column of labels where a table has it; else one with a usual name of labels."""


def read_claims(given: str | Path) -> dict[str, str | None] | list[str | None] | None:
    """What a file of claims holds: file → claim of a table, a claim a line of another file; None:
    the name is none of a file.

    Raises:
        NotFound, InvalidInput: no such file, or it holds no claims.
    """
    path = Path(given)
    kind = path.suffix.lower()
    if kind in _TABLES:
        return claims_by_file(path)
    if path.is_file() or kind == ".txt":
        return claims_in_lines(path)
    return None


def listed_file(source: str, files: Collection[str]) -> str | None:
    """Which of some files the path `source` names, read from the working directory: one that is the
    end of it, the longest; None: none is."""
    parts = (Path.cwd() / source).parts
    ends = (PurePath(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((name for name in ends if name in files), None)


def claims_in_lines(path: Path) -> list[str | None]:
    """A label a line, None for an empty one; the last line may end or not.

    Raises:
        NotFound, InvalidInput: no such file, or no text.
    """
    lines = read_text(path, "a label a line").split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() or None for line in lines]


def claims_by_file(path: Path) -> dict[str, str | None]:
    """File → the label that it is claimed to have, of a table with a header.

    Raises:
        NotFound, InvalidInput: no such file, no columns of files and labels, or a file that is
            listed with two labels.
    """
    claims: dict[str, str | None] = {}
    for place, file, value in _rows(path):
        if not isinstance(file, str) or not file:
            raise InvalidInput(f"{path}, {place}: expected the path of an image, got {file!r:.60}")
        name, label = PurePath(file).as_posix(), label_name(value, None, f"{path}, {place}")
        if claims.setdefault(name, label) != label:
            raise InvalidInput(
                f"{path}, {place}: {file} is claimed to be {claims[name]!r} and {label!r}"
            )
    if not claims:
        raise InvalidInput(f"{path}: expected rows of files and labels, got none")
    return claims


def _rows(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """(place, file, label) of each row."""
    table = open_table(path, "a table with the columns file and label")
    label = _CLAIMED if _CLAIMED in table.header else None
    columns = set_columns(str(path), table.header, None, label)
    if columns.label is None:
        raise InvalidInput(
            f"{path}: expected the columns file and claimed (or label); this has the columns "
            f"{', '.join(table.header)}"
        )
    for place, (file, value) in table.rows((columns.image, columns.label)):
        yield place, file, value
