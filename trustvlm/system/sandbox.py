"""A child process that reads a stranger's bytes, with limits on memory, CPU time and waiting time.

A decoder may crash, hang or fill the memory over a damaged file. In a sandbox that is one sentence,
:class:`Unreadable`, and the next file has a new child. The child runs a function of ours, named
"module:function", that takes a request and yields its answers; both are a dictionary that JSON can
hold and any number of byte strings.

One frame, in both directions: the length of the head (4 bytes), the head (JSON), then the parts as
raw bytes, whose sizes the head lists. Nothing is pickled: a child that a file has taken over can
send data only, and no more than the memory it may take.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from trustvlm.errors import Unavailable

Message = tuple[dict[str, Any], Sequence[Any]]
"""A head and its parts: bytes when received, anything with the buffer interface when sent."""
Answers = Callable[[dict[str, Any], list[bytearray]], Iterator[Message]]
"""What runs in the child: from the head and the parts of a request to its answers."""

_PIPE_BYTES = 2**20
_START_SECONDS = 120.0  # a busy machine imports slowly
_TOO_LARGE = "it needs more than {} MiB of memory to be read"
_MAIN = "from trustvlm.system.sandbox import main; main()"


class Unreadable(Exception):
    """The input cannot be read; the message says why, in words that continue "IN: …".

    Raised in the child by the function that reads, and in the parent for that, or for a child that
    crashed, hung or needed too much memory.
    """


class _Ended(Unreadable):
    """The child wrote no more."""


class Sandbox:
    """A child process; close it. One thread at a time asks; any thread may close.

    A child that was killed while it waited is no fault of the next input: the sandbox starts
    another child and sends the request again.

    Args:
        target: "module:function" of an :data:`Answers`, importable where this process imports from.
        files: descriptors that the child inherits under their numbers.

    Raises:
        Unavailable: no process can be started.
    """

    def __init__(self, target: str, files: Sequence[int] = ()) -> None:
        self._owner, self._pending, self._closed = os.getpid(), False, False
        self.target, self._files = target, files
        self._pipes = threading.RLock()
        self._start()

    def _start(self) -> None:
        self._ready = False
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
            # Arrow's own allocator reserves more address space than a child may have.
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "OMP_NUM_THREADS": "1",
        }
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, self.target],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                bufsize=0,
                pass_fds=self._files,
            )
        except OSError as error:
            raise Unavailable(f"no child process can be started ({error.strerror})") from error
        streams: list[Any] = [self._child.stdin, self._child.stdout]
        self._input, self._output = streams
        for stream in streams:
            # An image in one piece: each further one waits for both processes to have their turn.
            with suppress(AttributeError, OSError):  # Linux only, and up to its own limit
                fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def ask(
        self, request: dict[str, Any], *parts: Any, memory: int, seconds: float
    ) -> Iterator[Message]:
        """The answers of the child, each when it comes; take them all before the next request.

        Args:
            memory: bytes that the child may take more than it has, and an answer may have.
            seconds: longest wait for an answer, and CPU time to make it.

        Raises:
            Unreadable: the input cannot be read; unless its function said so, the child is gone.
            Unavailable: the child did not start, or has a bug.
        """
        order = {"request": request, "memory": memory, "seconds": seconds}
        waited = self._ready and not self._pending
        try:
            self._begin(order, parts)
        except _Ended:
            if self._closed or not waited:
                raise
            self._start()
            self._begin(order, parts)
        while True:
            head, answered = self._receive(memory, seconds)
            if "answer" not in head:
                break
            yield head["answer"], answered
        self._pending = False
        if "unreadable" in head:
            raise Unreadable(head["unreadable"])
        if "bug" in head:
            raise Unavailable(f"a child process failed: {head['bug']}")

    def _begin(self, order: dict[str, Any], parts: Sequence[Any]) -> None:
        """Send a request and wait until the child has read it.

        Raises:
            Unreadable: it has not: it ended, or takes too long.
        """
        self._await_start()
        self._pending = True
        # Of a child that is gone the reason is read where its answer should be.
        with suppress(OSError, ValueError), self._pipes:
            _send(self._input, order, parts)
        self._receive(order["memory"], order["seconds"])

    @property
    def usable(self) -> bool:
        """Whether the child waits for a request of this process."""
        return self._owner == os.getpid() and not self._pending and self._child.poll() is None

    def close(self) -> None:
        """End the child at once; an :meth:`ask` in another thread raises Unreadable."""
        if self._owner != os.getpid():  # the child of the process that this one is a fork of
            return
        self._closed = True
        self._end()

    def _end(self) -> None:
        self._child.kill()
        with self._pipes:
            self._child.wait()
            self._input.close()
            self._output.close()

    def _await_start(self) -> None:
        if self._ready:
            return
        try:
            self._receive(1 << 10, _START_SECONDS)
        except Unreadable as error:
            raise Unavailable(f"a child process does not start: {error}") from error
        self._ready = True

    def _receive(self, memory: int, seconds: float) -> Message:
        deadline = time.monotonic() + seconds
        with self._pipes:
            size = int.from_bytes(self._read(4, deadline, seconds))
            if size > memory:
                self._end()
                raise Unreadable(_TOO_LARGE.format(memory >> 20))
            try:
                head = json.loads(self._read(size, deadline, seconds))
                sizes = [int(size) for size in head["sizes"]]
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                self._end()
                raise Unreadable("its reader sends what is no answer") from error
            if min(sizes, default=0) < 0 or sum(sizes) > memory:
                self._end()
                raise Unreadable(_TOO_LARGE.format(memory >> 20))
            return head, [self._read(size, deadline, seconds) for size in sizes]

    def _read(self, size: int, deadline: float, seconds: float) -> bytearray:
        data = bytearray(size)
        left = memoryview(data)
        waiting = select.poll()
        try:
            waiting.register(self._output, select.POLLIN)
            while left:
                if not waiting.poll(max(0.0, 1_000 * (deadline - time.monotonic()))):
                    self._end()
                    raise Unreadable(f"it could not be read within {seconds:g} s")
                if not (count := self._output.readinto(left)):
                    raise EOFError
                left = left[count:]
        except (OSError, ValueError, EOFError) as error:  # it ended, or another thread closed it
            raise _Ended(self._last_words()) from error
        return data

    def _last_words(self) -> str:
        """How the child ended that wrote no more."""
        code = self._child.wait()
        self._end()
        if code == -signal.SIGXCPU:
            return "it takes too much CPU time to be read"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its reader ended over it with {how}"


def limit_cpu(seconds: float) -> None:
    """End this process when it has used `seconds` more of CPU time."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + seconds), hard))


def main() -> None:
    """Answer requests in the child until standard input closes, as it does when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the parent decides
    module, _, name = sys.argv[1].partition(":")
    answers: Answers = getattr(import_module(module), name)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    with Path(os.devnull).open("wb") as nowhere:  # what decoders print
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    with suppress(BrokenPipeError, EOFError):
        _send(output, {}, ())
        while True:
            head, parts = _receive_request(sys.stdin.buffer)
            _send(output, {}, ())
            _send(output, _answer(answers, head, parts, output), ())


def _answer(
    answers: Answers, head: dict[str, Any], parts: list[bytearray], output: BinaryIO
) -> dict[str, str]:
    """Send the answers to a request; the last head: nothing, or what went wrong."""
    _limit_memory(head["memory"])
    try:
        limit_cpu(head["seconds"])
        for message, bodies in answers(head["request"], parts):
            _send(output, {"answer": message}, bodies)
            limit_cpu(head["seconds"])
    except Unreadable as error:
        return {"unreadable": str(error)}
    except MemoryError:
        return {"unreadable": _TOO_LARGE.format(head["memory"] >> 20)}
    except BrokenPipeError:
        raise
    except Exception as error:  # carried to the parent, which raises it
        return {"bug": f"{type(error).__name__}: {error}"}
    finally:
        _limit_memory(None)
    return {}


def _limit_memory(memory: int | None) -> None:
    """Let this process take `memory` bytes more than it has; None: what it likes."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = hard
    with suppress(OSError, ValueError):  # without /proc there is no limit
        if memory is not None:
            with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  four times as fast
                taken = int(file.read().split()[0]) * resource.getpagesize()
            soft = taken + memory
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _send(stream: BinaryIO, head: dict[str, Any], parts: Sequence[Any]) -> None:
    views = [memoryview(part).cast("B") for part in parts]
    text = json.dumps(head | {"sizes": [len(view) for view in views]}).encode()
    for view in (memoryview(len(text).to_bytes(4) + text), *views):
        left = view
        while left:
            left = left[stream.write(left) :]


def _receive_request(stream: BinaryIO) -> tuple[dict[str, Any], list[bytearray]]:
    head = json.loads(_read_all(stream, int.from_bytes(_read_all(stream, 4))))
    return head, [_read_all(stream, size) for size in head["sizes"]]


def _read_all(stream: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    if stream.readinto(data) < size:  # type: ignore[attr-defined]
        raise EOFError
    return data
