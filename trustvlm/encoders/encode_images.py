"""Many images through several encoders, each image decoded once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trustvlm.encoders.base import Encoder
from trustvlm.encoders.images.decode import DecodedImage, decode_image
from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.encoders.images.sandboxes import FilePixels, is_uniform, read_file, sandbox
from trustvlm.errors import InvalidInput
from trustvlm.reading.image_files import DEFAULT_LIMITS, ImageLimits, UnreadableImage, source_name
from trustvlm.reading.sets.rows import with_place
from trustvlm.system.sandbox import Sandbox
from trustvlm.system.stages import stage
from trustvlm.types.arrays import Float32s
from trustvlm.types.messages.remarks import Remark

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

UNIFORM = Remark("of a single colour after preparation", named=True)
_FEW_IMAGES = 256  # below this, starting processes costs more than it saves
_MOST_WORKERS = 4

Run = Callable[..., Any]
_Named = tuple[str, "_Prepared | UnreadableImage"]
"""An image's name, and the image as it is encoded or why it cannot be."""


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
        path: of the file that was read; None: the image was in memory.
    """

    index: int
    source: str
    content_hash: bytes
    thumbnail: bytes
    embeddings: tuple[Float32s, ...]
    remarks: tuple[Remark, ...] = ()
    path: str | None = None


@dataclass(frozen=True)
class FailedImage:
    """One image that could not be used: its position, its name, and why in one sentence."""

    index: int
    source: str
    reason: str


@dataclass(frozen=True, eq=False)
class _Prepared:
    """An image before it is encoded, with one (3, height, width) float32 array per encoder."""

    decoded: DecodedImage | FilePixels
    pixels: tuple[Float32s, ...]
    remarks: tuple[Remark, ...]
    path: str | None


def encode_images(
    sources: Iterable[ImageSource],
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
        sources: paths, bytes of image files, PIL images; of an iterator no more than are being
            encoded are held.
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
        if encoder.identity.startswith(("precomputed:", "external:")):
            raise InvalidInput(
                f"{encoder.spec} cannot encode images: pass their {encoder.dim}-d embeddings "
                f"instead"
            )
    if workers is None:
        few = isinstance(sources, Sequence) and len(sources) < _FEW_IMAGES
        workers = 0 if few else min(_MOST_WORKERS, os.cpu_count() or 1)
    preprocesses = [encoder.preprocess for encoder in encoders]
    prepared = _prepare_all(sources, preprocesses, limits, workers, batch_size + 2 * workers)
    return _encode(encoders, batch_size, prepared, progress)


def _encode(
    encoders: Sequence[Encoder],
    batch_size: int,
    prepared: Generator[_Named],
    progress: Callable[[int], None] | None,
) -> Iterator[EncodedImage | FailedImage]:
    index = 0
    with closing(prepared):
        while batch := _next_batch(prepared, batch_size):
            good = [item for _, item in batch if isinstance(item, _Prepared)]
            columns = [
                _encode_batch(encoder, [item.pixels[i] for item in good])
                for i, encoder in enumerate(encoders)
            ]
            rows = iter(zip(*columns, strict=True) if columns else [()] * len(good))
            for name, item in batch:
                if isinstance(item, UnreadableImage):
                    yield FailedImage(index, name, item.reason)
                else:
                    decoded, embeddings = item.decoded, next(rows)
                    content, thumbnail = decoded.content_hash, decoded.thumbnail
                    done = (name, content, thumbnail, embeddings, item.remarks, item.path)
                    yield EncodedImage(index, *done)
                index += 1
            if progress is not None:
                progress(len(batch))


def _next_batch(prepared: Iterator[_Named], batch_size: int) -> list[_Named]:
    with stage("decode"):
        return list(islice(prepared, batch_size))


def _encode_batch(encoder: Encoder, pixels: list[Float32s]) -> list[Float32s]:
    if not pixels:
        return []
    import torch

    with stage("encode"):
        return list(encoder.encode_images(torch.stack([torch.from_numpy(p) for p in pixels])))


def _prepare_all(
    sources: Iterable[ImageSource],
    preprocesses: Sequence[Run],
    limits: ImageLimits,
    workers: int,
    ahead: int,
) -> Generator[_Named]:
    """Name and result of each source in order; at most `ahead` of them wait to be taken."""
    busy: set[Sandbox] = set()
    if not workers:
        for index, source in enumerate(sources):
            yield source_name(source, index), _prepare(source, preprocesses, limits, busy)
        return
    threads = ThreadPoolExecutor(workers, thread_name_prefix="trustvlm-decode")
    waiting: deque[tuple[str, Future[_Prepared | UnreadableImage]]] = deque()
    try:
        for index, source in enumerate(sources):
            future = threads.submit(_prepare, source, preprocesses, limits, busy)
            waiting.append((source_name(source, index), future))
            if len(waiting) >= ahead:
                name, future = waiting.popleft()
                yield name, future.result()
        for name, future in waiting:
            yield name, future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for child in list(busy):  # nobody waits for its image
            child.close()
        threads.shutdown()


def _prepare(
    source: ImageSource, preprocesses: Sequence[Run], limits: ImageLimits, busy: set[Sandbox]
) -> _Prepared | UnreadableImage:
    """One image, or why it cannot be used; meanwhile its sandbox is one of the `busy`.

    Equal preprocessing runs once. What is decoded already stays in this process: sending its pixels
    costs more than resizing them. Preprocessing that is no :class:`Preprocess` stays here, too.
    """
    distinct = list(dict.fromkeys(preprocesses))
    ours = [one for one in distinct if isinstance(one, Preprocess)]
    decoded: FilePixels | DecodedImage
    try:
        if isinstance(source, (str, Path, bytes)):
            with sandbox() as child:
                busy.add(child)
                try:
                    decoded = read_file(
                        child, source, limits, ours, image=len(ours) < len(distinct)
                    )
                finally:
                    busy.discard(child)
            crops, uniform = decoded.crops, decoded.uniform
        else:
            decoded = decode_image(source, limits)
            crops = tuple(one.cropped(decoded.image) for one in ours)
            uniform = is_uniform(decoded.image)
    except UnreadableImage as error:
        return UnreadableImage(error.source, with_place(source, error.reason))
    arrays: dict[Run, Float32s] = {
        one: one.normalised(crop) for one, crop in zip(ours, crops, strict=True)
    }
    for one in distinct:
        if one not in arrays:
            arrays[one] = np.asarray(one(decoded.image), np.float32)
    uniform = uniform or any(np.ptp(array, axis=(1, 2)).max() == 0 for array in arrays.values())
    remarks = (*decoded.remarks, UNIFORM) if uniform else decoded.remarks
    path = str(source) if isinstance(source, str | Path) else None
    return _Prepared(decoded, tuple(arrays[one] for one in preprocesses), remarks, path)
