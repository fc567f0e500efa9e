"""From a path, the bytes of a file or a PIL image to bytes within the limits; nothing but a regular
file is ever read."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trustvlm.errors import InvalidInput
from trustvlm.types.messages.remedies import no_image, of_missing

if TYPE_CHECKING:
    from PIL.Image import Image

    from trustvlm.types.inputs import ImageSource

_MAX_SHOWN = 1_000  # characters of a source in a message


@dataclass(frozen=True)
class ImageLimits:
    """What an image may be at most, and how it is read.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width × height, from the header, before anything is decoded.
        max_aspect: longer side / shorter side.
        max_memory: bytes that decoding may take at most, the file itself not counted; estimated
            from the header, and held by the sandbox.
        value_range: the values that become black and white in images of more than 8 bits a channel;
            None: each image's own.
        accept_truncated: take a JPEG or PNG that lacks its last bytes, its missing part filled.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_aspect: float = 100.0
    max_memory: int = 850_000_000
    value_range: tuple[float, float] | None = None
    accept_truncated: bool = False


DEFAULT_LIMITS = ImageLimits()


class UnreadableImage(InvalidInput):
    """One image cannot be used. `source` names it, `reason` says why without naming it."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        source = self.source if len(self.source) <= _MAX_SHOWN else f"{self.source[:_MAX_SHOWN]}…"
        return f"{source}: {self.reason}"


def source_name(source: ImageSource, index: int | None = None) -> str:
    """What to call `source` in messages and lists: its path, else "<bytes 3>" or "<image 3>" by
    position `index`."""
    if (name := path_of(source)) is not None:
        return name
    if index is None:
        return "<image>"
    return f"<{'bytes' if isinstance(source, bytes) else 'image'} {index}>"


def path_of(source: ImageSource) -> str | None:
    """Its path, or the name that came with it."""
    if isinstance(source, (str, Path)):
        return str(source)
    # Bytes that came with a file's name may have it, too.
    return str(getattr(source, "filename", "")) or None


def require_image(source: Image, name: str) -> Image:
    """`source` as the PIL image that it must be. Raises UnreadableImage."""
    from PIL import Image as pil

    if not isinstance(source, pil.Image):
        raise UnreadableImage(name, no_image(source))
    return source


def read(source: str | Path | bytes, name: str, limits: ImageLimits) -> bytes:
    """The bytes of a file.

    Raises:
        UnreadableImage: it cannot be read, is empty, too large, or no regular file.
    """
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = _read_file(source, name, limits)
        except UnreadableImage:
            raise
        except (OSError, ValueError) as e:  # ValueError: a NUL in the path
            missing = of_missing(name) if isinstance(e, FileNotFoundError) else ""
            reason = f"cannot be read: {getattr(e, 'strerror', None) or e}{missing}"
            raise UnreadableImage(name, reason) from e
    if not data:
        raise UnreadableImage(name, "the file is empty")
    if len(data) > limits.max_bytes:
        _too_large(name, len(data), limits)
    return data


def _read_file(path: str | Path, name: str, limits: ImageLimits) -> bytes:
    # Opening without blocking and asking the open file what it is: a FIFO cannot hang us, nor a
    # swap fool us. Looking first as well: merely opening some devices does something.
    _require_regular(Path(path).stat(), name)
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        _require_regular(status, name)
        if status.st_size > limits.max_bytes:
            _too_large(name, status.st_size, limits)
        # Not all that is allowed: that much memory would be taken first.
        return file.read(status.st_size)


def _require_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImage(name, "is a folder, not an image file")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage(name, "is not a regular file")


def _too_large(name: str, size: int, limits: ImageLimits) -> NoReturn:
    raise UnreadableImage(
        name, f"the file has {size} bytes, more than the limit of {limits.max_bytes}"
    )
