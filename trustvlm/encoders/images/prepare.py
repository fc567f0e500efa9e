"""One image decoded and preprocessed for its encoders: here, or in sandboxes where there are many.

A sandbox loads Pillow and NumPy only, so it starts in a tenth of the time that torch takes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trustvlm.encoders.images.decode import ImageLimits, UnreadableImage, decode_image, source_name
from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.system.sandbox import Message, Sandbox, Unreadable
from trustvlm.types.arrays import Float32s
from trustvlm.types.remarks import Remark

if TYPE_CHECKING:
    from PIL.Image import Image

    from trustvlm.types.inputs import ImageSource

__all__ = ["Prepared", "prepare", "prepare_all"]

UNIFORM = Remark("of a single colour after preparation", named=True)
_SECONDS = 60.0  # for an image; the largest one takes 15
_FIXED_MEMORY = 128 * 2**20  # what a child takes besides decoding

Run = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for its encoders: hash, thumbnail, one (3, height, width) float32 array per
    encoder, and remarks."""

    content_hash: bytes
    thumbnail: bytes
    pixels: tuple[Float32s, ...]
    remarks: tuple[Remark, ...] = ()


def prepare(source: ImageSource, preprocesses: Sequence[Run], limits: ImageLimits) -> Prepared:
    """`source` decoded once and preprocessed for each encoder; equal preprocessing runs once.

    Raises:
        UnreadableImage: the image cannot be used.
    """
    decoded = decode_image(source, limits)
    pixels: dict[Any, Float32s] = {}
    for preprocess in preprocesses:
        if preprocess not in pixels:
            run = preprocess.array if isinstance(preprocess, Preprocess) else preprocess
            pixels[preprocess] = np.asarray(run(decoded.image), np.float32)
    remarks = decoded.remarks
    if _is_uniform(decoded.image) or any(
        np.ptp(array, axis=(1, 2)).max() == 0 for array in pixels.values()
    ):
        remarks += (UNIFORM,)
    return Prepared(
        decoded.content_hash, decoded.thumbnail, tuple(pixels[p] for p in preprocesses), remarks
    )


def _is_uniform(image: Image) -> bool:
    extrema = cast(tuple[tuple[int, int], ...], image.getextrema())
    return all(least == largest for least, largest in extrema)


def prepare_all(
    sources: Sequence[ImageSource],
    preprocesses: Sequence[Run],
    limits: ImageLimits,
    *,
    workers: int,
    ahead: int,
) -> Iterator[Prepared | UnreadableImage]:
    """The result of each source in order, prepared by `workers` sandboxes; 0: in this thread.

    A sandbox that an image ends is replaced. At most `ahead` results wait to be taken. What is no
    file, and preprocessing that is no :class:`Preprocess`, stays in this process.
    """
    described = [one for one in preprocesses if isinstance(one, Preprocess)]
    if not workers or len(described) < len(preprocesses):
        for source in sources:
            yield _prepared_here(source, preprocesses, limits)
        return
    sandboxes = [Sandbox(_CHILD) for _ in range(min(workers, len(sources)))]
    free = deque(sandboxes)

    def run(source: ImageSource) -> Prepared | UnreadableImage:
        if not isinstance(source, (str, Path, bytes)):
            return _prepared_here(source, preprocesses, limits)
        sandbox = free.popleft()  # there are as many threads
        try:
            return _prepared_in(sandbox, source, described, limits)
        except Unreadable as error:
            return UnreadableImage(source_name(source), str(error))
        finally:
            if not sandbox.alive:
                sandboxes.append(sandbox := Sandbox(_CHILD))
            free.append(sandbox)

    threads = ThreadPoolExecutor(len(sandboxes) or 1, thread_name_prefix="trustvlm-decode")
    waiting: deque[Future[Prepared | UnreadableImage]] = deque()
    try:
        for source in sources:
            waiting.append(threads.submit(run, source))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for sandbox in sandboxes:  # of one that is busy: its image is not wanted
            sandbox.close()
        threads.shutdown()
        for sandbox in sandboxes:
            sandbox.close()


def _prepared_here(
    source: ImageSource, preprocesses: Sequence[Run], limits: ImageLimits
) -> Prepared | UnreadableImage:
    try:
        return prepare(source, preprocesses, limits)
    except UnreadableImage as error:
        return error


def _prepared_in(
    sandbox: Sandbox,
    source: str | Path | bytes,
    preprocesses: Sequence[Preprocess],
    limits: ImageLimits,
) -> Prepared | UnreadableImage:
    """What :func:`prepare_in_child` makes of `source`."""
    distinct = list(dict.fromkeys(preprocesses))
    request = {
        "limits": asdict(limits),
        "preprocesses": [asdict(one) for one in distinct],
        "path": None if isinstance(source, bytes) else os.fspath(source),
    }
    parts = [source] if isinstance(source, bytes) else []
    memory = limits.max_memory + 2 * limits.max_bytes + _FIXED_MEMORY
    ((head, answered),) = sandbox.ask(request, *parts, memory=memory, seconds=_SECONDS)
    if "reason" in head:
        return UnreadableImage(source_name(source), head["reason"])
    thumbnail, *arrays = answered
    pixels = {
        one: np.frombuffer(array, np.float32).reshape(3, *one.crop)
        for one, array in zip(distinct, arrays, strict=True)
    }
    return Prepared(
        bytes.fromhex(head["content_hash"]),
        bytes(thumbnail),
        tuple(pixels[one] for one in preprocesses),
        tuple(Remark(**remark) for remark in head["remarks"]),
    )


_CHILD = f"{__name__}:prepare_in_child"


def prepare_in_child(head: dict[str, Any], parts: list[bytearray]) -> Iterator[Message]:
    """Answer with one prepared image, or the reason why it cannot be used."""
    value_range = head["limits"].pop("value_range")
    limits = ImageLimits(**head["limits"], value_range=value_range and tuple(value_range))
    preprocesses = [Preprocess.of(fields) for fields in head["preprocesses"]]
    try:
        prepared = prepare(
            head["path"] if head["path"] is not None else bytes(parts[0]), preprocesses, limits
        )
    except UnreadableImage as error:
        yield {"reason": error.reason}, ()
        return
    yield (
        {
            "content_hash": prepared.content_hash.hex(),
            "remarks": [asdict(remark) for remark in prepared.remarks],
        },
        (prepared.thumbnail, *prepared.pixels),
    )
