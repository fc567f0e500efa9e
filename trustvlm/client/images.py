"""Images as they are sent: the bytes of a file, and what to call it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.reading.image_files import ImageLimits, UnreadableImage, read
from trustvlm.reading.sets.rows import with_place
from trustvlm.types.arrays import sources
from trustvlm.types.messages.remedies import no_image
from trustvlm.types.registration import UnreadImage

if TYPE_CHECKING:
    from PIL.Image import Image

_LIMITS = ImageLimits()
_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF = ("I", "F", "CMYK", "YCbCr", "LAB")
_PLAINER = {
    "La": "LA", "RGBa": "RGBA", "PA": "RGBA", "HSV": "RGB", "RGBX": "RGB",
    "I;16B": "I", "I;16L": "I", "I;16N": "I",
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """One image.

    Attributes:
        source: what to call it here: its path, "<bytes 3>" or "<image 3>". name: the file's name,
            which the service stores as its source; empty: it has none.
        data: of the file; empty where `problem` says why it cannot be read.
    """

    source: str
    name: str
    data: bytes
    problem: str | None = None


def stored_name(source: str) -> str:
    """The name that a service stores an image file by: without its folder."""
    return Path(source).name


def loaded(images: object, what: str) -> Iterator[File]:
    """Images as files, each read as its turn comes. One that cannot be read is an empty file, which
    the service reports as any other bad one. Raises InvalidInput."""
    listed = images if isinstance(images, Iterator) else sources(images, what)
    return (_load(source, place) for place, source in enumerate(listed))


def _load(source: Any, place: int) -> File:
    if isinstance(source, bytes):
        name = str(getattr(source, "filename", ""))
        return File(name or f"<bytes {place}>", name, source)
    if isinstance(source, str | Path):
        try:
            return File(str(source), stored_name(str(source)), read(source, str(source), _LIMITS))
        except UnreadableImage as error:
            problem = with_place(source, error.reason)
            return File(str(source), Path(source).name, b"", problem)
    pil = sys.modules.get("PIL.Image")  # a caller with a PIL image has imported it
    if pil is None or not isinstance(source, pil.Image):
        problem = no_image(source)
        return File(f"<image {place}>", "", b"", problem)
    name = str(getattr(source, "filename", ""))
    try:
        data, broken = _encoded(source), None
    except (OSError, ValueError, SyntaxError) as error:
        data, broken = b"", f"damaged or truncated image ({error})"
    return File(name or f"<image {place}>", Path(name).name, data, broken)


def _encoded(image: Image) -> bytes:
    """A PIL image as a file that loses nothing: the one it was opened from, where it is not loaded,
    else one that is made upright."""
    from PIL import ImageOps

    if image.format == "EPS" and getattr(image, "tile", None):
        raise ValueError("an EPS drawing that is not loaded: Pillow would run Ghostscript on it")
    data = _unloaded_file(image)
    if data is not None:
        return data
    image.load()
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # the EXIF block is foreign bytes, and not worth the image
        upright = image
    if upright.mode in _PLAINER:
        upright = upright.convert(_PLAINER[upright.mode])
    out = io.BytesIO()
    if upright.mode in _TIFF:
        upright.save(out, "TIFF")
    else:
        (upright if upright.mode in _PNG else upright.convert("RGB")).save(out, "PNG")
    return out.getvalue()


def _unloaded_file(image: Image) -> bytes | None:
    """The file of a PNG or TIFF that is not loaded: of 16-bit colour and further bands, Pillow
    gives less than it has."""
    stream = getattr(image, "fp", None)
    if stream is None or not getattr(image, "tile", None):
        return None
    if image.format not in ("PNG", "TIFF") or image.tell():
        return None
    position = stream.tell()
    stream.seek(0)
    data: bytes = stream.read(_LIMITS.max_bytes + 1)
    stream.seek(position)
    return data


def known_failures(
    failures: Sequence[UnreadImage], files: Sequence[File]
) -> tuple[UnreadImage, ...]:
    """The service's failures with the sources of the caller; the service knows files by name.

    Where several files have that name, it is those that were sent empty; else the file is not
    certain, and the name stays.
    """
    left = list(files)
    named = []
    for source, reason in failures:
        same = [
            file
            for file in left
            if file.name == source or (not file.name and source.startswith("<"))
        ]
        empty = [file for file in same if not file.data]
        file = empty[0] if empty else same[0] if len(same) == 1 else None
        if file is not None:
            left.remove(file)
            source, reason = file.source, file.problem or reason
        named.append(UnreadImage(source, reason))
    return tuple(named)
