"""Any PIL mode to 8-bit RGB without losing the picture: Pillow's own conversion clips 16-bit and float images to white."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.errors import InvalidInput

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["to_rgb"]

_ROWS = 256


def to_rgb(image: Image) -> Image:
    """`image` (loaded; the first or current frame) as 8-bit RGB, transparency laid over white.

    16-bit grey is scaled to 8 bits; 32-bit integers are taken as 16-bit when they fit and stretched from their least to
    their largest value otherwise; floats are taken as 0…1 or 0…255 when they fit and stretched otherwise.

    Raises:
        InvalidInput: a float image holds NaN or infinity.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep_grey_to_rgb(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _by_bands(image, _over_white)
    return _by_bands(image, lambda part: part.convert("RGB"))


def _by_bands(image: Image, convert: Callable[[Image], Image]) -> Image:
    """`convert` of some rows at a time: of a large image nothing but the source and the result is there at once."""
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


def _deep_grey_to_rgb(image: Image) -> Image:
    from PIL import Image as pil

    ends = [(float(values.min()), float(values.max())) for values in (np.asarray(part) for _, part in _bands(image))]
    # NumPy's minimum, not Python's: NaN must come through
    low, high = _range(float(np.min(ends)), float(np.max(ends)), floats=image.mode == "F")

    def scaled(part: Image) -> Image:
        # float64 of a whole large image would be eight times its size
        grey = np.rint((np.asarray(part).astype(np.float64) - low) * (255.0 / (high - low)))
        return pil.fromarray(grey.astype(np.uint8)).convert("RGB")

    return _by_bands(image, scaled)


def _range(low: float, high: float, *, floats: bool) -> tuple[float, float]:
    """The values that become black and white, from the least and the largest there are."""
    if not math.isfinite(low) or not math.isfinite(high):
        raise InvalidInput("holds NaN or infinite pixel values")
    for top in (1.0, 255.0) if floats else (65535.0,):
        if low >= 0.0 and high <= top:
            return 0.0, top
    return low, high
