"""Labels with vectors from a file: lines of JSON, or the rows of a Parquet file.

A row has the fields of :class:`trustvlm.LabelInput` that are no images: ``name`` (text, always),
``prompt`` and ``parent`` (texts), ``text_vector`` (a list of numbers, or one list a template),
``image_vectors`` and ``classifier_image_vectors`` (lists of vectors), ``attributes`` (an object;
columns ``attr.KEY`` stand for single keys) and ``image_attributes`` (a list of objects). In
Parquet, lists may be of fixed size and numbers of any width, objects may be JSON texts; the file
may be compressed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.parquet import is_list, is_number, is_text, read_batches
from trustvlm.types import LabelInput
from trustvlm.types.attributes.values import is_column, once_each, parse_value, row_attributes
from trustvlm.types.bounds import path_of
from trustvlm.types.messages.meant import did_you_mean

if TYPE_CHECKING:
    import pyarrow

JSON_LINES, PARQUET = (".ndjson", ".jsonl"), (".parquet",)
"""How such files are called."""

_TEXTS = ("name", "prompt", "parent")
_OBJECTS = ("attributes", "image_attributes")
_VECTORS = {"text_vector": (1, 2), "image_vectors": (2,), "classifier_image_vectors": (2,)}
"""The columns of vectors, and how deep their lists may be."""

_LINE_BYTES = 64 * 2**20


def read_labels(path: str | PathLike[str]) -> Iterator[LabelInput]:
    """The labels of an .ndjson, .jsonl or .parquet file, read as they are asked for.

    >>> service.register("products", trustvlm.read_labels("labels.parquet"))  # doctest: +SKIP

    Raises:
        NotFound: no such file. InvalidInput: another kind of file, or, when its turn comes, a row
            that is no label.
    """
    path = path_of("path", path)
    if not path.is_file():
        raise (InvalidInput if path.exists() else NotFound)(f"{path}: expected a file of labels")
    if path.suffix.lower() in JSON_LINES:
        return _of_lines(path)
    if path.suffix.lower() in PARQUET:
        return _of_parquet(path)
    expected = ", ".join((*JSON_LINES, *PARQUET))
    raise InvalidInput(f"{path}: expected a file of labels, whose name ends with {expected}")


def _of_lines(path: Path) -> Iterator[LabelInput]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LINE_BYTES + 1):
            number += 1
            if len(line) > _LINE_BYTES:
                raise InvalidInput(f"{path}, line {number}: expected at most {_LINE_BYTES} bytes")
            if line.strip():
                try:
                    label = _label(json.loads(line, object_pairs_hook=once_each))
                except (ValueError, RecursionError) as error:
                    raise InvalidInput(f"{path}, line {number}: {error}") from error
                yield label


def _label(fields: object) -> LabelInput:
    """One line's label. Raises InvalidInput."""
    if not isinstance(fields, dict):
        raise InvalidInput("expected a JSON object with the fields of a label")
    for name in fields:
        _check_field(name)
    if not isinstance(fields.get("name"), str):
        raise InvalidInput(f"name: expected text, got {fields.get('name')!r:.80}")
    for name in _VECTORS.keys() & fields.keys():
        if fields[name] is not None:
            try:
                fields[name] = np.array(fields[name], dtype=np.float64)
            except (ValueError, TypeError) as error:
                raise InvalidInput(f"{name}: expected lists of numbers of one length") from error
    return LabelInput(**_described(fields))


def _described(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a label, its attributes as one mapping. Raises InvalidInput."""
    attributes = row_attributes(fields, "")
    others = {name: value for name, value in fields.items() if not is_column(name)}
    images = others.get("image_attributes")
    if isinstance(images, str):
        others["image_attributes"] = parse_value(images)
    return others | ({} if attributes is None else {"attributes": attributes})


def _check_field(name: str, where: str = "") -> None:
    fields = (*_TEXTS, *_VECTORS, *_OBJECTS)
    if name not in fields and not is_column(name):
        some = f"expected some of {', '.join(fields)}{did_you_mean(name, fields)}"
        raise InvalidInput(f"{where}{name!r:.80} is not a field of a label; {some}")


def _of_parquet(path: Path) -> Iterator[LabelInput]:
    first = 1
    for batch in read_batches(path, lambda facts: _check_columns(path, facts.schema)):
        try:
            columns = {name: _cells(name, batch.column(name)) for name in batch.schema.names}
        except InvalidInput as error:
            rows = f"rows {first} to {first + batch.num_rows - 1}"
            raise InvalidInput(f"{path}, {rows}: {error}") from error
        for row in range(batch.num_rows):
            fields = {name: cells[row] for name, cells in columns.items()}
            try:
                yield LabelInput(**_described(fields))
            except InvalidInput as error:
                raise InvalidInput(f"{path}, row {first + row}: {error}") from error
        first += batch.num_rows


def _check_columns(path: Path, schema: pyarrow.Schema) -> None:
    """Raises InvalidInput for columns that are missing, not known, or of another type."""
    for name in schema.names:
        _check_field(name, f"{path}: ")
    if "name" not in schema.names or len(set(schema.names)) < len(schema.names):
        columns = ", ".join(schema.names)
        raise InvalidInput(f"{path}: expected a column name, and no column twice; got {columns}")
    for field in schema:
        if field.name in _OBJECTS or is_column(field.name):
            continue  # each cell is looked at
        kind, depth = field.type, 0
        while is_list(kind):
            kind, depth = kind.value_type, depth + 1
        if field.name in _TEXTS:
            fits, expected = depth == 0 and is_text(kind), "texts"
        else:
            fits = depth in _VECTORS[field.name] and is_number(kind)
            lists = ("lists of " * deep + "numbers" for deep in _VECTORS[field.name])
            expected = " or ".join(lists)
        if not fits:
            what = f"{path}: column {field.name}"
            raise InvalidInput(f"{what}: expected {expected}, got {field.type!s:.80}")


def _cells(name: str, column: pyarrow.Array) -> list[Any]:
    """The values of a column, one a row. Raises InvalidInput."""
    if name in _OBJECTS or is_column(name):
        return list(column.to_pylist())
    if name not in _TEXTS:
        return [_vectors(cell.values) if cell.is_valid else None for cell in column]
    if name == "name" and column.null_count:
        raise InvalidInput("a row has no name")
    return list(column.to_pylist())


def _vectors(cell: pyarrow.Array) -> npt.NDArray[Any]:
    """A vector, or the vectors, of one row. Raises InvalidInput."""
    import pyarrow as pa

    shape = [len(cell)]
    if is_list(cell.type):
        if cell.null_count:
            raise InvalidInput("a vector is missing")
        lengths = {len(vector) for vector in cell}
        if len(lengths) > 1:
            raise InvalidInput(
                f"expected vectors of one length for a label, got {min(lengths)} and "
                f"{max(lengths)} values"
            )
        shape += lengths or {0}
        cell = cell.flatten()
    if cell.null_count:
        raise InvalidInput("a vector has missing values")
    if pa.types.is_integer(cell.type):
        cell = cell.cast(pa.float64())
    values: npt.NDArray[Any] = cell.to_numpy(zero_copy_only=False)
    return values.reshape(shape)
