"""Finding images in folders, and reading files of names. What is passed over is counted, so that it can be said."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from trustvlm.cli.text import count, note
from trustvlm.errors import InvalidInput, NotFound

__all__ = ["IMAGE_SUFFIXES", "PassedOver", "direct_images", "images_of", "images_under", "label_folders", "read_names"]

MAX_DEPTH = 32
"""How deep folders are looked through."""
MAX_FILES = 2_000_000
"""Entries of folders that one command looks at."""

_MAX_NAMES_BYTES = 256 * 2**20  # a million names are 30 MB

IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
    *(".heic", ".heif", ".avif", ".jp2"),  # cannot be read: better said by name than passed over in silence
}


@dataclass
class PassedOver:
    """What was not taken.

    Attributes:
        files: how many hidden files and files without an image suffix.
        loose: how many images outside the labels' sub-folders.
        seen: how many entries were looked at. deep: folders below :data:`MAX_DEPTH`.
        folders: where no folder belongs. empty: without images. unreadable: folders that cannot be listed, and why.
    """

    files: int = 0
    loose: int = 0
    seen: int = 0
    deep: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def report(self) -> None:
        """Say so on stderr."""
        if self.files:
            note(f"passed over {count(self.files, 'file')}: hidden, or no image suffix")
        if self.loose:
            note(f"passed over {count(self.loose, 'image')} outside the labels' sub-folders")
        if self.folders:
            note(f"passed over {count(len(self.folders), 'folder')}: links, hidden or nested ({_some(self.folders)})")
        if self.empty:
            note(f"passed over {count(len(self.empty), 'folder')} without images ({_some(self.empty)})")
        if self.deep:
            note(f"passed over {count(len(self.deep), 'folder')} more than {MAX_DEPTH} levels down ({_some(self.deep)})")
        for path, reason in self.unreadable:
            note(f"could not be read: {path}: {reason}")


def label_folders(folder: Path, passed: PassedOver) -> dict[str, list[str]]:
    """Label name → image paths: one sub-folder a label, its name the label's.

    Raises:
        NotFound: no such folder. InvalidInput: it has no sub-folder with images.
    """
    _is_folder(folder)
    found: dict[str, list[str]] = {}
    for entry in _entries(folder, passed):
        if not _is_dir(entry, follow_symlinks=False) or entry.name.startswith("."):
            passed.loose += _is_image(entry) or _pass_over(entry, passed)
        elif images := direct_images(entry.path, passed):
            found[entry.name] = images
        else:
            passed.empty.append(entry.path)
    if not found:
        raise InvalidInput(
            f"{folder}: expected one sub-folder of images for each label, found none; "
            f"--label NAME registers the images that lie directly in it"
        )
    return found


def direct_images(folder: str | Path, passed: PassedOver) -> list[str]:
    """The images that lie directly in `folder`, by name."""
    return [entry.path for entry in _entries(folder, passed) if _is_image(entry) or _pass_over(entry, passed)]


def images_of(paths: Iterable[Path], passed: PassedOver) -> list[str]:
    """Files as they are given, and the images directly in folders. Raises NotFound."""
    return [image for path in paths for image in (direct_images(path, passed) if _is_folder(path) else [os.fspath(path)])]


def images_under(paths: Iterable[Path], passed: PassedOver) -> list[str]:
    """Files as they are given, and every image in folders and their sub-folders, by name. Raises NotFound."""
    return [image for path in list(paths) for image in (_walk(path, passed) if _is_folder(path) else [os.fspath(path)])]


def read_names(path: Path) -> list[tuple[str, str | None]]:
    """(name, prompt or None) of each line `name` or `name<TAB>prompt`; blank lines are skipped.

    Raises:
        NotFound, InvalidInput: no such file, not UTF-8, or more than one tab in a line.
    """
    if not _is_folder(path) and path.exists() and not (path.is_file() or path.is_fifo()):  # a pipe: register --labels <(…)
        raise InvalidInput(f"{path}: expected a file of names, this is a device or a socket")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_NAMES_BYTES + 1)
        if len(content) > _MAX_NAMES_BYTES:
            raise InvalidInput(f"{path}: expected at most {_MAX_NAMES_BYTES >> 20} MiB of names")
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path}: expected UTF-8 text, one label name a line ({error.reason} at byte {error.start})"
        ) from error
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        name, *rest = (part.strip() for part in line.split("\t"))
        if len(rest) > 1:
            raise InvalidInput(f"{path}, line {number}: expected a name, or a name, a tab and a prompt; got {len(rest)} tabs")
        prompt = (rest[0] or None) if rest else None
        if name or prompt:
            found.append((name, prompt))
    if not found:
        raise InvalidInput(f"{path}: expected one label name a line, found none")
    return found


def _walk(folder: str | Path, passed: PassedOver, depth: int = 0) -> Iterator[str]:
    for entry in _entries(folder, passed):
        if _is_dir(entry, follow_symlinks=False) and not entry.name.startswith("."):
            if depth < MAX_DEPTH:
                yield from _walk(entry.path, passed, depth + 1)
            else:
                passed.deep.append(entry.path)
        elif _is_image(entry):
            yield entry.path
        else:
            _pass_over(entry, passed)


def _is_folder(path: Path) -> bool:
    """Whether a path of the command line is a folder. Raises NotFound when there is nothing."""
    if not os.path.lexists(path):
        raise NotFound(f"no file or folder {path}")
    return path.is_dir()


def _is_image(entry: os.DirEntry[str]) -> bool:
    return Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and not _is_dir(entry)


def _is_dir(entry: os.DirEntry[str], *, follow_symlinks: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link that leads to itself; reading it will say so
        return False


def _pass_over(entry: os.DirEntry[str], passed: PassedOver) -> bool:
    """Count it; False, as in "not taken"."""
    if _is_dir(entry):
        passed.folders.append(entry.path)
    else:
        passed.files += 1
    return False


def _entries(folder: str | Path, passed: PassedOver) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(islice(entries, MAX_FILES - passed.seen + 1), key=lambda entry: entry.name)
    except OSError as error:
        passed.unreadable.append((os.fspath(folder), error.strerror or str(error)))
        return []
    passed.seen += len(found)
    if passed.seen > MAX_FILES:
        raise InvalidInput(f"{folder}: expected at most {MAX_FILES:,} files in all, there are more; name sub-folders instead")
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if names[3:] else "")
