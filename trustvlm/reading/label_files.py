"""Labels with vectors from a file: lines of JSON, or the rows of a Parquet file.

A row has the fields of :class:`trustvlm.LabelInput` that are no images: ``name`` (text, always),
``prompt`` (text), ``text_vector`` (a list of numbers, or one list a template), ``image_vectors``
and ``classifier_image_vectors`` (lists of vectors). In Parquet, lists may be of fixed size and
numbers of any width; the file may be compressed. A :class:`Sandbox` reads it: pyarrow ends its
process over some damaged files, and others would fill the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.system.sandbox import Message, Sandbox, Unreadable
from trustvlm.types import LabelInput

if TYPE_CHECKING:
    import pyarrow

__all__ = ["JSON_LINES", "PARQUET", "parquet_batches", "read_labels"]

JSON_LINES, PARQUET = (".ndjson", ".jsonl"), (".parquet",)
"""How such files are called."""

_TEXTS = ("name", "prompt")
_VECTORS = {"text_vector": (1, 2), "image_vectors": (2,), "classifier_image_vectors": (2,)}
"""The columns of vectors, and how deep their lists may be."""

_LINE_BYTES = 64 * 2**20
_BATCH_ROWS, _BATCH_BYTES = 500, 4 * 2**20
_MEMORY, _SECONDS = 512 * 2**20, 30.0
"""What a batch of rows may take to be read."""


def read_labels(path: str | PathLike[str]) -> Iterator[LabelInput]:
    """The labels of an .ndjson, .jsonl or .parquet file, read as they are asked for.

    >>> service.register("products", trustvlm.read_labels("labels.parquet"))  # doctest: +SKIP

    Raises:
        NotFound: no such file. InvalidInput: another kind of file, or, when its turn comes, a row
            that is no label.
    """
    path = Path(path)
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
                    label = _label(json.loads(line, object_pairs_hook=_fields))
                except (ValueError, RecursionError) as error:
                    raise InvalidInput(f"{path}, line {number}: {error}") from error
                yield label


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise InvalidInput("a field is given twice in one JSON object")
    return fields


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
    return LabelInput(**fields)


def _check_field(name: str) -> None:
    known = (*_TEXTS, *_VECTORS)
    if name not in known:
        meant = get_close_matches(name, known, 1)
        hint = f"did you mean {meant[0]!r}?" if meant else f"expected some of {', '.join(known)}"
        raise InvalidInput(f"{name!r:.80} is not a field of a label; {hint}")


def _of_parquet(path: Path) -> Iterator[LabelInput]:
    import pyarrow as pa

    first = 1
    with closing(Sandbox(f"{__name__}:parquet_batches")) as sandbox:
        try:
            request = {"path": str(path.absolute())}
            for _, (part,) in sandbox.ask(request, memory=_MEMORY, seconds=_SECONDS):
                batch = pa.ipc.open_stream(part).read_next_batch()
                columns = {name: _cells(name, batch.column(name)) for name in batch.schema.names}
                for row in range(batch.num_rows):
                    yield LabelInput(**{name: cells[row] for name, cells in columns.items()})
                first += batch.num_rows
        except Unreadable as error:
            raise InvalidInput(f"{path}: {error}") from error
        except InvalidInput as error:
            raise InvalidInput(f"{path}, in the rows from {first} on: {error}") from error


def parquet_batches(request: dict[str, Any], parts: list[bytearray]) -> Iterator[Message]:
    """Answer, in a :class:`Sandbox`, with the rows of the Parquet file "path", a batch at a time as
    an Arrow stream.

    Raises:
        Unreadable: it is none, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(request["path"], pre_buffer=False, page_checksum_verification=True)
        _check_columns(file.schema_arrow)
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            row_bytes = group.total_byte_size // max(1, group.num_rows)
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, row_bytes)))
            for batch in file.iter_batches(size, row_groups=[number], use_threads=False):
                batch.validate(full=True)
                output = pa.BufferOutputStream()
                with pa.ipc.new_stream(output, batch.schema) as writer:
                    writer.write_batch(batch)
                yield {}, [output.getvalue()]
    except InvalidInput as error:
        raise Unreadable(str(error)) from error
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"it is no sound Parquet file: {reason:.200}") from error


def _check_columns(schema: pyarrow.Schema) -> None:
    """Raises InvalidInput for columns that are missing, not known, or of another type."""
    import pyarrow as pa

    for name in schema.names:
        _check_field(name)
    if "name" not in schema.names or len(set(schema.names)) < len(schema.names):
        columns = ", ".join(schema.names)
        raise InvalidInput(f"expected a column name, and no column twice; got {columns:.200}")
    for field in schema:
        kind, depth = field.type, 0
        if field.name in _TEXTS:
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise InvalidInput(f"column {field.name}: expected texts, got {field.type!s:.80}")
            continue
        while _is_list(kind):
            kind, depth = kind.value_type, depth + 1
        numbers = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if depth not in _VECTORS[field.name] or not numbers:
            lists = " or ".join("lists of " * deep + "numbers" for deep in _VECTORS[field.name])
            raise InvalidInput(f"column {field.name}: expected {lists}, got {field.type!s:.80}")


def _is_list(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(of_kind(kind) for of_kind in kinds)


def _cells(name: str, column: pyarrow.Array) -> list[Any]:
    """The values of a column, one a row. Raises InvalidInput."""
    if name not in _TEXTS:
        return [_vectors(cell.values) if cell.is_valid else None for cell in column]
    if name == "name" and column.null_count:
        raise InvalidInput("a row has no name")
    return list(column.to_pylist())


def _vectors(cell: pyarrow.Array) -> npt.NDArray[Any]:
    """A vector, or the vectors, of one row. Raises InvalidInput."""
    import pyarrow as pa

    shape = [len(cell)]
    if _is_list(cell.type):
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
