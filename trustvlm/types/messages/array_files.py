"""Files of arrays that are passed by their path: verbs take the arrays in them, whose names only
the caller knows."""

from __future__ import annotations

import os
from pathlib import PurePath

from trustvlm.errors import InvalidInput

_READERS = {
    ".npy": "numpy.load({!r})",
    ".npz": "numpy.load({!r})['NAME']",
    ".pt": "torch.load({!r})",
    ".pth": "torch.load({!r})",
    ".safetensors": "safetensors.numpy.load_file({!r})['NAME']",
    ".h5": "h5py.File({!r})['NAME'][:]",
    ".hdf5": "h5py.File({!r})['NAME'][:]",
    ".mat": "scipy.io.loadmat({!r})['NAME']",
}
"""How Python reads the arrays in files of each suffix."""


def read_with(path: object) -> str | None:
    """The expression that reads an array of the file `path`; None where its suffix is none of a
    file of arrays, or `path` is no path."""
    if not isinstance(path, str | os.PathLike):
        return None
    name = os.fsdecode(path)
    reader = _READERS.get(PurePath(name).suffix.lower())
    return None if reader is None else reader.format(name)


def refuse_path(values: object, what: str) -> None:
    """Raises InvalidInput, which begins with `what`, for the path of a file of arrays, where the
    array itself is expected."""
    if (reader := read_with(values)) is not None:
        raise InvalidInput(f"{what}: expected an array, got the path of a file; pass {reader}")
