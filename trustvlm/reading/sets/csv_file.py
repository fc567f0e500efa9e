"""CSV and TSV files with a row for each image: its path and, where there is one, its label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.columns import SetColumns, set_columns
from trustvlm.reading.sets.rows import (
    Described,
    ImageRow,
    LabelledImages,
    ListedPath,
    Names,
    label_name,
    require_some,
)
from trustvlm.reading.tables import open_table
from trustvlm.types.attributes.values import with_decimal_commas


def csv_images(path: Path, image: str | None, label: str | None, names: Names) -> LabelledImages:
    """The images of a CSV or TSV file with a header; paths start at the file's folder.

    Raises:
        NotFound, InvalidInput: no such file, not text, or no column of images.
    """
    table = open_table(path, "a table of images (CSV with the columns file and label)")
    columns, places = set_columns(str(path), table.header, image, label), range(len(table.header))

    def read() -> Iterator[ImageRow]:
        rows = (
            _row(path, place, cells, columns, names, table.delimiter)
            for place, cells in table.rows(places)
        )
        return require_some(rows, str(path), path.parent)

    return LabelledImages(str(path), read, columns.unlabelled)


def _row(
    path: Path, place: str, cells: Sequence[str], columns: SetColumns, names: Names, delimiter: str
) -> ImageRow:
    where = f"{path}, {place}"
    if not cells[columns.image]:
        raise InvalidInput(f"{where}: expected the path of an image, got an empty cell")
    image = ListedPath.at(str(path.parent / cells[columns.image]), where)
    if columns.described:
        described = {name: cells[at] for at, name in columns.described}
        image.described = Described(where, with_decimal_commas(described, delimiter))
    value = None if columns.label is None else cells[columns.label]
    return ImageRow(image, label_name(value, names, where), where)
