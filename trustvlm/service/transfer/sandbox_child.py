"""Reading an exported space once in a process of its own, before this one believes that it can.

Over some damaged files pyarrow ends the process instead of raising, since it throws where its
bindings expect no exception; others could make it take memory or time without end. A child with
limits (:mod:`trustvlm.service.transfer.sandbox_check_export`) finds that out: what it read to the
end, this process can read.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.service.transfer.export_format import LABELS, SUPPORTS
from trustvlm.service.transfer.sandbox import reader

__all__ = ["require_readable"]

_SECONDS, _BYTES_PER_SECOND = 30, 2 * 2**20  # slower than any disk
_REFUSED = 3


def require_readable(folder: Path, rows: int) -> None:
    """Make sure that the files of an exported space can be read, `rows` at a time.

    Raises:
        InvalidInput: they cannot. Unavailable: the child could not do its work.
    """
    files = [folder / name for name in (LABELS, SUPPORTS)]
    limit = _SECONDS + sum(path.stat().st_size for path in files) / _BYTES_PER_SECOND
    command, environment = reader("sandbox_check_export.py", str(rows), *map(os.fspath, files))
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidInput(
            f"{folder}: its Parquet files could not be read within {limit:.0f} s"
        ) from error
    except OSError as error:
        raise Unavailable(
            f"{folder}: no process to read it with ({error.strerror or error})"
        ) from error
    if done.returncode == _REFUSED:
        raise InvalidInput(done.stdout.decode(errors="replace"))
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise InvalidInput(
            f"{folder}: its Parquet files are not sound: the reader ended over them with {name}"
        )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(
            f"{folder}: the process that was to read it failed ({' '.join(reason):.200})"
        )
