"""A script, run by its path: read Parquet files to the end with little memory, as
trustvlm.service.transfer.read_export will.

It imports nothing of trustvlm, so that it starts in a tenth of a second. Arguments: rows at a time,
then the files. Exit code 3: a file is not sound; stdout says why.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow
import pyarrow.parquet

MEMORY = 2**30  # bytes that it may take more than it has when it begins
REFUSED = 3


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # no /proc: no limit
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    try:
        for path in sys.argv[2:]:
            read(path, int(sys.argv[1]))
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        os.write(1, f"{path} is no sound Parquet file: {reason:.200}".encode(errors="replace"))
        os._exit(REFUSED)
    os._exit(0)


def read(path: str, rows: int) -> None:
    """Touch everything that the reader touches. Aborts where pyarrow does."""
    file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            _ = column.compression, column.total_uncompressed_size
    _ = file.schema_arrow
    for batch in file.iter_batches(batch_size=rows, use_threads=False):
        batch.validate(full=True)


if __name__ == "__main__":
    main()
