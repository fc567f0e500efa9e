"""Arrow tables with a row for each image: a path, the bytes of a file, or the structure {bytes,
path} of Hugging Face; Parquet files, and tables of pandas, polars, pyarrow and others in memory;
data sets of Hugging Face, whose image files are read as they are stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.parquet import ParquetFacts, is_list, is_number, is_text, read_batches
from trustvlm.reading.sets.columns import set_columns
from trustvlm.reading.sets.rows import (
    Described,
    FileBytes,
    ImageRow,
    LabelledImages,
    ListedPath,
    Names,
    label_name,
    require_some,
)
from trustvlm.types.messages.counts import a_or_an

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS = 64


@dataclass(frozen=True, eq=False)
class ArrowSet:
    """How the rows of Arrow batches become images.

    Attributes:
        origin: what it is, in words. folder: where paths start.
        image, label: names of columns; label None: there is none.
        names: of the labels by number. described: columns of parents and attributes, and how they
            are called in :class:`Described`.
    """

    origin: str
    folder: Path
    image: str
    label: str | None
    names: Names
    described: tuple[tuple[str, str], ...] = ()

    def rows(self, batches: Iterable[pyarrow.RecordBatch | pyarrow.Table]) -> Iterator[ImageRow]:
        """The images of batches, one after the other."""
        return require_some(self._rows(batches), self.origin, self.folder)

    def _rows(self, batches: Iterable[Any]) -> Iterator[ImageRow]:
        number = 0
        for batch in batches:
            labels = None if self.label is None else batch.column(self.label)
            besides = [(name, batch.column(column)) for column, name in self.described]
            for row, cell in enumerate(batch.column(self.image)):
                place = f"{self.origin}, row {number}"
                value = None if labels is None else labels[row].as_py()
                image = self.image_of(cell.as_py(), place, number)
                if besides:
                    cells = {name: column[row].as_py() for name, column in besides}
                    image.described = Described(place, cells)
                yield ImageRow(image, label_name(value, self.names, place), place)
                number += 1

    def image_of(self, value: Any, place: str, number: int) -> ListedPath | FileBytes:
        """The image of a cell of row `number`. Raises InvalidInput: there is none."""
        name = f"{self.origin}[{number}]"
        if isinstance(value, dict):  # of Hugging Face: the path is but a name where there are bytes
            content, path = value["bytes"], value["path"]
            value, name = (path, name) if content is None else (content, path or name)
        if isinstance(value, bytes):
            return FileBytes.named(value, name)
        if not value:
            raise InvalidInput(f"{place}: expected an image, got none")
        return ListedPath.at(str(self.folder / value), place)


def parquet_images(
    path: Path, image: str | None, label: str | None, names: Names
) -> LabelledImages:
    """The images of a Parquet file; paths start at the file's folder. Raises InvalidInput: no sound
    Parquet file, or no column of images."""
    sets: list[tuple[ArrowSet, str | None]] = []

    def look(facts: ParquetFacts) -> None:
        sets.append(_set_of(str(path), path.parent, facts.schema, image, label, names))

    begun = read_batches(path, look)
    begun = chain(list(islice(begun, 1)), begun)  # the schema is looked at before the first batch
    arrow_set, unlabelled = sets[0]
    waiting = [begun]

    def read() -> Iterator[ImageRow]:
        return arrow_set.rows(waiting.pop() if waiting else read_batches(path, look))

    return LabelledImages(str(path), read, unlabelled)


def table_images(table: Any, image: str | None, label: str | None, names: Names) -> LabelledImages:
    """The images of a table in memory; paths start at the working directory.

    Raises:
        InvalidInput: no column of images, or one that Arrow does not take.
    """
    import pyarrow as pa

    origin = f"{type(table).__module__.partition('.')[0]} table"
    try:
        schema = pa.RecordBatchReader.from_stream(table).schema
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput(f"{origin}: Arrow does not take it: {reason:.200}") from error
    arrow_set, unlabelled = _set_of(origin, Path(), schema, image, label, names)
    return LabelledImages(
        origin, lambda: arrow_set.rows(pa.RecordBatchReader.from_stream(table)), unlabelled
    )


def arrow_set(origin: str, folder: Path, schema: pyarrow.Schema) -> ArrowSet:
    """How the rows of a table become images, by the usual names of its columns; paths start at
    `folder`. Raises InvalidInput: no column of images."""
    return _set_of(origin, folder, schema, None, None, None)[0]


def is_table(values: Any) -> bool:
    """Whether `values` are a table in memory, with other columns than numbers and vectors. Raises
    InvalidInput: the plan of one that polars has not made yet."""
    if callable(getattr(values, "collect_schema", None)) and hasattr(values, "collect"):
        raise InvalidInput(
            f"expected a table, got the plan of one, a {type(values).__name__}; call .collect()"
        )
    columns = getattr(values, "column_names", None)
    if columns is None:
        columns = getattr(values, "columns", None)
    if columns is None or not hasattr(values, "__arrow_c_stream__"):
        return False  # a single column, for instance
    import pyarrow as pa

    try:
        kinds = pa.RecordBatchReader.from_stream(values).schema.types
    except (pa.ArrowException, TypeError, ValueError):  # reading it as a table says so
        return True
    return not all(map(_is_numeric, kinds))


def is_dataset(values: Any) -> bool:
    """Whether `values` is a data set of Hugging Face. Raises InvalidInput: several of them."""
    datasets = sys.modules.get("datasets")  # a caller with a data set has imported it
    if datasets is None:
        return False
    if isinstance(values, datasets.DatasetDict | datasets.IterableDatasetDict):
        parts = ", ".join(map(repr, values))
        raise InvalidInput(
            f"expected one data set, got {a_or_an(type(values).__name__)} of {parts}; name one: "
            f"dataset[{next(iter(values), 'train')!r}]"
        )
    return isinstance(values, datasets.Dataset | datasets.IterableDataset)


def dataset_images(
    dataset: Any, image: str | None, label: str | None, names: Names
) -> LabelledImages:
    """The images of a data set: of its only Image column and its only ClassLabel column, else of
    the usual or the named ones.

    Raises:
        InvalidInput: no such columns, or a data set that does not know its columns.
    """
    features = dataset.features
    if features is None:
        raise InvalidInput(
            "data set: its columns are not known; give it features=…, or call .take(n) on a part"
        )

    def batches() -> Iterable[Any]:
        rows: Iterable[Any] = dataset.with_format("arrow").iter(_BATCH_ROWS)
        return rows

    arrow_set, unlabelled = _set_of("data set", Path(), features.arrow_schema, image, label, names)
    return LabelledImages("data set", lambda: arrow_set.rows(batches()), unlabelled)


def _set_of(
    origin: str, folder: Path, schema: pyarrow.Schema, image: str | None, label: str | None,
    names: Names,
) -> tuple[ArrowSet, str | None]:  # fmt: skip
    """(how rows become images, why there are no labels). Raises InvalidInput."""
    features = _features(schema)
    image, label = image or _only(features, "Image"), label or _only(features, "ClassLabel")
    columns = set_columns(origin, schema.names, image, label)
    image_field = schema.field(columns.image)
    if not _holds_images(image_field.type):
        raise InvalidInput(
            f"{origin}: column {image_field.name}: expected paths, the bytes of image files or "
            f"structures of bytes and path, got {image_field.type!s:.80}"
        )
    described = tuple((schema.names[place], name) for place, name in columns.described)
    if columns.label is None:
        arrow_set = ArrowSet(origin, folder, image_field.name, None, names, described)
        return arrow_set, columns.unlabelled
    label_field = schema.field(columns.label)
    if not _holds_labels(label_field.type):
        raise InvalidInput(
            f"{origin}: column {label_field.name}: expected names or numbers of labels, got "
            f"{label_field.type!s:.80}"
        )
    names = _class_names(features, label_field.name) if names is None else names
    return ArrowSet(origin, folder, image_field.name, label_field.name, names, described), None


def _features(schema: pyarrow.Schema) -> dict[str, dict[str, Any]]:
    """What Hugging Face says of each column, beside the schema: its `_type`, and names of labels;
    nothing where it says nothing."""
    try:
        content = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = content["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):  # foreign bytes, and not needed
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: one for name, one in features.items() if isinstance(one, dict)}


def _only(features: dict[str, dict[str, Any]], kind: str) -> str | None:
    """The column of a kind, where there is one only."""
    columns = [name for name, one in features.items() if one.get("_type") == kind]
    return columns[0] if len(columns) == 1 else None


def _class_names(features: dict[str, dict[str, Any]], column: str) -> list[str] | None:
    names = features.get(column, {}).get("names")
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else None


def _holds_images(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return {"bytes", "path"} <= {field.name for field in kind}
    return is_text(kind) or _is_binary(kind)


def _holds_labels(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return is_text(kind) or types.is_integer(kind) or types.is_null(kind)


def _is_numeric(kind: pyarrow.DataType) -> bool:
    while is_list(kind):
        kind = kind.value_type
    return is_number(kind)


def _is_binary(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return any(of(kind) for of in (types.is_binary, types.is_large_binary, types.is_binary_view))
