"""One built-in image whose embedding tells whether an encoder still computes what it did when a
space was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from trustvlm.encoders.base import Encoder
from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Float32s, Floats

if TYPE_CHECKING:
    from PIL.Image import Image

GOLDEN_SAME = 0.999
"""Smallest cosine at which two golden embeddings are taken as the same encoder's (other device or
precision)."""
GOLDEN_CLOSE = 0.99
"""Smallest cosine at which the difference is a warning, not a refusal."""

_WIDTH, _HEIGHT = 256, 192


def golden_image() -> Image:
    """The golden image: 256×192 RGB, gradients, a disc, a bar and a checkerboard, by integer
    arithmetic only."""
    from PIL import Image as pil

    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    pixels = np.stack(
        [x, (y * 255) // (_HEIGHT - 1), 255 - (x + y) * 255 // (_WIDTH + _HEIGHT - 2)], axis=-1
    )
    pixels[(x - 80) ** 2 + (y - 70) ** 2 < 45**2] = (220, 40, 30)
    pixels[(abs(x - 150 - y // 3) < 14) & (y > 20)] = (20, 60, 200)
    board = (x >= 160) & (y >= 110)
    pixels[board & ((x // 12 + y // 12) % 2 == 0)] = (250, 250, 240)
    pixels[board & ((x // 12 + y // 12) % 2 == 1)] = (15, 20, 10)
    return pil.fromarray(pixels.astype(np.uint8))


def golden_embedding(encoder: Encoder) -> Float32s | None:
    """Unit (dim,) float32 embedding of :func:`golden_image`; None when the encoder cannot encode
    images."""
    if encoder.golden is None:
        return None
    raw = encoder.golden.astype(np.float64)
    norm = float(np.linalg.norm(raw))
    if norm == 0.0:
        raise InvalidInput(
            f"{encoder.spec} gives the golden image a zero embedding: it cannot be used"
        )
    unit: Float32s = (raw / norm).astype(np.float32)
    return unit


def compare_golden(stored: Floats, fresh: Floats) -> float:
    """Cosine of two golden embeddings.

    Raises:
        InvalidInput: they differ in dimension.
    """
    a, b = np.asarray(stored, np.float64), np.asarray(fresh, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InvalidInput(f"golden embeddings differ in shape: stored {a.shape}, fresh {b.shape}")
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def golden_verdict(cosine: float) -> Literal["same", "close", "different"]:
    """What a cosine of golden embeddings means: go on, go on with a warning, refuse."""
    if cosine >= GOLDEN_SAME:
        return "same"
    return "close" if cosine >= GOLDEN_CLOSE else "different"
