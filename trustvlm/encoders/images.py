"""From a path, the bytes of a file or a PIL image to a checked RGB image, its content hash and a thumbnail.

Nothing is decoded before its header has passed the limits, and nothing but a regular file is ever read.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trustvlm.errors import InvalidInput

if TYPE_CHECKING:
    from PIL.Image import Image

    from trustvlm.types import ImageSource

__all__ = [
    "DecodedImage",
    "ImageLimits",
    "UnreadableImage",
    "decode_image",
    "hash_image",
    "is_original",
    "original_of",
    "source_name",
]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Raster formats only: what runs programs (EPS) or other parsers (PDF, SVG) never reaches them."""

_THUMBNAIL_PIXELS = 128
_ORIENTATION = 0x0112  # the EXIF tag
_MODE = "trustvlm-mode"  # the PNG text that says which mode a kept picture had: its hash begins with it


@dataclass(frozen=True)
class ImageLimits:
    """What an image may be at most.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width × height, from the header, before anything is decoded.
        max_aspect: longer side / shorter side.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_aspect: float = 100.0


DEFAULT_LIMITS = ImageLimits()


class UnreadableImage(InvalidInput):
    """One image cannot be used. `source` names it, `reason` says why without naming it."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image that passed every check.

    Attributes:
        image: upright (EXIF orientation applied), RGB, transparency laid over white.
        content_hash: 32 bytes, see :func:`hash_image`.
        thumbnail: JPEG of at most 128 pixels a side.
        source: path or file name it came from, None for bytes and nameless images.
    """

    image: Image
    content_hash: bytes
    thumbnail: bytes
    source: str | None


def source_name(source: ImageSource, index: int | None = None) -> str:
    """What to call `source` in messages and lists: its path, else "<bytes 3>" or "<image 3>" by position `index`."""
    if (name := _path_of(source)) is not None:
        return name
    return "<image>" if index is None else f"<{'bytes' if isinstance(source, bytes) else 'image'} {index}>"


def hash_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """SHA-256 (32 bytes) of the file's bytes; of mode, size and RGB pixels for a PIL image.

    Raises:
        UnreadableImage: the file cannot be read or exceeds a limit. A file that is no image is not noticed here.
    """
    name = source_name(source)
    if isinstance(source, (str, Path, bytes)):
        return hashlib.sha256(_read(source, name, limits)).digest()
    return _hash_pixels(_require_image(source, name).mode, _to_rgb(source, name, limits))


def decode_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> DecodedImage:
    """`source` decoded, upright and in RGB, with its hash and thumbnail.

    Raises:
        UnreadableImage: it is no image, damaged, or exceeds a limit.
    """
    name = source_name(source)
    if isinstance(source, (str, Path, bytes)):
        data = _read(source, name, limits)
        rgb = _to_rgb(_open(data, name), name, limits)
        content_hash = hashlib.sha256(data).digest()
    else:
        rgb = _to_rgb(_require_image(source, name), name, limits)
        content_hash = _hash_pixels(source.mode, rgb)
    return DecodedImage(rgb, content_hash, _thumbnail(rgb), _path_of(source))


def original_of(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[bytes, bytes]:
    """(content hash, bytes to keep): the file as it is; a PIL image, whose pixels are hashed, as PNG.

    Raises:
        UnreadableImage: the file cannot be read or exceeds a limit.
    """
    name = source_name(source)
    if isinstance(source, (str, Path, bytes)):
        data = _read(source, name, limits)
        return hashlib.sha256(data).digest(), data
    from PIL.PngImagePlugin import PngInfo

    picture = _require_image(source, name)
    rgb = _to_rgb(picture, name, limits)
    info, out = PngInfo(), io.BytesIO()
    info.add_text(_MODE, picture.mode)
    rgb.save(out, "PNG", pnginfo=info)
    return _hash_pixels(picture.mode, rgb), out.getvalue()


def is_original(data: bytes, content_hash: bytes) -> bool:
    """Whether `data` is what :func:`original_of` gave to keep under this content hash."""
    if hashlib.sha256(data).digest() == content_hash:
        return True
    if _MODE.encode() not in data[:256]:
        return False
    try:
        picture = _open(data, "original")
        picture.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return _hash_pixels(str(picture.info.get(_MODE)), picture) == content_hash


def _path_of(source: ImageSource) -> str | None:
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "filename", "")) or None  # bytes that came with a file's name may have it, too


def _require_image(source: Image, name: str) -> Image:
    from PIL import Image as pil

    if not isinstance(source, pil.Image):
        raise UnreadableImage(name, f"expected a path, bytes or a PIL image, got {type(source).__name__}")
    return source


def _read(source: str | Path | bytes, name: str, limits: ImageLimits) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = _read_file(source, name, limits)
        except (OSError, ValueError) as e:  # ValueError: a NUL in the path
            raise UnreadableImage(name, f"cannot be read: {getattr(e, 'strerror', None) or e}") from e
    if not data:
        raise UnreadableImage(name, "the file is empty")
    if len(data) > limits.max_bytes:
        _too_large(name, len(data), limits)
    return data


def _read_file(path: str | Path, name: str, limits: ImageLimits) -> bytes:
    # Opening without blocking and asking the open file what it is: a FIFO cannot hang us, nor a swap fool us.
    # Looking first as well: merely opening some devices does something.
    _require_regular(Path(path).stat(), name)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        _require_regular(status, name)
        if status.st_size > limits.max_bytes:
            _too_large(name, status.st_size, limits)
        return file.read(status.st_size)  # not all that would be allowed: that much memory is taken first


def _require_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImage(name, "is a folder, not an image file")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage(name, "is not a regular file")


def _too_large(name: str, size: int, limits: ImageLimits) -> NoReturn:
    raise UnreadableImage(name, f"the file has {size} bytes, more than the limit of {limits.max_bytes}")


def _open(data: bytes, name: str) -> Image:
    """The image in `data`, header parsed, pixels not.

    Image.open would judge the size by Pillow's process-wide limit, in part as a warning; ours decides instead, so the
    plugins are called through the registry that Image.open itself uses.
    """
    from PIL import Image as pil

    if any(format_name not in pil.OPEN for format_name in FORMATS):
        pil.init()
    for format_name in FORMATS:
        factory, accept = pil.OPEN.get(format_name, (None, None))
        try:
            # accept may also answer with a text: Pillow was built without that format.
            if factory is not None and (accept is None or accept(data[:16]) is True):
                return factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # this plugin does not know it; another may
        except Exception as e:
            # Plugins parse hostile bytes and may raise anything; whatever it is, the header is bad.
            raise UnreadableImage(name, f"damaged {format_name} header ({_first_line(e)})") from e
    raise UnreadableImage(name, f"not an image in a known format ({', '.join(FORMATS)})")


def _to_rgb(image: Image, name: str, limits: ImageLimits) -> Image:
    from trustvlm.encoders.pixels import to_rgb

    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImage(name, f"has no pixels ({width}×{height})")
    if width * height > limits.max_pixels:
        raise UnreadableImage(
            name, f"has {width}×{height} = {width * height} pixels, more than the limit of {limits.max_pixels}"
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise UnreadableImage(name, f"is {width}×{height}: the sides differ by more than {limits.max_aspect:g} times")
    try:
        image.load()
        return _upright(to_rgb(image), image)
    except MemoryError:
        raise  # says nothing about the image
    except Exception as e:
        # Decoders of hostile bytes raise OSError, SyntaxError, struct.error, zlib.error and more.
        raise UnreadableImage(name, f"damaged or truncated image ({_first_line(e)})") from e


def _upright(rgb: Image, original: Image) -> Image:
    """ImageOps.exif_transpose, but an image with good pixels and unreadable EXIF is kept as it lies."""
    from PIL import Image as pil

    try:
        orientation = original.getexif().get(_ORIENTATION, 1)
    except Exception:  # the EXIF block is foreign bytes as well, and not worth the image
        return rgb
    turn = {
        2: pil.Transpose.FLIP_LEFT_RIGHT,
        3: pil.Transpose.ROTATE_180,
        4: pil.Transpose.FLIP_TOP_BOTTOM,
        5: pil.Transpose.TRANSPOSE,
        6: pil.Transpose.ROTATE_270,
        7: pil.Transpose.TRANSVERSE,
        8: pil.Transpose.ROTATE_90,
    }.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _hash_pixels(mode: str, rgb: Image) -> bytes:
    digest = hashlib.sha256(f"{mode} {rgb.width}x{rgb.height}\n".encode())
    digest.update(rgb.tobytes())
    return digest.digest()


def _thumbnail(rgb: Image) -> bytes:
    scale = max(rgb.size) / _THUMBNAIL_PIXELS
    size = max(1, round(rgb.width / scale)), max(1, round(rgb.height / scale))
    small = rgb.copy() if scale <= 1 else rgb.resize(size, reducing_gap=2.0)
    small.info = {}  # comments would be written along
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
