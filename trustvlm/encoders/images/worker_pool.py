"""Decoding and preprocessing of one image, here or in worker processes of our own.

Not multiprocessing: its workers import the caller's ``__main__`` again, so that a script without
the ``if __name__ == "__main__"`` guard starts itself over, and torch's DataLoader imports torch in
each of them. A worker here is a plain ``python -m trustvlm.encoders.images.worker`` that reads
tasks from its standard input and loads Pillow and NumPy only; a thread of ours waits on each.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from trustvlm.encoders.images.decode import ImageLimits, UnreadableImage, decode_image, source_name
from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.errors import Unavailable
from trustvlm.types.arrays import Float32s
from trustvlm.types.remarks import Remark

if TYPE_CHECKING:
    from PIL.Image import Image

    from trustvlm.types.inputs import ImageSource

__all__ = ["Prepared", "WorkerPool", "prepare", "receive", "send"]

_LENGTH_BYTES = 8
UNIFORM = Remark("of a single colour after preparation", named=True)


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for its encoders: hash, thumbnail, one (3, height, width) float32 array per
    encoder, and remarks."""

    content_hash: bytes
    thumbnail: bytes
    pixels: tuple[Float32s, ...]
    remarks: tuple[Remark, ...] = ()


def prepare(
    source: ImageSource, preprocesses: Sequence[Callable[..., Any]], limits: ImageLimits
) -> Prepared:
    """`source` decoded once and preprocessed for each encoder; equal preprocessing runs once.

    Raises:
        UnreadableImage: the image cannot be used.
    """
    decoded = decode_image(source, limits)
    done: dict[Any, Float32s] = {}
    for preprocess in preprocesses:
        if preprocess not in done:
            run = preprocess.array if isinstance(preprocess, Preprocess) else preprocess
            done[preprocess] = np.asarray(run(decoded.image), np.float32)
    remarks = decoded.remarks
    if _is_uniform(decoded.image) or any(
        np.ptp(pixels, axis=(1, 2)).max() == 0 for pixels in done.values()
    ):
        remarks += (UNIFORM,)
    return Prepared(
        decoded.content_hash, decoded.thumbnail, tuple(done[p] for p in preprocesses), remarks
    )


def _is_uniform(image: Image) -> bool:
    extrema = cast(tuple[tuple[int, int], ...], image.getextrema())
    return all(least == largest for least, largest in extrema)


def send(stream: IO[bytes], message: object) -> None:
    """One length-prefixed message; both ends are this program, so pickle crosses no trust
    boundary."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(len(body).to_bytes(_LENGTH_BYTES, "little"))
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """The next message.

    Raises:
        EOFError: the other end is gone.
    """
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        raise EOFError
    body = stream.read(length := int.from_bytes(head, "little"))
    if len(body) < length:
        raise EOFError
    return pickle.loads(body)


class WorkerPool:
    """Worker processes that :func:`prepare` images; use as a context manager.

    A worker that dies (killed, or crashed by an image) fails the image it was busy with and is
    replaced.
    """

    def __init__(
        self, workers: int, preprocesses: Sequence[Callable[..., Any]], limits: ImageLimits
    ) -> None:
        self._preprocesses, self._limits = preprocesses, limits
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="trustvlm-decode")
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closed = False

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            processes, self._processes = self._processes, []
        for process in processes:
            process.kill()  # it holds nothing but its current image
        self._threads.shutdown(cancel_futures=True)
        for process in processes:
            _reap(process)

    def map(
        self, sources: Sequence[ImageSource], *, ahead: int
    ) -> Iterator[Prepared | UnreadableImage]:
        """The result of each source in order, at most `ahead` of them waiting to be taken."""
        waiting: deque[Future[Prepared | UnreadableImage]] = deque()
        for source in sources:
            waiting.append(self._threads.submit(self._one, source))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _one(self, source: ImageSource) -> Prepared | UnreadableImage:
        """Runs on one of our threads, each of which owns one process."""
        if not isinstance(source, (str, Path, bytes)):
            # Already decoded: sending its pixels over costs more than resizing them here, without
            # the interpreter lock.
            try:
                return prepare(source, self._preprocesses, self._limits)
            except UnreadableImage as e:
                return e
        process = self._process()
        try:
            send(_pipe(process.stdin), source)
            status, value = receive(_pipe(process.stdout))
        except (EOFError, OSError):
            code = self._bury(process)
            return UnreadableImage(
                source_name(source),
                f"the worker process died while decoding it (exit status {code})",
            )
        if status == "error":
            raise Unavailable(
                f"a worker process failed while preparing {source_name(source)}: {value}"
            )
        return Prepared(*value) if status == "ok" else UnreadableImage(*value)

    def _process(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] | None = getattr(self._mine, "process", None)
        if process is None:
            process = self._mine.process = self._start()
        return process

    def _bury(self, process: subprocess.Popen[bytes]) -> int:
        """Exit status of this thread's dead process, which is let go."""
        self._mine.process = None
        with self._lock:
            if process in self._processes:
                self._processes.remove(process)
        return _reap(process)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise Unavailable("the worker processes are being stopped")
            process = subprocess.Popen(
                [sys.executable, "-m", "trustvlm.encoders.images.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # What this process can import the worker can import: preprocessing may be the
                # caller's own.
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
            )
            self._processes.append(process)
        try:
            send(_pipe(process.stdin), (tuple(self._preprocesses), self._limits))
            receive(_pipe(process.stdout))  # it is up; from here on, dying is about an image
        except (EOFError, OSError) as e:
            raise Unavailable(
                f"a worker process for images does not start (exit status {process.wait()})"
            ) from e
        return process


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise Unavailable("a worker process for images has no pipe")
    return stream


def _reap(process: subprocess.Popen[bytes]) -> int:
    status = process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue  # what was still buffered for a killed worker is of no use to anyone
    return status
