"""From a path, the bytes of a file or a PIL image to a checked RGB image, its content hash and a
thumbnail.

Nothing is decoded before its header has passed the limits, and nothing but a regular file is ever
read. Decoders see the file without its metadata (:mod:`trustvlm.encoders.images.containers`); what
they would take is estimated from the header and limited. docs/hostile-input.md lists what was
tried.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trustvlm.encoders.images.completing import (
    COMPLETED,
    LACKS_END,
    completed,
    completion_bytes,
    lacks_end,
)
from trustvlm.encoders.images.containers import Costly, Foreign, Stripped, strip
from trustvlm.encoders.images.foreign import layout_of, what_it_is
from trustvlm.encoders.images.reading import (
    DEFAULT_LIMITS,
    ImageLimits,
    UnreadableImage,
    path_of,
    read,
    require_image,
    source_name,
)
from trustvlm.types.remarks import Remark

if TYPE_CHECKING:
    from PIL.Image import Image

    from trustvlm.types.inputs import ImageSource

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

Decoded = tuple["Image", tuple[Remark, ...]]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Raster formats only: what runs programs (EPS) or other parsers (PDF, SVG) never reaches them."""

SLOW_DECODERS = {
    "bmp_rle": "RLE-compressed BMP",
    "ppm": "PPM whose largest value is not 255",
    "ppm_plain": "PPM written as text",
}
"""What Pillow decodes byte by byte in Python, up to a microsecond each."""
MAX_SLOW_BYTES = 4 * 2**20
MAX_SLOW_SAMPLES = 2_000_000
"""Size of the file, and width × height × bands, up to which those are decoded."""

_MAX_COMMENTS = 100  # in a PPM written as text: Pillow copies a block for each
_PPM_HEAD = 64 << 10  # Pillow reads it a byte at a time
_THUMBNAIL_PIXELS = 128
_ORIENTATION = 0x0112  # the EXIF tag
_MODE = (
    "trustvlm-mode"  # the PNG text that says which mode a kept picture had: its hash begins with it
)


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


def hash_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """SHA-256 (32 bytes) of the file's bytes; of mode, size and RGB pixels for a PIL image.

    Raises:
        UnreadableImage: the file cannot be read or exceeds a limit. A file that is no image is not
            noticed here.
    """
    name = source_name(source)
    if isinstance(source, (str, Path, bytes)):
        return hashlib.sha256(read(source, name, limits)).digest()
    return _hash_pixels(require_image(source, name).mode, _to_rgb(source, name, limits)[0])


def decode_image(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> DecodedImage:
    """`source` decoded, upright and in RGB, with its hash and thumbnail.

    Raises:
        UnreadableImage: it is no image, damaged, or exceeds a limit.
    """
    name = source_name(source)
    if isinstance(source, (str, Path, bytes)):
        data = read(source, name, limits)
        rgb, remarks = _decode(data, name, limits)
        content_hash = hashlib.sha256(data).digest()
    else:
        rgb, remarks = _to_rgb(require_image(source, name), name, limits)
        content_hash = _hash_pixels(source.mode, rgb)
    return DecodedImage(rgb, content_hash, _thumbnail(rgb), path_of(source), remarks)


def original_of(source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[bytes, bytes]:
    """(content hash, bytes to keep): the file as it is; a PIL image, whose pixels are hashed, as
    PNG.

    Raises:
        UnreadableImage: the file cannot be read or exceeds a limit.
    """
    name = source_name(source)
    if isinstance(source, (str, Path, bytes)):
        data = read(source, name, limits)
        return hashlib.sha256(data).digest(), data
    from PIL.PngImagePlugin import PngInfo

    picture = require_image(source, name)
    rgb, _ = _to_rgb(picture, name, limits)
    info, out = PngInfo(), io.BytesIO()
    info.add_text(_MODE, picture.mode)
    rgb.save(out, "PNG", pnginfo=info)
    return _hash_pixels(picture.mode, rgb), out.getvalue()


def is_original(data: bytes, content_hash: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> bool:
    """Whether `data` is what :func:`original_of` gave to keep under this content hash."""
    if hashlib.sha256(data).digest() == content_hash:
        return True
    key = _MODE.encode() + b"\0"
    at = data[:256].find(
        key
    )  # a text chunk of PNG: four bytes of length, its name, then the key and what it stands for
    if at < 8:
        return False
    mode = data[at + len(key) : at + int.from_bytes(data[at - 8 : at - 4])]
    try:
        return (
            _hash_pixels(mode.decode("latin-1"), _decode(data, "original", limits)[0])
            == content_hash
        )
    except UnreadableImage:
        return False


def _decode(data: bytes, name: str, limits: ImageLimits) -> Decoded:
    """The file as an upright RGB image, and what was done to it."""
    image, stripped = _open(data, name, limits)
    _check(image.size, name, limits, stripped)
    _check_slow(image, data, name)
    form, size, factory = str(image.format), image.size, type(image)
    # it may hold memory already; what decodes opens the file itself and lets go of it as soon as it
    # can
    del image
    try:
        return _pixels(factory, stripped.data, stripped.orientation, name, limits)
    except UnreadableImage as error:
        layout = layout_of(data, opened=True)
        if layout:
            raise UnreadableImage(name, layout) from error
        if not lacks_end(stripped.data, form):
            raise
        if not limits.accept_truncated:
            raise UnreadableImage(name, f"{error.reason}; {LACKS_END}") from error
    with _damage(name):
        extra = completion_bytes(stripped.data, form)
    _check(size, name, limits, replace(stripped, extra_bytes=stripped.extra_bytes + extra))
    with _damage(name):
        whole = completed(stripped.data, form)
    rgb, remarks = _pixels(factory, whole, stripped.orientation, name, limits)
    return rgb, (*remarks, COMPLETED)


def _pixels(
    factory: Callable[..., Image], data: bytes, orientation: int, name: str, limits: ImageLimits
) -> Decoded:
    """The pixels of a file that `factory` opens, upright and in RGB."""
    from trustvlm.encoders.images.pixels import read_rgb

    def again() -> Image:
        return factory(io.BytesIO(data), "")

    with _damage(name):
        image = again()
        if image.format == "AVIF":
            # Its EXIF block is taken out: Pillow makes one with nothing but the turn that the
            # file's boxes say.
            orientation = image.getexif().get(_ORIENTATION, 1)
        rgb, remarks = read_rgb(image, again, limits.value_range)
        # a large image is there twice at most: as decoded and as RGB, or before and after its turn
        del image
        return _turned(rgb, orientation), remarks


def _open(data: bytes, name: str, limits: ImageLimits) -> tuple[Image, Stripped]:
    """The image in `data`, header parsed, pixels not, and what was taken from the file.

    Image.open would judge the size by Pillow's process-wide limit, in part as a warning; ours
    decides instead, so the plugins are called through the registry that Image.open itself uses.
    """
    from PIL import Image as pil

    if any(format_name not in pil.OPEN for format_name in FORMATS):
        pil.init()
    for format_name in FORMATS:
        factory, accept = pil.OPEN.get(format_name, (None, None))
        # accept may also answer with a text: Pillow was built without that format.
        if (
            factory is None
            or (accept is not None and accept(data[:16]) is not True)
            or not _is_named(data, format_name)
        ):
            continue
        try:
            stripped = strip(data, format_name)
            if stripped.size is not None:
                _check(stripped.size, name, limits, stripped)
            if format_name == "PPM":
                factory(io.BytesIO(data[:_PPM_HEAD]), "")
            return factory(io.BytesIO(stripped.data), ""), stripped
        except (Costly, Foreign) as e:
            raise UnreadableImage(name, str(e)) from e
        except (UnreadableImage, MemoryError):
            raise
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # this plugin does not know it; another may
        except Exception as e:
            # Plugins parse hostile bytes and may raise anything; whatever it is, the header is bad.
            raise UnreadableImage(
                name, layout_of(data) or f"damaged {format_name} header ({_first_line(e)})"
            ) from e
    raise UnreadableImage(
        name, what_it_is(data) or f"not an image in a known format ({', '.join(FORMATS)})"
    )


def _is_named(data: bytes, format_name: str) -> bool:
    """Whether a file of boxes says that it is an AVIF: HEIF files of telephones begin alike."""
    return (
        format_name != "AVIF"
        or b"avif" in data[8:12] + data[16 : min(int.from_bytes(data[:4]), 256)]
    )


def _check(
    size: tuple[int, int], name: str, limits: ImageLimits, stripped: Stripped | None = None
) -> None:
    """Raises UnreadableImage for a header whose image would be larger than the limits."""
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableImage(name, f"has no pixels ({width}×{height})")
    if width * height > limits.max_pixels:
        raise UnreadableImage(
            name,
            f"has {width}×{height} = {width * height} pixels, more than the limit of "
            f"{limits.max_pixels}",
        )
    if max(width, height) > limits.max_aspect * min(width, height):
        raise UnreadableImage(
            name, f"is {width}×{height}: the sides differ by more than {limits.max_aspect:g} times"
        )
    if stripped is None:
        return
    needed = int(width * height * stripped.bytes_per_pixel) + stripped.extra_bytes
    if needed > limits.max_memory:
        raise UnreadableImage(
            name,
            f"is {width}×{height}: decoding it takes about {needed} bytes, more than the limit "
            f"of {limits.max_memory}",
        )


def _check_slow(image: Image, data: bytes, name: str) -> None:
    """Raises UnreadableImage for an image that would keep Pillow busy for long."""
    tile = next((tile for tile in getattr(image, "tile", ()) if tile[0] in SLOW_DECODERS), None)
    if tile is None or (
        tile[0] == "ppm" and tile[3][-1] > 255
    ):  # of that depth, we read it ourselves
        return
    kind = SLOW_DECODERS[tile[0]]
    samples = image.width * image.height * len(image.getbands())
    if len(data) > MAX_SLOW_BYTES or samples > MAX_SLOW_SAMPLES:
        raise UnreadableImage(
            name,
            f"is {kind}, which is decoded up to {MAX_SLOW_BYTES} bytes and {MAX_SLOW_SAMPLES} "
            f"values only, "
            f"got {len(data)} and {samples}; save it as PNG",
        )
    plain = image.format == "PPM" and image.tile[0][0] == "ppm_plain"  # type: ignore[attr-defined]
    if plain and data.count(b"#") > _MAX_COMMENTS:
        raise UnreadableImage(name, f"is {kind} with more than {_MAX_COMMENTS} comments")


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """What decoders raise becomes UnreadableImage."""
    try:
        yield
    except MemoryError:
        raise  # says nothing about the image
    except Exception as e:
        # Decoders of hostile bytes raise OSError, SyntaxError, struct.error, zlib.error and more.
        raise UnreadableImage(name, f"damaged or truncated image ({_first_line(e)})") from e


def _to_rgb(image: Image, name: str, limits: ImageLimits) -> Decoded:
    """A PIL image of the caller's as upright RGB, and what was done to it."""
    from trustvlm.encoders.images.pixels import read_rgb

    _check(image.size, name, limits)
    if image.format == "EPS" and getattr(image, "tile", None):
        raise UnreadableImage(
            name,
            "is an EPS drawing that is not loaded: Pillow would run Ghostscript on it, which we "
            "never do",
        )
    with _damage(name):
        data = _file_of(image, limits)
    if data is not None:
        return _decode(data, name, limits)
    with _damage(name):
        rgb, remarks = read_rgb(image, None, limits.value_range)
        return _upright(rgb, image), remarks


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


def _upright(rgb: Image, original: Image) -> Image:
    """ImageOps.exif_transpose, but an image with good pixels and unreadable EXIF is kept as it
    lies."""
    try:
        orientation = original.getexif().get(_ORIENTATION, 1)
    except Exception:  # the EXIF block is foreign bytes as well, and not worth the image
        return rgb
    return _turned(rgb, orientation)


def _turned(rgb: Image, orientation: int) -> Image:
    from PIL import Image as pil

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
