"""Any PIL mode to 8-bit RGB without losing the picture: Pillow's own conversion clips 16-bit and float images to white."""

from __future__ import annotations

import math
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
        return _over_white(image)
    return image.convert("RGB")


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

    values = np.asarray(image)
    low, high = _range(float(values.min()), float(values.max()), floats=image.mode == "F")
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS):  # float64 of a whole large image would be eight times its size
        rows = slice(start, start + _ROWS)
        grey[rows] = np.rint((values[rows].astype(np.float64) - low) * (255.0 / (high - low)))
    return pil.fromarray(grey).convert("RGB")


def _range(low: float, high: float, *, floats: bool) -> tuple[float, float]:
    """The values that become black and white, from the least and the largest there are."""
    if not math.isfinite(low) or not math.isfinite(high):
        raise InvalidInput("holds NaN or infinite pixel values")
    for top in (1.0, 255.0) if floats else (65535.0,):
        if low >= 0.0 and high <= top:
            return 0.0, top
    return low, high
