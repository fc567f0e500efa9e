"""Parquet files of strangers, read in a :class:`Sandbox`: pyarrow ends its process over some
damaged files, and others would fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.errors import InvalidInput
from trustvlm.system.sandbox import Message, Sandbox, Unreadable
from trustvlm.system.sandbox_pool import borrow, give_back

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS, _BATCH_BYTES = 500, 4 * 2**20
_MEMORY, _SECONDS = 512 * 2**20, 30.0
"""What a batch may take to be read."""
_SKIP_SECONDS = 600.0
"""What the rows before the first one that is wanted may take."""


@dataclass(frozen=True)
class ParquetFacts:
    """What a Parquet file says of itself: its columns, its rows, whether a column is compressed."""

    schema: pyarrow.Schema
    rows: int
    compressed: bool


class ParquetFiles:
    """Reads Parquet files, one after the other, in one sandbox; close it. A file that ends the
    sandbox is reported, and the next one has a new one."""

    def __init__(self, seconds: float = _SKIP_SECONDS) -> None:
        self._sandbox: Sandbox | None = None
        self._seconds = seconds

    def facts(self, path: Path) -> ParquetFacts:
        """What a file says of itself. Raises InvalidInput: it is no sound Parquet file."""
        ((facts, _),) = self.messages(path, {"start": 0, "stop": 0})
        return facts

    def batches(
        self, path: Path, columns: Sequence[str], start: int, stop: int
    ) -> Iterator[pyarrow.RecordBatch]:
        """Some columns of the rows start … stop, in batches of some megabytes.

        Raises:
            InvalidInput: it is no sound Parquet file, lacks a column, or a batch needs more than
                512 MiB or 10 minutes.
        """
        request = {"start": start, "stop": stop, "columns": list(columns)}
        for facts, batch in self.messages(path, request):
            if missing := [name for name in columns if name not in facts.schema.names]:
                raise InvalidInput(f"{path}: it has no column {missing[0]!r} any more")
            if batch is not None:
                yield batch

    def close(self) -> None:
        """Give the sandbox back."""
        if self._sandbox is not None:
            give_back(self._sandbox)
            self._sandbox = None

    def messages(
        self, path: Path, request: dict[str, Any]
    ) -> Iterator[tuple[ParquetFacts, pyarrow.RecordBatch | None]]:
        """(what the file says, nothing), then (the same, a batch) for each batch."""
        import pyarrow as pa

        if self._sandbox is None or not self._sandbox.usable:
            self.close()
            self._sandbox = borrow(f"{__name__}:answers")
        request["path"] = str(path.absolute())
        try:
            messages = self._sandbox.ask(request, memory=_MEMORY, seconds=self._seconds)
            said, (schema,) = next(messages)
            facts = ParquetFacts(pa.ipc.read_schema(pa.py_buffer(schema)), **said)
            yield facts, None
            for _, (batch,) in messages:
                yield facts, pa.ipc.open_stream(batch).read_next_batch()
        except Unreadable as error:
            raise InvalidInput(f"{path}: {error}") from error


def read_batches(
    path: Path, check: Callable[[ParquetFacts], None]
) -> Iterator[pyarrow.RecordBatch]:
    """The rows of a file in batches of some megabytes. `check` may refuse the file before any row
    is read.

    Raises:
        InvalidInput: it is no sound Parquet file, or a batch needs more than 512 MiB or 30 s.
    """
    with closing(ParquetFiles(_SECONDS)) as files:
        for facts, batch in files.messages(path, {}):
            if batch is None:
                check(facts)
            else:
                yield batch


def is_list(kind: pyarrow.DataType) -> bool:
    """Whether a column holds lists, of any or of fixed length."""
    from pyarrow import types

    kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(of_kind(kind) for of_kind in kinds)


def is_number(kind: pyarrow.DataType) -> bool:
    """Whether a column holds numbers."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def is_text(kind: pyarrow.DataType) -> bool:
    """Whether a column holds texts, each for itself or by number."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(of(kind) for of in (types.is_string, types.is_large_string, types.is_string_view))


def answers(request: dict[str, Any], parts: list[bytearray]) -> Iterator[Message]:
    """Answer, in the sandbox, with what the file "path" says of itself, then with its batches, each
    an Arrow stream: of all rows, or of those from "start" to "stop"; of all columns, or of those in
    "columns" that there are.

    Raises:
        Unreadable: it is no sound Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    options: dict[str, Any] = {"pre_buffer": False, "buffer_size": 2**20}
    try:
        file = pq.ParquetFile(request["path"], page_checksum_verification=True, **options)
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        columns = (group.column(place) for group in groups for place in range(group.num_columns))
        compressed = any(column.compression != "UNCOMPRESSED" for column in columns)
        facts = {"rows": file.metadata.num_rows, "compressed": compressed}
        yield facts, [file.schema_arrow.serialize()]
        for part in _parts(file, request):
            part.validate(full=True)
            output = pa.BufferOutputStream()
            with pa.ipc.new_stream(output, part.schema) as writer:
                writer.write_batch(part)
            yield {}, [output.getvalue()]
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"it is no sound Parquet file: {reason:.200}") from error


def _parts(file: Any, request: dict[str, Any]) -> Iterator[pyarrow.RecordBatch]:
    """The rows and columns of an open file that a request names, in batches of some megabytes."""
    start, stop = request.get("start", 0), request.get("stop", file.metadata.num_rows)
    wanted = request.get("columns")
    if wanted is not None:
        wanted = [name for name in file.schema_arrow.names if name in wanted]
    end = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        row, end = end, end + group.num_rows
        if end <= start or row >= stop or row == end:
            continue
        row_bytes = max(1, group.total_byte_size // group.num_rows)
        size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
        options = {"row_groups": [number], "columns": wanted, "use_threads": False}
        for batch in file.iter_batches(size, **options):
            first, last = max(start - row, 0), min(stop - row, len(batch))
            row += len(batch)
            if first < last:
                yield batch.slice(first, last - first)
            if row >= stop:
                break
