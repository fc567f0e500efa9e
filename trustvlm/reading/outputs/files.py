"""Tables of probabilities that another classifier gives for the labels of images."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.outputs.probabilities import row_problem
from trustvlm.reading.sets.columns import IMAGE_COLUMNS, folded, only_column
from trustvlm.reading.tables import open_table

OUTPUT_TABLES = (".csv", ".tsv", ".parquet")
_LONG = ("label", "probability")
_EXPECTED = (
    "expected a column file and a column for each label, or the columns file, label and probability"
)


def outputs_by_file(path: Path) -> dict[str, dict[str, float]]:
    """File → label → probability, of a table with a column for each label, whose empty cells leave
    a label out, or with a row for each file and label.

    Raises:
        NotFound, InvalidInput: no such file, other columns, a value that is no number, or a file
            or label that comes twice.
    """
    kind = path.suffix.lower()
    if kind not in OUTPUT_TABLES:
        raise InvalidInput(f"{path}: expected a table ({', '.join(OUTPUT_TABLES)}); {_EXPECTED}")
    table = open_table(path, "a table of probabilities")
    columns = _columns(path, table.header)
    outputs: dict[str, dict[str, float]] = {}
    for place, cells in table.rows(range(len(table.header))):
        file = cells[columns.file]
        if not isinstance(file, str) or not file:
            raise InvalidInput(f"{path}, {place}: expected the path of an image, got {file!r:.60}")
        name = PurePath(file).as_posix()
        if columns.long is None and name in outputs:
            raise InvalidInput(f"{path}, {place}: {file} comes twice")
        values = outputs.setdefault(name, {})
        for label, cell in columns.values(cells, f"{path}, {place}"):
            if label in values:
                raise InvalidInput(f"{path}, {place}: {label!r:.80} comes twice for {file}")
            values[label] = cell
    if not outputs:
        raise InvalidInput(f"{path}: expected rows of files and probabilities, got none")
    for name, row in outputs.items():
        if (problem := row_problem(row.values())) is not None:
            raise InvalidInput(f"{path}: {name}: {problem}")
    return outputs


@dataclass(frozen=True)
class _Columns:
    """Places of the columns: of files; of labels by name, or in `long` form of label and value."""

    file: int
    labels: dict[str, int]
    long: tuple[int, int] | None

    def values(self, cells: Sequence[Any], what: str) -> Iterator[tuple[str, float]]:
        """(label, probability) of a row. Raises InvalidInput: a value is no number."""
        if self.long is not None:
            label, value = (cells[at] for at in self.long)
            if not isinstance(label, str) or not label:
                raise InvalidInput(f"{what}: expected the name of a label, got {label!r:.60}")
            yield label, _number(value, f"{what}: {label}")
            return
        for label, at in self.labels.items():
            if cells[at] not in (None, ""):
                yield label, _number(cells[at], f"{what}: {label}")


def _columns(path: Path, header: list[str]) -> _Columns:
    names = [folded(name) for name in header]
    usual = next((one for one in IMAGE_COLUMNS if one in names), None)
    if usual is None or len(header) < 2:
        raise InvalidInput(f"{path}: {_EXPECTED}; this has the columns {', '.join(header)}")
    file = only_column(str(path), header, names, usual)
    others = {name: only_column(str(path), header, header, name) for name in header}
    del others[header[file]]
    if sorted(map(folded, others)) == sorted(_LONG):
        return _Columns(file, {}, (names.index(_LONG[0]), names.index(_LONG[1])))
    return _Columns(file, others, None)


def _number(cell: Any, what: str) -> float:
    if isinstance(cell, str) and re.fullmatch(r"\d*,\d+", cell):
        cell = cell.replace(",", ".")  # a decimal comma, in a table of other separators
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        per_cent = "; 90 % is written as 0.9" if "%" in str(cell) else ""
        raise InvalidInput(f"{what}: expected a probability, got {cell!r:.60}{per_cent}")
    return value
