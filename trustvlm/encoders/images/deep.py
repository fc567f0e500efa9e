"""Images of more than 8 bits a channel as rows of numbers: what Pillow reads of them, and what it
would throw away.

Of 16-bit colour Pillow keeps the upper byte of each sample, so that 12-bit data become black. Its
decoders can be told to use the other byte order, which keeps the lower one: the file is decoded
twice and the bytes are put together.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

Numbers = npt.NDArray[Any]
Band = Callable[[int, int], tuple[Numbers, Numbers | None]]

_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
_LITTLE = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _NO_DATA = 258, 262, 339, 42113
_SIGNED = 2
_FLOAT_RANGES = {"F": ((0.0, 1.0), (0.0, 255.0))}


@dataclass(frozen=True)
class Deep:
    """The pixels of a deep image.

    Attributes:
        size: (width, height).
        what: what kind of image it is, for a remark: "of 16 bit".
        type_ranges: ranges that are those of the file's type, so that nothing is stretched.
        band: (top, bottom) → (rows, width) grey values or (rows, width, 3) colours, and (rows,
            width) opacity from 0 to 1, None where all of it is opaque.
        no_data: the value that the file says means "not measured".
        white_is_zero: the smallest value is white.
        premultiplied: the colours are multiplied by the opacity.
        upper: the upper bytes of colours and opacity as an image.
    """

    size: tuple[int, int]
    what: str
    type_ranges: tuple[tuple[float, float], ...]
    band: Band
    no_data: float | None = None
    white_is_zero: bool = False
    premultiplied: bool = False
    upper: Image | None = None


def tiff_values(image: Image, tag: int) -> tuple[Any, ...]:
    """The values of a tag of an image that was read from a TIFF; () without."""
    if image.format != "TIFF":
        return ()
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def deep_grey(image: Image) -> Deep | None:
    """The pixels of a loaded image of one deep channel; None for any other image."""
    signed_bytes = image.mode == "L" and tiff_values(image, _SAMPLE_FORMAT) == (_SIGNED,)
    if not (image.mode.startswith("I;16") or image.mode in ("I", "F") or signed_bytes):
        return None
    key = image.info.get("transparency")
    bits = (tiff_values(image, _BITS) or (16 if image.mode.startswith("I;16") else 32,))[0]
    type_ranges: tuple[tuple[float, float], ...] = (
        (0.0, 255.0),
        (0.0, 65535.0),
        (0.0, 2.0**bits - 1),
        (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1),
    )
    unsigned = (
        image.mode == "I" and bits == 32 and tiff_values(image, _BITS) and not _is_signed(image)
    )

    def band(top: int, bottom: int) -> tuple[Numbers, Numbers | None]:
        values = np.asarray(image.crop((0, top, image.width, bottom)))
        opacity = values != key if isinstance(key, int) else None
        if signed_bytes:
            values = values.view(np.int8)
        return values.view(np.uint32) if unsigned else values, opacity

    return Deep(
        image.size,
        "of floating point" if image.mode == "F" else f"of {bits} bit",
        _FLOAT_RANGES.get(image.mode, type_ranges),
        band,
        no_data=_no_data(image),
        white_is_zero=tiff_values(image, _PHOTOMETRIC) == (0,),
    )


def deep_ppm(image: Image) -> Deep | None:
    """The pixels of a PGM or PPM that is not loaded yet and whose largest value is above 255; None
    for any other image.

    Pillow would scale them one by one in Python, and colours to 8 bits.
    """
    if image.format != "PPM" or not getattr(image, "tile", ()):
        return None
    codec, _, offset, args = image.tile[0]  # type: ignore[attr-defined]
    largest = (
        args[-1] if isinstance(args, tuple) and codec != "raw" else 65535 if args == "I;16B" else 0
    )
    if not isinstance(largest, int) or largest <= 255:
        return None
    shape = (image.height, image.width, 3) if image.mode == "RGB" else (image.height, image.width)
    count = math.prod(shape)
    image.fp.seek(offset)  # type: ignore[attr-defined]
    if codec == "ppm_plain":
        words = re.sub(rb"#[^\r\n]*", b" ", image.fp.read()).split()  # type: ignore[attr-defined]
        numbers = np.array([int(word) for word in words[:count]], dtype=np.int64)
        if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) <= largest:
            raise ValueError(f"has values outside of 0 to {largest}")
    else:
        numbers = np.frombuffer(image.fp.read(2 * count), dtype=">u2")  # type: ignore[attr-defined]
    if numbers.size < count:
        raise OSError(f"image file is truncated ({numbers.size} of {count} values)")
    pixels = numbers.reshape(shape)
    return Deep(
        image.size,
        f"of {largest.bit_length()} bit",
        ((0.0, float(largest)),),
        lambda top, bottom: (pixels[top:bottom], None),
    )


def _is_signed(image: Image) -> bool:
    return tiff_values(image, _SAMPLE_FORMAT)[:1] == (_SIGNED,)


def _no_data(image: Image) -> float | None:
    """What GDAL wrote to say which value means "not measured"."""
    text = "".join(str(part) for part in tiff_values(image, _NO_DATA)).strip(" \0")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def has_deep_colour(image: Image) -> bool:
    """Whether the file behind an image that is not loaded yet has colours of 16 bits, or colours
    times opacity."""
    if image.mode not in ("RGB", "RGBA") or image.format not in ("PNG", "TIFF"):
        return False
    modes = _stored_modes(image)
    return any(mode[-4:] in _SWAPPED or mode.startswith("RGBa") for mode in modes)


def deep_colour(image: Image, reopen: Callable[[], Image]) -> Deep | None:
    """The pixels of a PNG or TIFF of 16-bit colour; None for any other image.

    Args:
        image: not loaded yet. reopen: opens the same file once more.
    """
    modes = _stored_modes(image)
    if not (has_deep_colour(image) and all(mode[-4:] in _SWAPPED for mode in modes)):
        return None
    upper, lower = image, reopen()
    if modes[0].startswith("LA"):
        upper, lower = _grey_bytes(image)
    else:
        for part, swap in ((upper, False), (lower, True)):
            _decode_as(part, [_colour_mode(mode, swap) for mode in modes])
    key = image.info.get("transparency")
    full = 2.0 ** (8 + _largest(upper).bit_length()) - 1  # 4095 where opacity has 12 bits as well

    def band(top: int, bottom: int) -> tuple[Numbers, Numbers | None]:
        box = (0, top, image.width, bottom)
        high, low = (np.asarray(part.crop(box)) for part in (upper, lower))
        samples = high.astype(np.uint16) << 8 | low
        if upper.mode != "RGB":
            colours = samples[..., 0] if upper.mode == "LA" else samples[..., :3]
            return colours, samples[..., -1] / full
        opaque = (samples != np.array(key)).any(axis=-1) if isinstance(key, tuple) else None
        return samples, opaque

    return Deep(
        image.size,
        "of 16 bit",
        ((0.0, 65535.0),),
        band,
        upper=upper,
        premultiplied=modes[0].startswith("RGBa"),
    )


def _largest(image: Image) -> int:
    """The largest value of the last of several bands."""
    extrema = cast(tuple[tuple[int, int], ...], image.getextrema())
    return extrema[-1][1]


def _grey_bytes(image: Image) -> tuple[Image, Image]:
    """(upper, lower) bytes of grey with opacity: Pillow has no unpacker for the lower ones, but one
    for four bands."""
    from PIL import Image as pil

    image.tile = [_with_raw_mode(tile, "RGBA") for tile in image.tile]  # type: ignore[attr-defined]
    image.load()
    grey, grey_low, alpha, alpha_low = image.split()
    return pil.merge("LA", (grey, alpha)), pil.merge("LA", (grey_low, alpha_low))


def right_order(image: Image) -> None:
    """Let Pillow read what libtiff gives it, which is in this machine's order, in that order; of
    some modes it forgets that."""
    if image.format == "TIFF":
        _set_tiles(image, [_in_machine_order(tile) for tile in _tiles(image)])


def _tiles(image: Image) -> list[Any]:
    return list(getattr(image, "tile", ()))


def _set_tiles(image: Image, tiles: list[Any]) -> None:
    image.tile = tiles  # type: ignore[attr-defined]


def _in_machine_order(tile: Any) -> Any:
    modes = (
        _LITTLE if sys.byteorder == "little" else {little: big for big, little in _LITTLE.items()}
    )
    mode = _raw_mode(tile)
    return (
        _with_raw_mode(tile, modes[mode])
        if tile.codec_name == "libtiff" and mode in modes
        else tile
    )


def plain_colour(image: Image) -> None:
    """Let Pillow leave the colours as they are stored: it would divide them by a fourth band that
    may be no opacity."""
    tiles = _tiles(image)
    _set_tiles(image, [_with_raw_mode(tile, _raw_mode(tile).replace("a", "A")) for tile in tiles])


def _stored_modes(image: Image) -> list[str]:
    """The raw mode of each tile of an image that is not loaded.

    Of a TIFF of 16 bits with a plane for each colour, Pillow forgets the bits.
    """
    modes = [_raw_mode(tile) for tile in _tiles(image)]
    if tiff_values(image, _BITS)[:1] == (16,):
        order = "L" if image.tag_v2.prefix == b"II" else "B"  # type: ignore[attr-defined]
        return [f"{mode};16{order}" if mode in ("R", "G", "B") else mode for mode in modes]
    return modes


def _decode_as(image: Image, modes: list[str]) -> None:
    _set_tiles(image, [_with_raw_mode(*pair) for pair in zip(_tiles(image), modes, strict=True)])
    image.load()


def _raw_mode(tile: Any) -> str:
    return tile.args if isinstance(tile.args, str) else str((tile.args or ("",))[0])


def _with_raw_mode(tile: Any, mode: str) -> Any:
    """What Pillow is to decode, with the raw mode `mode`."""
    return tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))


def _colour_mode(mode: str, swap: bool) -> str:
    """The raw mode that gives the upper bytes of the stored samples, or with `swap` the lower
    ones."""
    end = mode[-4:]
    return mode[:-4].replace("a", "A") + (_SWAPPED[end] if swap else end)
