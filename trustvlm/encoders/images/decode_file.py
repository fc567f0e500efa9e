"""From the bytes of an image file to an upright RGB image; it runs in a sandbox, whose limits on
memory and CPU time hold for whatever a decoder does.

The size is checked from the header before anything is decoded. docs/hostile-input.md lists what was
tried.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from trustvlm.encoders.images.foreign import layout_of, refused, what_it_is
from trustvlm.encoders.images.pixels import read_rgb
from trustvlm.reading.image_files import ImageLimits, UnreadableImage
from trustvlm.system.sandbox import limit_cpu
from trustvlm.types.messages.remarks import Remark

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Raster formats only: what runs programs (EPS) or other parsers (PDF, SVG) never reaches them."""

SECONDS, SECONDS_PER_PIXEL = 5.0, 3e-7
"""CPU time that reading an image may take."""

_BYTES_PER_PIXEL = 8  # what a decoder gives and its RGB copy, 4 each …
_DECODERS_BYTES = {"WEBP": 20, "AVIF": 15}  # … and where a decoder keeps copies of its own
_ORIENTATION = 0x0112  # the EXIF tag
_CUT = Remark("cut off before the end, the missing part filled", named=True)
_LACKS_END = (
    "its last bytes are missing, as after an interrupted download or copy: fetch it again, or read "
    "the part that is there with accept_truncated"
)

Pixels = tuple["Image", tuple[Remark, ...]]


def decode_file(data: bytes, name: str, limits: ImageLimits) -> Pixels:
    """The file `data` as an upright RGB image, and what was done to it.

    Raises:
        UnreadableImage: it is no image, damaged, of a kind that is not read, or exceeds a limit.
    """
    from PIL import ImageFile

    limit_cpu(SECONDS)
    open_file, form = _opener(data, name)
    with damage(name):
        size = open_file().size
    check_size(size, name, limits, _DECODERS_BYTES.get(form, _BYTES_PER_PIXEL))
    limit_cpu(SECONDS + SECONDS_PER_PIXEL * size[0] * size[1])
    try:
        return _pixels(open_file, name, limits)
    except UnreadableImage as error:
        if layout := layout_of(data, opened=True):
            raise UnreadableImage(name, layout) from error
        if not _lacks_end(data, form):
            raise
        if not limits.accept_truncated:
            raise UnreadableImage(name, f"{error.reason}; {_LACKS_END}") from error
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # Pillow's, for this whole process: the sandbox
    try:
        rgb, remarks = _pixels(open_file, name, limits)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    if rgb.getbbox() is None:
        raise UnreadableImage(name, "damaged or truncated image (it ends before its first pixels)")
    return rgb, (*remarks, _CUT)


def check_size(
    size: tuple[int, int], name: str, limits: ImageLimits, bytes_per_pixel: int = _BYTES_PER_PIXEL
) -> None:
    """Raises UnreadableImage for an image that would be larger than the limits."""
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
    if (needed := bytes_per_pixel * width * height) > limits.max_memory:
        raise UnreadableImage(
            name,
            f"is {width}×{height}: decoding it takes about {needed} bytes, more than the limit "
            f"of {limits.max_memory}",
        )


@contextmanager
def damage(name: str) -> Iterator[None]:
    """What decoders raise becomes UnreadableImage."""
    try:
        yield
    except (MemoryError, UnreadableImage):
        raise
    except Exception as error:
        # Decoders of hostile bytes raise OSError, SyntaxError, struct.error, zlib.error and more.
        raise UnreadableImage(name, f"damaged or truncated image ({_first_line(error)})") from error


def upright(rgb: Image, original: Image) -> Image:
    """`rgb` turned as the EXIF or XMP block of `original` says; as it lies where that block cannot
    be read."""
    from PIL import Image as pil

    try:
        orientation = original.getexif().get(_ORIENTATION, 1)
    except Exception:  # foreign bytes as well, and not worth the image
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


def _pixels(open_file: Callable[[], Image], name: str, limits: ImageLimits) -> Pixels:
    with damage(name):
        image = open_file()
        rgb, remarks = read_rgb(image, open_file, limits.value_range)
        # Read after the pixels: of a TIFF Pillow turns them itself, and then forgets the tag.
        return upright(rgb, image), remarks


def _opener(data: bytes, name: str) -> tuple[Callable[[], Image], str]:
    """What opens the file, header parsed, pixels not; and its format.

    Image.open would judge the size by Pillow's process-wide limit, in part as a warning; ours
    decides instead, so the plugins are called through the registry that Image.open itself uses.
    """
    from PIL import Image as pil

    pil.preinit()  # the common formats; the plugins of formats that are not read are never loaded
    for plugin in ("Tiff", "WebP", "Avif"):
        with suppress(ImportError):  # Pillow before 11.3 has none for AVIF
            import_module(f"PIL.{plugin}ImagePlugin")
    if reason := refused(data):
        raise UnreadableImage(name, reason)
    for form in FORMATS:
        factory, accept = pil.OPEN.get(form, (None, None))
        # accept may also answer with a text: Pillow was built without that format.
        if (
            factory is None
            or (accept is not None and accept(data[:16]) is not True)
            or not _is_named(data, form)
        ):
            continue
        plain = _without_metadata(data) if form == "PNG" else data

        def open_file(factory: Callable[..., Image] = factory, plain: bytes = plain) -> Image:
            return factory(io.BytesIO(plain), "")

        try:
            open_file()
            return open_file, form
        except MemoryError:
            raise
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # this plugin does not know it; another may
        except Exception as error:
            # Plugins parse hostile bytes and may raise anything; whatever it is, the header is bad.
            raise UnreadableImage(
                name, layout_of(data) or f"damaged {form} header ({_first_line(error)})"
            ) from error
    raise UnreadableImage(
        name, what_it_is(data) or f"not an image in a known format ({', '.join(FORMATS)})"
    )


def _is_named(data: bytes, form: str) -> bool:
    """Whether a file of boxes says that it is an AVIF: HEIF files of telephones begin alike."""
    return form != "AVIF" or b"avif" in data[8:12] + data[16 : min(int.from_bytes(data[:4]), 256)]


def _without_metadata(data: bytes) -> bytes:
    """A PNG with its critical chunks, transparency and orientation (EXIF, XMP): Pillow refuses a
    file for what its texts unpack to."""
    kept, at = [data[:8]], 8
    while len(kind := data[at + 4 : at + 8]) == 4:
        end = at + 12 + int.from_bytes(data[at : at + 4])
        xmp = kind == b"iTXt" and data[at + 8 : at + 28] == b"XML:com.adobe.xmp\0\0\0"
        if not kind[0] & 0x20 or kind in (b"tRNS", b"eXIf") or xmp:
            kept.append(data[at:end])
        if kind == b"IEND":
            break
        at = end
    return b"".join(kept)


def _lacks_end(data: bytes, form: str) -> bool:
    """Whether a JPEG or PNG stops before its end."""
    if form == "JPEG":
        return b"\xff\xd9" not in data
    return form == "PNG" and _without_metadata(data)[-8:-4] != b"IEND"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
