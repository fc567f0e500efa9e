"""A script, run by its path: the rows of a Parquet file of labels, from stdin to stdout, in pieces
of bounded size.

It imports nothing of trustvlm, so that it starts in a tenth of a second. Argument: how many rows to
leave out. The file may be a stranger's: pyarrow ends the process over some damaged ones, and others
would make it take memory without end, so this one has a limit, and
:mod:`trustvlm.service.transfer.label_file` believes nothing but what it wrote.

A piece is the length of its head (4 bytes), the head (JSON), and the vectors that the head
describes, as raw bytes. The first head has "total", the file's rows; the last one "end", or "error"
and why.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

MEMORY = 512 * 2**20  # bytes that it may take more than it has when it begins
BATCH_ROWS, BATCH_BYTES = 500, 4 * 2**20  # a piece is about so large …
MOST_BYTES = 64 * 2**20  # … and never larger, whatever a file packs into a row
MOST_RATIO, FREE_BYTES = 100, 256 * 2**20  # unpacked / packed, beyond what is free
NAME, PROMPT = TEXTS = ("name", "prompt")
VECTORS = {"text_vector": (1, 2), "image_vectors": (2,), "classifier_image_vectors": (2,)}
"""The columns of vectors, and how deep their lists may be."""


class Unsound(Exception):
    """The file is not what is taken; the message says why."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # no /proc: no limit
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    try:
        read(int(sys.argv[1]))
        tell({"end": True})
    except Unsound as error:
        tell({"error": str(error)})
    except MemoryError:
        tell({"error": f"its rows need more than {MEMORY >> 20} MiB of memory to be read"})
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        tell({"error": f"it is no sound Parquet file: {reason:.200}"})
    os._exit(0)


def tell(head: dict[str, Any], *bodies: bytes) -> None:
    """Write one piece; waits until the parent takes it."""
    text = json.dumps(head).encode(errors="replace")
    for part in (len(text).to_bytes(4, "big"), text, *bodies):
        left = memoryview(part)
        while left:
            left = left[os.write(1, left) :]


def read(skip: int) -> None:
    """Tell every row behind the first `skip`. Aborts where pyarrow does."""
    size = os.fstat(0).st_size
    file = pa.parquet.ParquetFile(
        "/dev/stdin", pre_buffer=False, buffer_size=2**20, page_checksum_verification=True
    )
    rows = file.metadata.num_rows
    check_columns(file.schema_arrow)
    if not 0 <= rows <= size:
        raise Unsound(f"it claims {rows} rows in {size} bytes")
    if skip > rows:
        raise Unsound(f"it has {rows} rows, but {skip} were committed before: it is another one")
    tell({"total": rows})
    unpacked, most = 0, MOST_RATIO * size + FREE_BYTES
    for first, batch in batches(file, skip):
        unpacked += batch.nbytes
        if batch.nbytes > MOST_BYTES or unpacked > most:
            limit = f"{MOST_BYTES >> 20} MiB, or {MOST_RATIO} times its size in all"
            raise Unsound(
                f"from row {first + 1} on, {batch.num_rows} rows unpack to {batch.nbytes} "
                f"bytes; the limit is {limit}"
            )
        tell_rows(first, batch)


def check_columns(schema: pa.Schema) -> None:
    """Raises Unsound for columns that are missing, not known, or of another type."""
    known = (*TEXTS, *VECTORS)
    for name in schema.names:
        if name not in known:
            raise Unsound(f"it has the column {name!r:.80}; expected some of {', '.join(known)}")
    if NAME not in schema.names or len(set(schema.names)) < len(schema.names):
        raise Unsound(
            f"expected the column 'name', and no column twice; got {', '.join(schema.names)!r:.200}"
        )
    for field in schema:
        kind, depth = field.type, 0
        if field.name in TEXTS:
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise Unsound(f"column {field.name}: expected texts, got {str(field.type)!r:.80}")
            continue
        while is_list(kind):
            kind, depth = kind.value_type, depth + 1
        if depth not in VECTORS[field.name] or not (
            pa.types.is_floating(kind) or pa.types.is_integer(kind)
        ):
            expected = " or ".join("lists of " * depth + "numbers" for depth in VECTORS[field.name])
            raise Unsound(f"column {field.name}: expected {expected}, got {str(field.type)!r:.80}")


def is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def batches(file: pa.parquet.ParquetFile, skip: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number of its first row, from 0; rows), without the first `skip` rows: whole row groups of
    these are not read."""
    first = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if first + group.num_rows <= skip:
            first += group.num_rows
            continue
        each = max(1, group.total_byte_size // max(1, group.num_rows))
        at_once = max(1, min(BATCH_ROWS, BATCH_BYTES // each))
        for batch in file.iter_batches(batch_size=at_once, row_groups=[number], use_threads=False):
            batch.validate(full=True)
            behind = batch.slice(max(0, skip - first))
            if behind.num_rows:
                yield first + batch.num_rows - behind.num_rows, behind
            first += batch.num_rows


def tell_rows(first: int, batch: pa.RecordBatch) -> None:
    """One piece with these rows. Raises Unsound, naming the row, counted from 1."""
    head: dict[str, Any] = {"rows": batch.num_rows}
    bodies = []
    for place, name in enumerate(batch.schema.names):
        column = batch.column(place)
        if name in TEXTS:
            column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            head[name] = column.to_pylist()
            if name == NAME and None in head[name]:
                raise Unsound(f"row {first + head[name].index(None) + 1}: it has no name")
            continue
        try:
            shapes, body, dtype = cells(column)
        except Unsound as error:
            raise Unsound(
                f"{name}, in rows {first + 1} to {first + batch.num_rows}: {error}"
            ) from error
        head[name] = {"shapes": shapes, "dtype": dtype, "bytes": len(body)}
        bodies.append(body)
    tell(head, *bodies)


def cells(column: pa.Array) -> tuple[list[list[int] | None], bytes, str]:
    """Of a column of vectors or of lists of vectors: each row's shape (None: it is empty), all
    values, their dtype."""
    outer = pa.compute.list_value_length(column).to_pylist()
    inner = column.flatten()
    shapes: list[list[int] | None] = [None if length is None else [length] for length in outer]
    if is_list(inner.type):
        if inner.null_count:
            raise Unsound("a vector is missing")
        widths, at = pa.compute.list_value_length(inner).to_pylist(), 0
        for row, length in enumerate(outer):
            if length is None:
                continue
            own = set(widths[at : at + length])
            at += length
            if len(own) > 1:
                raise Unsound(
                    f"expected vectors of one length for a label, got {min(own)} and {max(own)} "
                    f"values"
                )
            shapes[row] = [length, *own] if own else [0, 0]
        inner = inner.flatten()
    if inner.null_count:
        raise Unsound("a vector has missing values")
    kind = pa.float32() if pa.types.is_float16(inner.type) else inner.type
    values = inner.cast(kind if pa.types.is_floating(kind) else pa.float64()).to_numpy(
        zero_copy_only=False
    )
    return shapes, values.tobytes(), values.dtype.str


if __name__ == "__main__":
    main()
