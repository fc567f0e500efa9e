"""Times of the stages of an answer, for listeners such as the metrics of the HTTP service. Without
listeners a stage costs a few microseconds.

Stages: "decode" (image files to pixels), "encode" (an encoder's model), "text pass", "image pass"
(all labels, all prototypes), "fuse" (the rule).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["LISTENERS", "STAGES", "stage"]

STAGES = ("decode", "encode", "text pass", "image pass", "fuse")

LISTENERS: list[Callable[[str, float], None]] = []
"""Called with (stage, seconds), in the thread that did the work."""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Tell the listeners how long the block took."""
    if not LISTENERS:
        yield
        return
    begin = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - begin
        for listener in tuple(LISTENERS):
            listener(name, seconds)
