"""A few sandboxes wait for the next file: starting one takes a fifth of a second of a processor."""

from __future__ import annotations

import atexit
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from trustvlm.system.sandbox import Sandbox

_MOST_IDLE = 4
"""Of each target."""

_idle: defaultdict[str, list[Sandbox]] = defaultdict(list)


def waits(target: str) -> bool:
    """Whether a sandbox that runs `target` waits for work."""
    return bool(_idle[target])


def borrow(target: str) -> Sandbox:
    """A sandbox that runs `target`, for the caller alone until :func:`give_back`. Raises
    Unavailable."""
    while _idle[target]:
        try:
            one = _idle[target].pop()
        except IndexError:  # another thread was faster
            break
        if one.usable:
            return one
        one.close()
    return Sandbox(target)


def give_back(sandbox: Sandbox) -> None:
    """Let a sandbox wait for its next caller, or close it where it cannot be used any more."""
    waiting = _idle[sandbox.target]
    if sandbox.usable and len(waiting) < _MOST_IDLE:
        waiting.append(sandbox)
    else:
        sandbox.close()


@contextmanager
def borrowed(target: str) -> Iterator[Sandbox]:
    """A sandbox that runs `target`, for the caller alone within the block. Raises Unavailable."""
    one = borrow(target)
    try:
        yield one
    finally:
        give_back(one)


@atexit.register
def _close() -> None:
    for waiting in _idle.values():
        while waiting:
            waiting.pop().close()
