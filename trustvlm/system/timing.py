"""Times of the stages of an answer, for listeners such as the metrics of the HTTP service. Without
listeners a stage costs a few microseconds.

Stages: "decode" (image files to pixels), "encode" (an encoder's model), "text pass", "image pass"
(all labels, all prototypes), "fuse" (the rule), "transaction" (of the catalog; one that reads holds
all that is done within it).
"""

from __future__ import annotations

import time
from collections.abc import Callable

STAGES = ("decode", "encode", "text pass", "image pass", "fuse", "transaction")

LISTENERS: list[Callable[[str, float], None]] = []
"""Called with (stage, seconds), in the thread that did the work."""


class stage:
    """Tell the listeners how long the block took. A class, as a generator takes ten times as
    long to enter."""

    __slots__ = ("_begin", "_name")

    def __init__(self, name: str) -> None:
        self._name, self._begin = name, 0.0

    def __enter__(self) -> None:
        if LISTENERS:
            self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if LISTENERS:
            seconds = time.perf_counter() - self._begin
            for listener in tuple(LISTENERS):
                listener(self._name, seconds)
