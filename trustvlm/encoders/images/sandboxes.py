"""Image files decoded and preprocessed in sandboxes.

A sandbox loads Pillow and NumPy only, and none of torch. Pixels come back as bytes, a quarter of
what the floats that they become would be.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from trustvlm.encoders.images.decode_file import SECONDS, SECONDS_PER_PIXEL, decode_file
from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.errors import Unavailable
from trustvlm.reading.image_files import ImageLimits, UnreadableImage, read, source_name
from trustvlm.system.sandbox import Message, Sandbox, Unreadable
from trustvlm.system.sandbox_pool import borrowed, waits
from trustvlm.types.messages.remarks import Remark

if TYPE_CHECKING:
    from PIL.Image import Image

_FIXED_MEMORY = 128 * 2**20  # what a child takes besides decoding
_THUMBNAIL_PIXELS = 128
_TARGET = f"{__name__}:answer"


@dataclass(frozen=True, eq=False)
class FilePixels:
    """What was read of an image file.

    Attributes:
        content_hash: SHA-256 of the file.
        thumbnail: JPEG of at most 128 pixels a side.
        remarks: what was done to the pixels.
        crops: (height, width, 3) uint8 pixels, one array for each preprocessing.
        image: the upright RGB image; None unless the caller wants it.
        uniform: the image has a single colour.
    """

    content_hash: bytes
    thumbnail: bytes
    remarks: tuple[Remark, ...]
    crops: tuple[npt.NDArray[np.uint8], ...]
    image: Image | None
    uniform: bool


def sandbox() -> AbstractContextManager[Sandbox]:
    """A sandbox for image files, for the caller alone within the block."""
    return borrowed(_TARGET)


def warm() -> None:
    """Start a sandbox unless one waits, without waiting for it."""
    with suppress(Unavailable):  # the first image will say so
        if not waits(_TARGET):
            with sandbox():
                pass


def read_file(
    child: Sandbox,
    source: str | Path | bytes,
    limits: ImageLimits,
    preprocesses: Sequence[Preprocess] = (),
    *,
    image: bool = False,
) -> FilePixels:
    """Read an image file in the sandbox `child`.

    Raises:
        UnreadableImage: it cannot be used.
    """
    request = {
        "limits": vars(limits),
        "preprocesses": [vars(one) for one in preprocesses],
        "path": None if isinstance(source, bytes) else os.path.abspath(source),  # noqa: PTH100
        "name": source_name(source),
        "image": image,
    }
    parts = [source] if isinstance(source, bytes) else []
    memory = limits.max_memory + 2 * min(limits.max_bytes, 2**30) + _FIXED_MEMORY
    seconds = 4 * (SECONDS + SECONDS_PER_PIXEL * limits.max_pixels)  # others want the cores, too
    try:
        ((head, answered),) = child.ask(request, *parts, memory=memory, seconds=seconds)
    except Unreadable as error:
        raise UnreadableImage(source_name(source), str(error)) from error
    if "reason" in head:
        raise UnreadableImage(source_name(source), head["reason"])
    thumbnail, *arrays = answered
    picture = None
    if image:
        from PIL import Image as pil

        picture = pil.frombytes("RGB", tuple(head["size"]), arrays.pop())
    return FilePixels(
        bytes.fromhex(head["content_hash"]),
        bytes(thumbnail),
        tuple(Remark(**remark) for remark in head["remarks"]),
        tuple(
            np.frombuffer(array, np.uint8).reshape(*one.crop, 3)
            for one, array in zip(preprocesses, arrays, strict=True)
        ),
        picture,
        head["uniform"],
    )


@dataclass(frozen=True)
class Pictures:
    """Reads the thumbnail of an image that was scored, by its place; made when it is shown first.

    Attributes:
        pictures: the path or the thumbnail of each image; None: neither is at hand.
        limits: what an image may be at most.
    """

    pictures: Sequence[str | bytes | None]
    limits: ImageLimits

    def __call__(self, i: int) -> bytes | None:
        """A JPEG of at most 128 pixels a side; None where there is none, or the file cannot be read
        any more."""
        picture = self.pictures[i]
        if not isinstance(picture, str):
            return picture
        try:
            with sandbox() as child:
                return read_file(child, picture, self.limits).thumbnail
        except UnreadableImage:
            return None


def answer(head: dict[str, Any], parts: list[bytearray]) -> Iterator[Message]:
    """Answer a request of :func:`read_file` in the child: one file, or why it cannot be used."""
    from PIL import Image as pil

    warnings.simplefilter("ignore")
    with suppress(ImportError):  # Pillow before 11.3
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each takes address space
    value_range = head["limits"].pop("value_range")
    limits = ImageLimits(**head["limits"], value_range=value_range and tuple(value_range))
    pil.MAX_IMAGE_PIXELS = limits.max_pixels  # WebP takes its memory before it tells its size
    preprocesses = [Preprocess.of(fields) for fields in head["preprocesses"]]
    source = bytes(parts.pop()) if head["path"] is None else head["path"]
    try:
        data = read(source, head["name"], limits)
        rgb, remarks = decode_file(data, head["name"], limits)
    except UnreadableImage as error:
        yield {"reason": error.reason}, ()
        return
    crops = [one.cropped(rgb) for one in preprocesses]
    yield (
        {
            "content_hash": hashlib.sha256(data).hexdigest(),
            "remarks": [vars(remark) for remark in remarks],
            "size": rgb.size,
            "uniform": is_uniform(rgb),
        },
        (thumbnail_of(rgb), *crops, *([rgb.tobytes()] if head["image"] else [])),
    )


def is_uniform(image: Image) -> bool:
    """Whether an RGB image has a single colour."""
    extrema = cast(tuple[tuple[int, int], ...], image.getextrema())
    return all(least == largest for least, largest in extrema)


def thumbnail_of(rgb: Image) -> bytes:
    """A JPEG of at most 128 pixels a side."""
    scale = max(rgb.size) / _THUMBNAIL_PIXELS
    size = max(1, round(rgb.width / scale)), max(1, round(rgb.height / scale))
    small = rgb.copy() if scale <= 1 else rgb.resize(size, reducing_gap=2.0)
    small.info = {}  # comments would be written along
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()
