"""Finding images in folders, by one rule for every verb. What is left out is counted, so that
commands can report it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.types.messages.array_files import read_with
from trustvlm.types.messages.commands import word
from trustvlm.types.messages.counts import count
from trustvlm.types.messages.remedies import of_missing

MAX_DEPTH = 32
"""How deep folders are looked through."""
MAX_FILES = 2_000_000
"""Entries of folders that one command looks at."""
UNREAD = "could not be read: "
"""How remarks on folders and files that cannot be read begin."""

# fmt: off
IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
    # Not read: the message names each, where leaving them out would hide them.
    ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".jxr", ".dcm", ".hif", ".psd",
    ".svg", ".eps", ".pfm", ".exr", ".hdr", ".tga", ".qoi", ".dng", ".cr2", ".cr3", ".crw", ".nef",
    ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f", ".iiq", ".mrw", ".3fr", ".rwl",
    ".sr2", ".srf", ".kdc", ".erf",
}

SYSTEM_NAMES = (
    # NAS
    "@eaDir", "@Recycle", "@Recently-Snapshot", "@__thumb", "@tmp", "@Syno*", "#recycle",
    "#snapshot", "~snapshot",
    # Windows
    "$RECYCLE.BIN", "RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information",
    "FOUND.[0-9][0-9][0-9]", "Thumbs.db", "ehthumbs.db", "desktop.ini",
    # macOS
    "__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder", "Icon\r",
    "iPod Photo Cache",
    # Unix
    "lost+found", "__pycache__", "CVS",
    # previews of photo programs
    "*.lrdata", "*.lrcat-data", "*.photoslibrary", "*.aplibrary", "*.cocatalog", "CaptureOne",
)
# fmt: on
"""Patterns of files and folders that systems and programs make beside images, in any case; hidden
ones come to them."""

_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
_SHOWN = 3
_USUAL = 6  # characters of a usual suffix, with its dot


@dataclass
class LeftOut:
    """What was not taken.

    Attributes:
        hidden, system: how often each name, of hidden files and folders and of those in
            :data:`SYSTEM_NAMES`.
        excluded: how many by each pattern of the user's. others: how many files that are no images,
            by suffix.
        seen: how many entries were looked at. deep: folders below :data:`MAX_DEPTH`.
        again: folders that a link leads to a second time. unreadable: folders that cannot be
            listed, and why.
        loose: how many images outside the labels' sub-folders. empty: names of sub-folders without
            images.
    """

    hidden: Counter[str] = field(default_factory=Counter)
    system: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    deep: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    loose: int = 0
    empty: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What was left out, in words: one line of counts, then what needs a name."""
        by_reason = "excluded by --exclude"
        counts = (
            (self.hidden, "hidden file or folder", "hidden files or folders"),
            (self.system, "system file or folder", "system files or folders"),
            (self.excluded, f"file or folder {by_reason}", f"files or folders {by_reason}"),
            (self.others, "file that is not an image", "files that are not images"),
        )
        parts = [
            f"{count(names.total(), one, several)} ({_some(list(names))})"
            for names, one, several in counts
            if names
        ]
        if parts:
            yield f"left out: {', '.join(parts)}"
        if self.loose:
            outside = "directly in the folder, outside the sub-folders of the labels"
            yield f"left out: {count(self.loose, 'image')} {outside}"
        if self.empty:
            names = ", ".join(map(repr, self.empty))
            yield f"no images in {count(len(self.empty), 'sub-folder')}: {names}"
        for folders, why in (
            (self.again, "reached a second time through a link"),
            (self.deep, f"more than {MAX_DEPTH} levels deep"),
        ):
            if folders:
                yield f"left out: {count(len(folders), 'folder')} {why} ({_some(folders)})"
        for path, reason in self.unreadable:
            yield f"{UNREAD}{path}: {reason}"


class ImageFinder:
    """Images in folders and their sub-folders, in order of name; links are followed, each folder is
    entered once.

    Args:
        exclude: patterns (``*``, ``?``, ``[…]``, any case) of names to leave out; one with a "/" is
            compared with the path below the folder that is looked through.
        most: files and folders that are looked at in all.
    """

    def __init__(self, exclude: Sequence[str] = (), most: int = MAX_FILES) -> None:
        self.left_out, self._most = LeftOut(), most
        self._exclude = [(pattern, pattern.rstrip("/").casefold()) for pattern in exclude]

    def images(self, folder: str | Path, root: str | Path | None = None) -> list[str]:
        """The images below `folder`, which lies in `root` (or is it)."""
        above = {
            _identity(path)
            for path in (Path(root or folder).resolve(), *Path(root or folder).resolve().parents)
        }
        base = os.fspath(root or folder)
        if root is not None and _identity(folder) in above:
            self.left_out.again.append(os.fspath(folder))
            return []
        return list(self._walk(os.fspath(folder), base, above | {_identity(folder)}, 0))

    def images_of(self, paths: Iterable[Path]) -> list[str]:
        """Files as they are given, and the images below folders. Raises NotFound, InvalidInput (a
        file of arrays)."""
        images = list[str]()
        for path in paths:
            if is_folder(path):
                images += self.images(path)
            else:
                refuse_arrays(path)
                images.append(os.fspath(path))
        return images

    def entries(self, folder: str | Path, root: str | Path) -> list[os.DirEntry[str]]:
        """What lies in `folder` and is not to be left out, by name."""
        try:
            with os.scandir(folder) as entries:
                listed = sorted(
                    islice(entries, self._most - self.left_out.seen + 1),
                    key=lambda entry: entry.name,
                )
        except OSError as error:
            self.left_out.unreadable.append((os.fspath(folder), error.strerror or str(error)))
            return []
        self.left_out.seen += len(listed)
        if self.left_out.seen > self._most:
            raise InvalidInput(
                f"{folder}: expected at most {self._most:,} files in all, there are more; name "
                f"sub-folders instead"
            )
        return [entry for entry in listed if not self._is_left_out(entry, os.fspath(root))]

    def is_image(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry that is no folder is an image: by its suffix or, without a usual one, by
        its first bytes."""
        suffix = Path(entry.name).suffix.lower()
        # Not usual: "", .001, .jpg?w=200, .jpg~, .download
        usual = suffix[1:].isalpha() and len(suffix) <= _USUAL
        if suffix in IMAGE_SUFFIXES or (not usual and _begins_like_an_image(entry)):
            return True
        if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
            self.left_out.unreadable.append((entry.path, "the link leads nowhere"))
        else:
            self.left_out.others[suffix or "no suffix"] += 1
        return False

    def remarks(self) -> Iterator[str]:
        """What was left out, in words, and patterns that match nothing."""
        yield from self.left_out.lines()
        for pattern in self._unmatched():
            each = " ".join(f"--exclude {word(one)}" for one in pattern.split(",") if one.strip())
            several = f"; a pattern each: {each}" if "," in pattern else ""
            yield f"--exclude {word(pattern)} matches no file and no folder{several}"

    def _unmatched(self) -> list[str]:
        """The patterns of the user's that nothing was left out by."""
        return [pattern for pattern, _ in self._exclude if not self.left_out.excluded[pattern]]

    def _walk(
        self, folder: str, root: str, entered: set[tuple[int, int]], depth: int
    ) -> Iterator[str]:
        for entry in self.entries(folder, root):
            if not is_dir(entry):
                if self.is_image(entry):
                    yield entry.path
            elif (identity := _identity(entry.path)) in entered:
                self.left_out.again.append(entry.path)
            elif depth >= MAX_DEPTH:
                self.left_out.deep.append(entry.path)
            else:
                entered.add(identity)
                yield from self._walk(entry.path, root, entered, depth + 1)

    def _is_left_out(self, entry: os.DirEntry[str], root: str) -> bool:
        name = entry.name.casefold()
        if name.startswith("."):
            self.left_out.hidden[entry.name] += 1
            return True
        if any(fnmatchcase(name, pattern.casefold()) for pattern in SYSTEM_NAMES):
            self.left_out.system[entry.name] += 1
            return True
        for pattern, folded in self._exclude:
            path = os.path.relpath(entry.path, root).casefold() if "/" in folded else name
            if fnmatchcase(path, folded):
                self.left_out.excluded[pattern] += 1
                return True
        return False


def every_file(folder: Path, entered: set[tuple[int, int]] | None = None) -> Iterator[Path]:
    """The regular files below `folder`, of any name, in order of name; links are followed, each
    folder once."""
    entered = {_identity(folder)} if entered is None else entered
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if (identity := _identity(path)) not in entered:
                entered.add(identity)
                yield from every_file(path, entered)
        elif path.is_file():
            yield path


def refuse_arrays(path: object, takes: str = "trustvlm.Queries(classifier={})") -> None:
    """Raises InvalidInput for the path of a file of arrays, where images are expected; `takes` says
    what takes an array."""
    if (reader := read_with(path)) is not None:
        arrays = f"expected images, got a file of arrays; pass {takes.format(reader)}"
        raise InvalidInput(f"{path}: {arrays}")


def is_folder(path: Path) -> bool:
    """Whether a path that a user gave is a folder. Raises NotFound when there is nothing."""
    if not os.path.lexists(path):
        raise NotFound(f"no file or folder {path}{of_missing(path)}")
    return path.is_dir()


def is_dir(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; reading it will say so
        return False


def _identity(folder: str | Path) -> tuple[int, int]:
    """The identity of a folder, the same through every link; (−1, −1) where it cannot be read."""
    try:
        status = os.stat(folder)  # noqa: PTH116
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def _begins_like_an_image(entry: os.DirEntry[str]) -> bool:
    try:
        if not entry.is_file():
            return False
        with open(entry.path, "rb") as file:  # noqa: PTH123
            head = file.read(16)
    except OSError:
        return False
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head.startswith(_HEADS) or re.match(rb"P[1-6]\s", head) is not None


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if names[_SHOWN:] else "")
