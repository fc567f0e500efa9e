"""Starting a script of this folder that reads a stranger's file with pyarrow, in a process of its
own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["reader"]


def reader(script: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """(command, environment) that run a script beside this file, with the same pyarrow as here,
    wherever it comes from."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    # Its own allocator would reserve more than the limit of memory that the scripts set themselves.
    environment = os.environ | {
        "PYTHONPATH": path,
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "OMP_NUM_THREADS": "1",
    }
    return [
        sys.executable,
        "-P",
        os.fspath(Path(__file__).with_name(script)),
        *arguments,
    ], environment
