"""Any PIL mode to 8-bit RGB without losing the picture: Pillow's own conversion clips deep images
and loses their contrast.

What is decided here, for which format and why, is described in docs/images.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trustvlm.encoders.images.deep import (
    Deep,
    deep_colour,
    deep_grey,
    deep_ppm,
    has_deep_colour,
    plain_colour,
    right_order,
    tiff_values,
)
from trustvlm.encoders.images.depth import MAX_SAMPLE, ValueRange, estimate_range
from trustvlm.types.messages.remarks import Remark

if TYPE_CHECKING:
    from PIL.Image import Image

Fixed = tuple[float, float] | None
"""The values that become black and white in every deep image; None: estimated from each."""

_ROWS = 256
_VALUES = 1 << 18
_EXTRA_SAMPLES, _SAMPLES = 338, 277
_ALPHA_TAGS = (1, 2, 999)  # premultiplied, not, and what an old program wrote for the latter
_UNUSED_BANDS = Remark(
    "with bands besides red, green, blue and transparency: the other bands are not used"
)
_SAME_OPACITY = Remark("of the same transparency everywhere: the transparency is ignored")
_NO_DATA = Remark("with no-data pixels: left out of the range of values")
_CUT = Remark("with a few pixels far outside the range of the others: they become black or white")


def read_rgb(
    image: Image, reopen: Callable[[], Image] | None, fixed: Fixed = None
) -> tuple[Image, tuple[Remark, ...]]:
    """`image` (the first or current frame) as 8-bit RGB, transparency laid over white, and what was
    done to it.

    Args:
        image: it is loaded here, unless it is already.
        reopen: opens the same file once more; called for 16-bit colour. None: it cannot be opened,
            Pillow's 8 bits must do.
        fixed: the range of values of deep images.
    """
    deep = deep_ppm(image) or (deep_colour(image, reopen) if reopen else None)
    if deep is not None:
        remark = (
            _disbelief(deep.upper)
            if deep.upper and deep.upper.mode != "RGB"
            else _bands_unused(image)
        )
        return _stretched(deep, fixed, remark)
    premultiplied = reopen is not None and has_deep_colour(image)
    if premultiplied:
        plain_colour(image)
    right_order(image)
    image.load()
    deep = deep_grey(image)
    if deep is not None:
        return _stretched(deep, fixed, None)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        remark = _disbelief(image)
        if remark is not None:
            return _by_bands(image, lambda part: _colours(part).convert("RGB")), (remark,)
        return _by_bands(image, _over_white_premultiplied if premultiplied else _over_white), ()
    remark = _bands_unused(image)
    rgb = image if image.mode == "RGB" else _by_bands(image, lambda part: part.convert("RGB"))
    return rgb, () if remark is None else (remark,)


def _by_bands(image: Image, convert: Callable[[Image], Image]) -> Image:
    """`convert` of some rows at a time: of a large image nothing but the source and the result is
    there at once."""
    from PIL import Image as pil

    if image.height <= _ROWS:
        return convert(image)
    rgb = pil.new("RGB", image.size)
    for top, part in _bands(image):
        rgb.paste(convert(part), (0, top))
    return rgb


def _bands(image: Image) -> Iterator[tuple[int, Image]]:
    for top in range(0, image.height, _ROWS):
        part = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        if "transparency" in image.info:  # crop keeps the palette, not all of info
            part.info["transparency"] = image.info["transparency"]
        yield top, part


def _over_white(image: Image) -> Image:
    from PIL import Image as pil

    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    white = pil.new("RGBA", image.size, (255, 255, 255, 255))
    return pil.alpha_composite(white, image).convert("RGB")


def _over_white_premultiplied(image: Image) -> Image:
    from PIL import Image as pil
    from PIL import ImageChops

    red, green, blue, alpha = image.split()
    rest = ImageChops.invert(alpha)
    return pil.merge("RGB", [ImageChops.add(colour, rest) for colour in (red, green, blue)])


def _colours(image: Image) -> Image:
    """`image` without its opacity, colours as they are stored."""
    if image.mode in ("La", "RGBa"):
        from PIL import Image as pil

        bands = image.split()[:-1]
        return bands[0] if len(bands) == 1 else pil.merge("RGB", bands)
    plain = image.copy()
    plain.info.pop("transparency", None)
    return plain


def _bands_unused(image: Image) -> Remark | None:
    many = tiff_values(image, _SAMPLES)
    return _UNUSED_BANDS if image.mode == "RGB" and many and many[0] > 3 else None


def _disbelief(image: Image) -> Remark | None:
    """Why the opacity of a loaded image is none; None where it is one.

    Opacity is 0 or full almost everywhere, and somewhere full. In a TIFF, where a fourth band may
    be anything, it must be so and be called so; elsewhere, only what is the same everywhere, and
    not full, is taken for none.
    """
    careful = image.format == "TIFF" and "transparency" not in image.info
    if careful and (tiff_values(image, _EXTRA_SAMPLES) or (None,))[0] not in _ALPHA_TAGS:
        return _UNUSED_BANDS
    counts = np.zeros(256, np.int64)
    for _, part in _bands(image):
        shown = part.convert("RGBA") if "transparency" in image.info or image.mode == "PA" else part
        counts += np.array(shown.getchannel(len(shown.getbands()) - 1).histogram(), np.int64)
        if not careful and (counts[255] or np.count_nonzero(counts) > 1):
            return None
    if np.count_nonzero(counts) == 1 and not counts[255]:
        return _SAME_OPACITY
    extremes = counts[0] + counts[255]
    return (
        None
        if 4 * extremes >= 3 * counts.sum() and 100 * counts[255] >= counts.sum()
        else _UNUSED_BANDS
    )


def _stretched(
    deep: Deep, fixed: Fixed, disbelief: Remark | None
) -> tuple[Image, tuple[Remark, ...]]:
    from PIL import Image as pil

    height = deep.size[1]
    chosen = _range_of(deep) if fixed is None else ValueRange(*fixed, *fixed)
    low, high = chosen.low, chosen.high
    rgb = pil.new("RGB", deep.size)
    step = _deep_rows(deep)
    table = _scaled(np.arange(65536), deep, low, high)  # all values of 16 bits
    for top in range(0, height, step):
        stored, opacity = deep.band(top, min(top + step, height))
        of_16_bits = stored.dtype.newbyteorder("=") == np.uint16
        grey = table[stored] if of_16_bits else _scaled(stored, deep, low, high)
        if opacity is not None and disbelief is None:
            share = opacity.astype(np.float32)
            share = share[..., None] if grey.ndim == 3 else share
            grey = (grey if deep.premultiplied else grey * share) + 255.0 * (1.0 - share)
        pixels = np.rint(np.clip(grey, 0.0, 255.0)).astype(np.uint8)
        rgb.paste(pil.fromarray(pixels).convert("RGB"), (0, top))
    remarks = [] if disbelief is None else [disbelief]
    if fixed is not None or (low, high) not in deep.type_ranges:
        ends = (chosen.least, chosen.largest) if fixed else (low, high)
        remarks.append(Remark(deep.what, *ends))
    if chosen.no_data:
        remarks.append(_NO_DATA)
    if chosen.cut:
        remarks.append(_CUT)
    return rgb, tuple(remarks)


def _scaled(
    stored: npt.NDArray[Any], deep: Deep, low: float, high: float
) -> npt.NDArray[np.float32]:
    """Stored values as 0 (black) to 255 (white); what was not measured is black."""
    values = stored.astype(np.float64)
    empty = ~np.isfinite(values)
    if deep.no_data is not None:
        empty |= values == deep.no_data
    scaled = np.clip((np.where(empty, low, values) - low) * (255.0 / (high - low)), 0.0, 255.0)
    return (255.0 - scaled if deep.white_is_zero else scaled).astype(np.float32)


def _range_of(deep: Deep) -> ValueRange:
    """The range of an image, from all its pixels or, of a large one, from a grid of them."""
    width, height = deep.size
    step = math.ceil(math.sqrt(max(1.0, width * height / MAX_SAMPLE)))
    rows = _deep_rows(deep) if step == 1 else 1
    grid = [
        deep.band(top, min(top + rows, height))[0][:, ::step].ravel()
        for top in range(0, height, max(rows, step))
    ]
    return estimate_range(np.concatenate(grid), deep.no_data)


def _deep_rows(deep: Deep) -> int:
    """Rows that are worked on at a time: as float64 they are small beside the image."""
    return max(1, min(_ROWS, _VALUES // deep.size[0]))
