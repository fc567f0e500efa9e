"""Finds the data folders that ship with the package: ``indexes/`` and ``migrations/``.

In a wheel they lie beside the modules as ``_indexes`` and ``_migrations``; in a checkout (an
editable install too) they are top-level folders of the repository.
"""

from __future__ import annotations

from pathlib import Path

from trustvlm.errors import NotFound

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """The data folder ``name`` ("indexes" or "migrations") of this installation.

    Raises:
        NotFound: the installation lacks it (a broken wheel).
    """
    for candidate in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise NotFound(
        f"this installation of trustvlm lacks its data folder {name!r}; reinstall the package"
    )
