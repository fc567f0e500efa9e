"""Files and folders that survive a power cut: a file's content needs a sync of the file, its name a
sync of its folder."""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing, durably: each new name is on disk
    when this returns.

    Raises:
        OSError: it cannot be made.
    """
    missing = []
    while not path.is_dir():
        missing.append(path)
        if path == path.parent:
            break
        path = path.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        if os.access(new.parent, os.R_OK):  # without leave to read it cannot be opened for a sync
            sync(new.parent)


def remove(path: Path) -> None:
    """Delete a file, where there is one, so that no power cut brings it back. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's content, or what was created, renamed or removed in a folder, survive a power
    cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
