"""Images preprocessed for several encoders: each decoded once, by several sandboxes where there are
many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trustvlm.encoders.images.decode import DecodedImage, UnreadableImage, decode_image
from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.encoders.images.reading import ImageLimits
from trustvlm.encoders.images.sandboxes import FilePixels, is_uniform, read_file, sandbox
from trustvlm.system.sandbox import Sandbox
from trustvlm.types.arrays import Float32s
from trustvlm.types.remarks import Remark

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

__all__ = ["Prepared", "prepare_all"]

UNIFORM = Remark("of a single colour after preparation", named=True)

Run = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for its encoders: hash, thumbnail, one (3, height, width) float32 array per
    encoder, and remarks."""

    content_hash: bytes
    thumbnail: bytes
    pixels: tuple[Float32s, ...]
    remarks: tuple[Remark, ...] = ()


def prepare_all(
    sources: Sequence[ImageSource],
    preprocesses: Sequence[Run],
    limits: ImageLimits,
    *,
    workers: int,
    ahead: int,
) -> Iterator[Prepared | UnreadableImage]:
    """The result of each source in order; equal preprocessing of an image runs once.

    Args:
        workers: sandboxes that work at once; 0: one, in turn with the caller.
        ahead: results that may wait to be taken.
    """
    busy: set[Sandbox] = set()
    if not workers:
        for source in sources:
            yield _prepare(source, preprocesses, limits, busy)
        return
    threads = ThreadPoolExecutor(workers, thread_name_prefix="trustvlm-decode")
    waiting: deque[Future[Prepared | UnreadableImage]] = deque()
    try:
        for source in sources:
            waiting.append(threads.submit(_prepare, source, preprocesses, limits, busy))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for child in list(busy):  # nobody waits for its image
            child.close()
        threads.shutdown()


def _prepare(
    source: ImageSource, preprocesses: Sequence[Run], limits: ImageLimits, busy: set[Sandbox]
) -> Prepared | UnreadableImage:
    """One image, or why it cannot be used; meanwhile its sandbox is one of the `busy`.

    What is decoded already stays in this process: sending its pixels costs more than resizing them.
    Preprocessing that is no :class:`Preprocess` stays here, too.
    """
    distinct = list(dict.fromkeys(preprocesses))
    ours = [one for one in distinct if isinstance(one, Preprocess)]
    read: FilePixels | DecodedImage
    try:
        if isinstance(source, (str, Path, bytes)):
            with sandbox() as child:
                busy.add(child)
                try:
                    read = read_file(child, source, limits, ours, image=len(ours) < len(distinct))
                finally:
                    busy.discard(child)
            crops, uniform = read.crops, read.uniform
        else:
            read = decode_image(source, limits)
            crops = tuple(one.cropped(read.image) for one in ours)
            uniform = is_uniform(read.image)
    except UnreadableImage as error:
        return error
    pixels: dict[Run, Float32s] = {
        one: one.normalised(crop) for one, crop in zip(ours, crops, strict=True)
    }
    for one in distinct:
        if one not in pixels:
            pixels[one] = np.asarray(one(read.image), np.float32)
    remarks = read.remarks
    if uniform or any(np.ptp(array, axis=(1, 2)).max() == 0 for array in pixels.values()):
        remarks += (UNIFORM,)
    return Prepared(
        read.content_hash, read.thumbnail, tuple(pixels[one] for one in preprocesses), remarks
    )
