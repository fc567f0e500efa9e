"""From a path, the bytes of a file or a PIL image to a checked RGB image, its content hash and a
thumbnail.

Files are decoded in a sandbox (:mod:`trustvlm.encoders.images.decode_file`), and nothing but a
regular file is ever read; a PIL image of the caller's is converted in this process.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trustvlm.encoders.images.decode_file import FORMATS, check_size, damage, upright
from trustvlm.encoders.images.sandboxes import read_file, sandbox, thumbnail_of
from trustvlm.reading.image_files import (
    DEFAULT_LIMITS,
    ImageLimits,
    UnreadableImage,
    path_of,
    read,
    require_image,
    source_name,
)
from trustvlm.types.messages.remarks import Remark

if TYPE_CHECKING:
    from PIL.Image import Image

    from trustvlm.types.inputs import ImageSource

_MODE = "trustvlm-mode"
"""The PNG text that says which mode a kept picture had: its hash begins with it."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image that passed every check.

    Attributes:
        image: upright (EXIF orientation applied), RGB, transparency laid over white.
        content_hash: 32 bytes, see :func:`hash_image`.
        thumbnail: JPEG of at most 128 pixels a side.
        source: path or file name it came from, None for bytes and nameless images.
        remarks: what was done to its values, its opacity or its missing end.
    """

    image: Image
    content_hash: bytes
    thumbnail: bytes
    source: str | None
    remarks: tuple[Remark, ...] = ()


def decode_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> DecodedImage:
    """`source` decoded, upright and in RGB, with its hash and thumbnail.

    Raises:
        UnreadableImage: it is no image, damaged, or exceeds a limit.
    """
    if isinstance(source, (str, Path, bytes)):
        with sandbox() as child:
            pixels = read_file(child, source, limits, image=True)
        assert pixels.image is not None
        rgb, remarks = pixels.image, pixels.remarks
        content_hash, thumbnail = pixels.content_hash, pixels.thumbnail
    else:
        rgb, remarks = _rgb_of(source, limits)
        content_hash, thumbnail = _hash_pixels(source.mode, rgb), thumbnail_of(rgb)
    return DecodedImage(rgb, content_hash, thumbnail, path_of(source), remarks)


def hash_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """SHA-256 (32 bytes) of the file's bytes; of mode, size and RGB pixels for a PIL image.

    Raises:
        UnreadableImage: the file cannot be read or exceeds a limit. A file that is no image is not
            noticed here.
    """
    if isinstance(source, (str, Path, bytes)):
        return hashlib.sha256(read(source, source_name(source), limits)).digest()
    rgb, _ = _rgb_of(source, limits)
    return _hash_pixels(source.mode, rgb)


def original_of(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[bytes, bytes]:
    """(content hash, bytes to keep): the file as it is; a PIL image, whose pixels are hashed, as
    PNG.

    Raises:
        UnreadableImage: the file cannot be read or exceeds a limit.
    """
    if isinstance(source, (str, Path, bytes)):
        data = read(source, source_name(source), limits)
        return hashlib.sha256(data).digest(), data
    from PIL.PngImagePlugin import PngInfo

    rgb, _ = _rgb_of(source, limits)
    info, out = PngInfo(), io.BytesIO()
    info.add_text(_MODE, source.mode)
    rgb.save(out, "PNG", pnginfo=info)
    return _hash_pixels(source.mode, rgb), out.getvalue()


def is_original(data: bytes, content_hash: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> bool:
    """Whether `data` is what :func:`original_of` gave to keep under this content hash."""
    if hashlib.sha256(data).digest() == content_hash:
        return True
    key = _MODE.encode() + b"\0"
    # A text chunk of PNG: four bytes of length, its name, then the key and its value.
    at = data[:256].find(key)
    if at < 8:
        return False
    mode = data[at + len(key) : at + int.from_bytes(data[at - 8 : at - 4])]
    try:
        rgb = decode_image(data, limits).image
    except UnreadableImage:
        return False
    return _hash_pixels(mode.decode("latin-1"), rgb) == content_hash


def _rgb_of(image: Image, limits: ImageLimits) -> tuple[Image, tuple[Remark, ...]]:
    """A PIL image of the caller's as upright RGB, and what was done to it."""
    from trustvlm.encoders.images.pixels import read_rgb

    name = source_name(image)
    check_size(require_image(image, name).size, name, limits)
    if image.format == "EPS" and getattr(image, "tile", None):
        raise UnreadableImage(
            name,
            "is an EPS drawing that is not loaded: Pillow would run Ghostscript on it, which we "
            "never do",
        )
    with damage(name):
        data = _file_of(image, limits)
    if data is not None:
        try:
            decoded = decode_image(data, limits)
        except UnreadableImage as error:
            raise UnreadableImage(name, error.reason) from error
        return decoded.image, decoded.remarks
    with damage(name):
        rgb, remarks = read_rgb(image, None, limits.value_range)
        return upright(rgb, image), remarks


def _file_of(image: Image, limits: ImageLimits) -> bytes | None:
    """The file of an image that is not loaded, where the file holds more than Pillow would give of
    it; else None."""
    from trustvlm.encoders.images.deep import has_deep_colour

    stream = getattr(image, "fp", None)
    if (
        stream is None
        or not getattr(image, "tile", None)
        or image.tell()
        or image.format not in FORMATS
    ):
        return None
    if not (limits.accept_truncated or has_deep_colour(image)):
        return None
    position = stream.tell()
    stream.seek(0)
    data: bytes = stream.read(limits.max_bytes + 1)
    stream.seek(position)
    return data


def _hash_pixels(mode: str, rgb: Image) -> bytes:
    digest = hashlib.sha256(f"{mode} {rgb.width}x{rgb.height}\n".encode())
    digest.update(rgb.tobytes())
    return digest.digest()
