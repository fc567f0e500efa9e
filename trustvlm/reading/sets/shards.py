"""WebDataset: tar files with the parts of each sample one after the other (0001.jpg, 0001.cls).

They are read in a :class:`Sandbox`, from front to back, and never unpacked to disk; of a sample the
image and its label are read, nothing else, and nothing is unpickled.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.images import IMAGE_SUFFIXES
from trustvlm.reading.sets.columns import LABEL_COLUMNS
from trustvlm.reading.sets.rows import FileBytes, ImageRow, LabelledImages, Names, label_name
from trustvlm.system.sandbox import Message, Unreadable
from trustvlm.system.sandbox_pool import borrowed
from trustvlm.types.attributes.values import once_each

_IMAGE_BYTES, _LABEL_BYTES = 64 * 2**20 + 1, 2**20
"""What is read of an image (one byte more than an image may have) and of a label."""
_MEMORY, _SECONDS = 512 * 2**20, 60.0


def shard_images(paths: Sequence[Path], names: Names) -> LabelledImages:
    """The images of tar shards, one after the other, with the labels of `.cls` (a name or a number)
    or `.json` files (its field label, class …) of the same sample."""
    origin = str(paths[0]) + (f" and {len(paths) - 1} more" if paths[1:] else "")
    return LabelledImages(origin, lambda: (row for path in paths for row in _rows(path, names)))


def _rows(path: Path, names: Names) -> Iterator[ImageRow]:
    """The samples of a shard. Raises InvalidInput: it is no sound tar file."""
    with borrowed(f"{__name__}:answers") as sandbox:
        try:
            request = {"path": str(path.absolute())}
            for head, (content,) in sandbox.ask(request, memory=_MEMORY, seconds=_SECONDS):
                place = f"{path}, {head['name']}"
                image = FileBytes.named(bytes(content), f"{path}/{head['name']}")
                yield ImageRow(image, label_name(head["label"], names, place), place)
        except Unreadable as error:
            raise InvalidInput(f"{path}: {error}") from error


def answers(request: dict[str, Any], parts: list[bytearray]) -> Iterator[Message]:
    """Answer, in the sandbox, with the name, label and image of each sample of the tar file "path".

    Raises:
        Unreadable: it is no sound tar file, or a label is none.
    """
    try:
        with tarfile.open(request["path"], "r|") as archive:
            yield from _samples(archive)
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unreadable(f"it is no sound tar file: {reason:.200}") from error


def _samples(archive: tarfile.TarFile) -> Iterator[Message]:
    """Each sample that has an image. Files of one sample have one name up to the first dot."""
    sample: str | None = None
    name, image, label = "", b"", None
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        folder, slash, file = member.name.rpartition("/")
        stem, _, suffix = file.partition(".")
        if not member.isreg() or not stem:  # also hidden files
            continue
        if folder + slash + stem != sample:
            if name:
                yield {"name": name, "label": label}, [image]
            sample, name, image, label = folder + slash + stem, "", b"", None
        suffix = suffix.lower()
        if f".{suffix}" in IMAGE_SUFFIXES and not name:
            name, image = member.name, _content(archive, member, _IMAGE_BYTES)
        elif suffix in ("cls", "json"):
            read = _label(suffix, member.name, _content(archive, member, _LABEL_BYTES))
            label = read if label is None or suffix == "cls" else label
    if name:
        yield {"name": name, "label": label}, [image]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read(most)


def _label(suffix: str, name: str, content: bytes) -> str | int | None:
    """The label of a .cls or .json file; None: the JSON has none. Raises Unreadable."""
    try:
        text = content.decode().strip()
        if suffix == "cls":
            return text or None
        fields = json.loads(text, object_pairs_hook=once_each)
    except InvalidInput as error:
        raise Unreadable(f"{name}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{name}: expected UTF-8 text, or JSON") from error
    keys = [key for key in LABEL_COLUMNS if isinstance(fields, dict) and key in fields]
    value = fields[keys[0]] if keys else None
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise Unreadable(f"{name}: {keys[0]}: expected the name or the number of a label")
    return value
