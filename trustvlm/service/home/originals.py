"""Originals: the image files of support images, kept on request so that a space can be re-embedded.

They lie in HOME/originals/ab/cdef…, or in the folder that the setting `originals_folder` names,
named by content hash, so that equal images lie there once. A
file is complete and on disk before the transaction that refers to it commits; it is deleted when
the last support image that refers to it is purged. Both happen under the catalog's write lock, so
neither can undo the other.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from trustvlm.catalog.rows import originals
from trustvlm.encoders.images.decode import is_original, original_of
from trustvlm.errors import Unavailable
from trustvlm.reading.image_files import ImageLimits, UnreadableImage
from trustvlm.service.home.home import Home
from trustvlm.system.files.durable import sync

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

_TEMPORARY = ".writing-"
_STALE_S = 3600.0
_CHUNK = 500


def keep(
    home: Home, sources: Sequence[ImageSource], limits: ImageLimits
) -> dict[bytes, ImageSource]:
    """Write the originals of these images durably; content hash → source. What cannot be read is
    left out: it is no support.

    `limits` are those that the images were encoded with.

    Raises:
        Unavailable: they cannot be written.
    """
    kept: dict[bytes, ImageSource] = {}
    folders: set[Path] = set()
    for source in sources:
        try:
            content, data = original_of(source, limits)
        except UnreadableImage:
            continue
        kept[content] = source
        folders |= _write(_path(home, content), data)
    _sync(home, folders)
    return kept


def refer(
    home: Home,
    connection: Connection,
    label_ids: Sequence[int],
    kept: dict[bytes, ImageSource],
    limits: ImageLimits,
) -> None:
    """Note, in the transaction that commits support images of these labels, which of them have
    their original kept.

    Raises:
        Unavailable: one of the files that a purge took meanwhile cannot be written again.
    """
    gone = [source for content, source in kept.items() if not _path(home, content).is_file()]
    keep(home, gone, limits)  # under the write lock: no purge can come between now and the commit
    originals.refer(
        connection, label_ids, {content for content in kept if _path(home, content).is_file()}
    )


def kept_original(home: Home, content: bytes) -> Path | None:
    """The kept file of this content hash; None where there is none, or it is not what was kept."""
    if home.originals.folder(home.catalog) is None:
        return None
    path = _path(home, content)
    try:
        return path if is_original(path.read_bytes(), content, home.limits) else None
    except OSError:
        return None


def is_kept(home: Home, path: Path) -> bool:
    """Whether a file lies in the folder of originals."""
    folder: Path | None = home.originals.folder(home.catalog)
    return folder is not None and path.is_relative_to(folder)


def forget_originals(home: Home) -> int:
    """Delete the originals whose last support image was purged; how many files went.

    The marks that name them go only after the files: a purge that is stopped between goes on with
    the next.

    Raises:
        Unavailable: their folder is not here; the marks stay.
    """
    with home.catalog.read() as connection:
        doomed = originals.any_doomed(connection)
    if not doomed or not home.originals.check(home.catalog):
        return 0
    total = 0
    while True:
        with home.catalog.write("originals") as connection:
            ids, contents = originals.doomed(connection, _CHUNK)
            if not ids:
                return total
            folders = set()
            for content in contents:
                path = _path(home, content)
                path.unlink(missing_ok=True)
                folders.add(path.parent)
            _sync(home, {folder for folder in folders if folder.is_dir()})
            originals.forget(connection, ids)
        total += len(contents)


def sweep_originals(home: Home) -> int:
    """Delete files that no support image refers to: of calls that were killed before they
    committed. How many went."""
    root, total = home.originals.folder(home.catalog), 0
    if root is None or not home.originals.check(home.catalog):
        return total
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        with home.catalog.write("originals") as connection:
            files = {content: path for path in folder.iterdir() if (content := _content(path))}
            referred = originals.referred(connection, sorted(files))
            orphans = [files[content] for content in files.keys() - referred]
            stale = [path for path in folder.glob(f"{_TEMPORARY}*") if _is_stale(path)]
            for path in (*orphans, *stale):
                path.unlink(missing_ok=True)
            if orphans or stale:
                _sync(home, {folder})
        total += len(orphans)
    return total


def _path(home: Home, content: bytes) -> Path:
    folder: Path | None = home.originals.folder(home.catalog)
    assert folder is not None  # `require_place` refused
    name = content.hex()
    return folder / name[:2] / name[2:]


def _content(path: Path) -> bytes | None:
    """The content hash that a file is named by; None for another file."""
    try:
        content = bytes.fromhex(path.parent.name + path.name)
    except ValueError:
        return None
    return content if len(content) == 32 else None


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _STALE_S
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes) -> set[Path]:
    """Put a file in its place, unless it is there; the folders whose entries must reach the
    disk."""
    try:
        if path.is_file() and path.stat().st_size == len(data):
            return {path.parent}  # another process may have put it there this moment
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(
            f"the original of an image cannot be kept in {path.parent}: {error.strerror}"
        ) from error
    return {path.parent}


def _sync(home: Home, folders: set[Path]) -> None:
    """The entries of these folders, and of those that hold them, are on the disk."""
    root = home.originals.folder(home.catalog)
    above = [] if root is None else [root, home.folder] if root.parent == home.folder else [root]
    for folder in (*sorted(folders), *above) if folders else ():
        try:
            sync(folder)
        except OSError as error:
            raise Unavailable(
                f"{folder} cannot be written to the disk: {error.strerror}"
            ) from error
