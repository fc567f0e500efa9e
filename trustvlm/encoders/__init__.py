"""Encoders: from images and texts to embeddings. Importing this package loads neither torch nor
Pillow."""

from __future__ import annotations

from trustvlm.encoders.base import Encoder
from trustvlm.encoders.encode_images import EncodedImage, FailedImage, encode_images
from trustvlm.encoders.golden import (
    GOLDEN_CLOSE,
    GOLDEN_SAME,
    compare_golden,
    golden_embedding,
    golden_image,
    golden_verdict,
)
from trustvlm.encoders.identity import EncoderParts, identity_difference, libraries
from trustvlm.encoders.images.decode import (
    DecodedImage,
    decode_image,
    hash_image,
    is_original,
    original_of,
)
from trustvlm.encoders.images.reading import ImageLimits, UnreadableImage, source_name
from trustvlm.encoders.open import open_encoder
from trustvlm.encoders.specs.parse import MAX_OUTPUTS, EncoderSpec, parse_spec, spec_dim
from trustvlm.encoders.specs.presets import PAPER, PRESETS, Preset, preset
from trustvlm.types.messages.remarks import Remark, notes_of

__all__ = [
    "GOLDEN_CLOSE",
    "GOLDEN_SAME",
    "MAX_OUTPUTS",
    "PAPER",
    "PRESETS",
    "DecodedImage",
    "EncodedImage",
    "Encoder",
    "EncoderParts",
    "EncoderSpec",
    "FailedImage",
    "ImageLimits",
    "Preset",
    "Remark",
    "UnreadableImage",
    "compare_golden",
    "decode_image",
    "encode_images",
    "golden_embedding",
    "golden_image",
    "golden_verdict",
    "hash_image",
    "identity_difference",
    "is_original",
    "libraries",
    "notes_of",
    "open_encoder",
    "original_of",
    "parse_spec",
    "preset",
    "source_name",
    "spec_dim",
]
