"""Whether files can be written in the folder for temporary ones, which uploads of more than a
megabyte need."""

from __future__ import annotations

import tempfile

from trustvlm.errors import Unavailable

__all__ = ["check_temporary", "no_temporary"]


def no_temporary(error: OSError) -> Unavailable:
    """What to say where a temporary file cannot be written."""
    where = tempfile.tempdir or "/tmp"
    why = error.strerror or error
    return Unavailable(
        f"uploads cannot be written to a temporary folder: {why} ({where}); set the "
        f"environment variable TMPDIR to a folder "
        f"that can be written"
    )


def check_temporary() -> None:
    """Write a temporary file, and delete it.

    Raises:
        Unavailable: it cannot be done.
    """
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
    except OSError as error:
        raise no_temporary(error) from error
