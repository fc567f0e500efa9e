"""Which pixel values become black and white, for images of more than 8 bits a channel and of
floating point.

A file says how many bits it has room for, not which part of them a camera, scanner or detector
used. The range is estimated from the values of the one image, so that the same file always gives
the same pixels; docs/images.md explains each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

MAX_SAMPLE = 262_144
"""Pixels that a range is estimated from; a larger image is sampled by a grid."""

_OUTLIERS = 100  # one pixel in a hundred, at either end, may be an outlier
_LEVELS = 64  # distinct values that a picture has at least
_BRIGHT = 191  # the largest value, of 255, of a picture that needs no stretching
_FILL = 1e18  # floating-point values beyond are fill values
_MARKERS = (
    *(-999.0, -9999.0, -99999.0, -32767.0, -32768.0, -2147483648.0),
    *(9999.0, 99999.0, 32767.0, 2147483647.0),
)
_BELOW, _ABOVE = 0.1, 0.03  # of the values' span: how much wider the range of the device is
_INTEGERS = [
    *((0.0, 2.0**bits - 1) for bits in range(8, 33)),
    *((-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) for bits in (8, 16, 32)),
]
_FLOATS = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0)]


@dataclass(frozen=True)
class ValueRange:
    """The values that become 0 and 255, and what was left out when they were chosen.

    Attributes:
        low, high: these two values; low < high.
        least, largest: the values of the picture that the range was estimated from.
        no_data: values that seem to mean "not measured" and were not counted.
        cut: a few pixels far outside were not counted.
    """

    low: float
    high: float
    least: float
    largest: float
    no_data: tuple[float, ...] = ()
    cut: bool = False


def estimate_range(sample: npt.NDArray[np.generic], no_data: float | None = None) -> ValueRange:
    """The range of an image, from a sample of its values.

    Args:
        sample: pixel values, any shape; NaN and infinite ones are not counted.
        no_data: the value that the file itself says means "not measured".
    """
    floats = sample.dtype.kind == "f"
    values = np.sort(sample.astype(np.float64), axis=None)
    values = values[np.isfinite(values)]
    if floats:
        values = values[np.abs(values) < _FILL]
    absent = [math.nan] if len(values) < sample.size else []
    if no_data is not None and (values == no_data).any():
        absent.append(no_data)
        values = values[values != no_data]
    values = _without_markers(values, absent)
    if not len(values):
        return ValueRange(0.0, 1.0, 0.0, 0.0, tuple(absent))
    kept = _without_outliers(values)
    low, high = _range_of(kept, floats)
    return ValueRange(
        low, high, float(kept[0]), float(kept[-1]), tuple(absent), len(kept) < len(values)
    )


def _without_markers(values: Values, absent: list[float]) -> Values:
    """`values` (sorted) without one that repeats far from all others at either end; it is noted in
    `absent`."""
    for _ in range(2):  # what was set aside at one end may have hidden that at the other
        for end in (0, -1):
            if not len(values):
                continue
            marker = float(values[end])
            rest = values[values != marker]
            usual = marker in _MARKERS
            if not len(rest) or (len(values) - len(rest) < 2 and not usual):
                continue  # a single pixel may be an outlier
            distance = (0.25 if usual else 2.0) * (rest[-1] - rest[0])
            if abs(rest[end] - marker) >= distance and len(np.unique(rest)) >= _LEVELS:
                absent.append(marker)
                values = rest
    return values


def _without_outliers(values: Values) -> Values:
    """`values` (sorted) up to the first wide gap among the smallest and the largest hundredth of
    them."""
    few = len(values) // _OUTLIERS
    inner = values[few : len(values) - few]
    if not few or len(np.unique(inner)) < _LEVELS:
        return values
    wide = (inner[-1] - inner[0]) / 4
    above = np.flatnonzero(np.diff(values[len(values) - few - 1 :]) >= wide)
    below = np.flatnonzero(np.diff(values[: few + 1]) >= wide)
    last = len(values) - few + int(above[0]) if len(above) else len(values)
    first = int(below[-1]) + 1 if len(below) else 0
    return values[first:last]


def _range_of(values: Values, floats: bool) -> tuple[float, float]:
    """(black, white) of sorted values without markers and outliers: the first of the rules of
    docs/images.md that fits."""
    least, largest = float(values[0]), float(values[-1])
    for bottom, top in _FLOATS if floats else _INTEGERS:
        span = top - bottom
        if bottom <= least <= bottom + span / 8 and top - span / 16 <= largest <= top:
            return bottom, top
    step = _step_of_8_bits(values, floats)
    if step is not None:
        return 0.0, 255.0 * step
    if least == largest:
        return (0.0, max(1.0, 2.0 * largest)) if least >= 0 else (2.0 * least, 0.0)
    if 0.0 <= least <= largest / 8:
        return 0.0, largest * (1.0 + _ABOVE)
    span = largest - least
    return least - _BELOW * span, largest + _ABOVE * span


def _step_of_8_bits(values: Values, floats: bool) -> float | None:
    """What an 8-bit picture was multiplied by to give these values; None where it was no such
    picture."""
    largest = float(values[-1])
    if values[0] < 0 or largest <= 0:
        return None
    if floats:
        step = 1.0 if largest > 1.0 else 1.0 / 255.0
        levels = values / step
        exact = bool((np.abs(levels - np.rint(levels)) < 1e-3).all())
    else:
        step, exact = float(np.gcd.reduce(np.unique(values).astype(np.int64))), True
    # Whole numbers alone say little: data of 7 bits are such numbers, too.
    fewest = _BRIGHT if step == 1.0 else _LEVELS
    return step if exact and fewest <= largest / step <= 255.0 + 1e-3 else None
