"""Parquet files of strangers, read in a :class:`Sandbox`: pyarrow ends its process over some
damaged files, and others would fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.errors import InvalidInput
from trustvlm.system.sandbox import Message, Sandbox, Unreadable

if TYPE_CHECKING:
    import pyarrow

__all__ = ["ParquetFacts", "answers", "read_batches"]

_BATCH_ROWS, _BATCH_BYTES = 500, 4 * 2**20
_MEMORY, _SECONDS = 512 * 2**20, 30.0
"""What a batch may take to be read."""


@dataclass(frozen=True)
class ParquetFacts:
    """What a Parquet file says of itself: its columns, its rows, whether a column is compressed."""

    schema: pyarrow.Schema
    rows: int
    compressed: bool


def read_batches(
    path: Path, check: Callable[[ParquetFacts], None]
) -> Iterator[pyarrow.RecordBatch]:
    """The rows of a file in batches of some megabytes. `check` may refuse the file before any row
    is read.

    Raises:
        InvalidInput: it is no sound Parquet file, or a batch needs more than 512 MiB or 30 s.
    """
    import pyarrow as pa

    with closing(Sandbox(f"{__name__}:answers")) as sandbox:
        try:
            messages = sandbox.ask({"path": str(path.absolute())}, memory=_MEMORY, seconds=_SECONDS)
            facts, (schema,) = next(messages)
            check(ParquetFacts(pa.ipc.read_schema(pa.py_buffer(schema)), **facts))
            for _, (batch,) in messages:
                yield pa.ipc.open_stream(batch).read_next_batch()
        except Unreadable as error:
            raise InvalidInput(f"{path}: {error}") from error


def answers(request: dict[str, Any], parts: list[bytearray]) -> Iterator[Message]:
    """Answer, in the sandbox, with what the file "path" says of itself, then with its batches, each
    an Arrow stream.

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
        for number, group in enumerate(groups):
            row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
            for batch in file.iter_batches(size, row_groups=[number], use_threads=False):
                batch.validate(full=True)
                output = pa.BufferOutputStream()
                with pa.ipc.new_stream(output, batch.schema) as writer:
                    writer.write_batch(batch)
                yield {}, [output.getvalue()]
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"it is no sound Parquet file: {reason:.200}") from error
