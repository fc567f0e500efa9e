"""Processes of this machine, each with the home opened by itself.

Each is a new interpreter ("spawn"), as an open service cannot be used after a fork. A process gets
one unit at a time through a pipe; one that ends over a unit is replaced, and the unit is given out
again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from trustvlm.bulk.units import Unit
from trustvlm.bulk.work import Done, Job, Worker
from trustvlm.errors import TrustVLMError, Unavailable

_ATTEMPTS = 3
"""How often a unit is given out whose workers end over it."""


@dataclass
class _Child:
    """A process, the pipe to it, and the unit that it has; None: it waits for one."""

    process: SpawnProcess
    pipe: Connection
    unit: Unit | None = None


class Processes:
    """See :class:`trustvlm.bulk.runners.Runner`."""

    def __init__(self, count: int) -> None:
        self._count = count

    def run(
        self, job: Job, units: Sequence[Unit], advance: Callable[[int], None]
    ) -> Iterator[Done]:
        """What came of each unit, as it comes."""
        waiting, ended = deque(units), Counter[str]()
        children = [_start(job) for _ in range(min(self._count, len(units)))]
        try:
            while children:
                for child in children:
                    if child.unit is None and waiting:
                        _give(child, waiting.popleft())
                busy = [child for child in children if child.unit is not None]
                if not busy:
                    return
                ready = set(wait([child.pipe for child in busy]))
                for child in (one for one in busy if one.pipe in ready):
                    answer = _answer_of(child)
                    if isinstance(answer, int):
                        advance(answer)
                    elif isinstance(answer, Done):
                        child.unit = None
                        yield answer
                    else:
                        waiting.appendleft(_taken_back(child, ended))
                        children[children.index(child)] = _start(job)
        finally:
            for child in children:
                child.process.kill()
                child.process.join()
                child.pipe.close()


def _start(job: Job) -> _Child:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs), name="trustvlm-bulk", daemon=True)
    with _without_ctrl_c():
        process.start()
    theirs.close()
    return _Child(process, ours)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Keep Ctrl-C from processes that start within the block, and from this thread meanwhile: while
    it imports, a process cannot ignore it, and would print where it was."""
    resource_tracker.ensure_running()  # whose start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _give(child: _Child, unit: Unit) -> None:
    child.unit = unit
    with suppress(OSError):  # it has ended, which shows where its answer should be
        child.pipe.send(unit)


def _answer_of(child: _Child) -> int | Done | None:
    """Rows that are done, or what came of the unit; None: the process has ended. Raises the error
    that ended the work."""
    try:
        answer: Any = child.pipe.recv()
    except (EOFError, OSError):
        return None
    if isinstance(answer, BaseException):
        raise answer
    return answer if isinstance(answer, int | Done) else None


def _taken_back(child: _Child, ended: Counter[str]) -> Unit:
    """The unit of a process that has ended. Raises Unavailable: it was given out too often."""
    child.process.join()
    child.pipe.close()
    unit, code = child.unit, child.process.exitcode or 0
    assert unit is not None
    ended[unit.name] += 1
    if ended[unit.name] >= _ATTEMPTS:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise Unavailable(
            f"{_ATTEMPTS} processes ended over {unit.path} (unit {unit.name}), the last with "
            f"{how}; where memory is short, fewer processes or units of fewer rows help; what is "
            f"finished stays"
        )
    return unit


def _work(job: Job, pipe: Connection) -> None:
    """Do the units that come through the pipe, in a process of its own, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which _start had blocked
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the parent has ended
        try:
            with closing(Worker(job, pipe.send)) as worker:
                while True:
                    pipe.send(worker.do(pipe.recv()))
        except TrustVLMError as error:
            pipe.send(error)
        except (EOFError, OSError):
            raise
        except Exception as error:  # carried to the parent, which raises it
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    """End at once when the parent has ended, in the middle of a unit, too."""
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
