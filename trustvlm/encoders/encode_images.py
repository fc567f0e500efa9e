"""Many images through several encoders, each image decoded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from trustvlm.encoders.base import Encoder
from trustvlm.encoders.images.prepare import Prepared, prepare_all
from trustvlm.encoders.images.reading import (
    DEFAULT_LIMITS,
    ImageLimits,
    UnreadableImage,
    source_name,
)
from trustvlm.errors import InvalidInput
from trustvlm.system.timing import stage
from trustvlm.types.arrays import Float32s
from trustvlm.types.remarks import Remark

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

__all__ = ["EncodedImage", "FailedImage", "encode_images"]

_FEW_IMAGES = 256  # below this, starting processes costs more than it saves
_MOST_WORKERS = 4


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """One image that went through.

    Attributes:
        index: position in the input.
        source: path, file name, or "<bytes 3>"/"<image 3>" by position.
        content_hash: 32 bytes, see :func:`~trustvlm.encoders.images.decode.hash_image`.
        thumbnail: JPEG of at most 128 pixels a side.
        embeddings: one raw (dim,) float32 embedding per encoder, in the encoders' order.
        remarks: what was done so that the encoders see the picture.
    """

    index: int
    source: str
    content_hash: bytes
    thumbnail: bytes
    embeddings: tuple[Float32s, ...]
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class FailedImage:
    """One image that could not be used: its position, its name, and why in one sentence."""

    index: int
    source: str
    reason: str


def encode_images(
    sources: Sequence[ImageSource],
    encoders: Sequence[Encoder],
    *,
    batch_size: int = 32,
    workers: int | None = 0,
    limits: ImageLimits = DEFAULT_LIMITS,
    progress: Callable[[int], None] | None = None,
) -> Iterator[EncodedImage | FailedImage]:
    """Each of `sources` in order, encoded by every encoder or failed by name; one bad image does
    not stop the others.

    Args:
        sources: paths, bytes of image files, PIL images.
        encoders: what to encode with; an image is decoded once for all, and prepared once for equal
            preprocessing.
        batch_size: images per call of a model, ≥ 1. At most about two batches are held in memory.
        workers: sandboxes that decode and prepare ahead of the encoders; 0 = one, in turn with
            them; None = 0 for fewer than 256 images, else one per core up to four. The result does
            not depend on it.
        limits: what an image may be at most.
        progress: called after each batch with the number of its images, failed ones included.

    Raises:
        InvalidInput: an encoder cannot encode images, `batch_size` < 1 or `workers` < 0; at the
            call, not at the first item.
    """
    if batch_size < 1:
        raise InvalidInput(f"batch_size must be at least 1, got {batch_size}")
    if workers is not None and workers < 0:
        raise InvalidInput(f"workers must be None or at least 0, got {workers}")
    for encoder in encoders:
        if encoder.identity.startswith("precomputed:"):
            raise InvalidInput(
                f"{encoder.spec} cannot encode images: pass their {encoder.dim}-d embeddings "
                f"instead"
            )
    if workers is None:
        workers = 0 if len(sources) < _FEW_IMAGES else min(_MOST_WORKERS, os.cpu_count() or 1)
    return _encode(sources, encoders, batch_size, workers, limits, progress)


def _encode(
    sources: Sequence[ImageSource],
    encoders: Sequence[Encoder],
    batch_size: int,
    workers: int,
    limits: ImageLimits,
    progress: Callable[[int], None] | None,
) -> Iterator[EncodedImage | FailedImage]:
    preprocesses = [encoder.preprocess for encoder in encoders]
    ahead = batch_size + 2 * workers
    prepared = prepare_all(sources, preprocesses, limits, workers=workers, ahead=ahead)
    numbered = enumerate(prepared)
    while batch := _next_batch(numbered, batch_size):
        good = [item for _, item in batch if isinstance(item, Prepared)]
        columns = [
            _encode_batch(encoder, [item.pixels[i] for item in good])
            for i, encoder in enumerate(encoders)
        ]
        rows = iter(zip(*columns, strict=True) if columns else [()] * len(good))
        for index, item in batch:
            name = source_name(sources[index], index)
            if isinstance(item, Prepared):
                yield EncodedImage(
                    index, name, item.content_hash, item.thumbnail, next(rows), item.remarks
                )
            else:
                yield FailedImage(index, name, item.reason)
        if progress is not None:
            progress(len(batch))


def _next_batch(
    numbered: Iterator[tuple[int, Prepared | UnreadableImage]], batch_size: int
) -> list[tuple[int, Prepared | UnreadableImage]]:
    with stage("decode"):
        return list(islice(numbered, batch_size))


def _encode_batch(encoder: Encoder, pixels: list[Float32s]) -> list[Float32s]:
    if not pixels:
        return []
    import torch

    with stage("encode"):
        return list(encoder.encode_images(torch.stack([torch.from_numpy(p) for p in pixels])))
