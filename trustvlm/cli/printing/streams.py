"""stdout and stderr that say it is they that cannot be written, as on a full disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


class UnwritableOutput(OSError):
    """stdout or stderr took no more; what was written before is there."""


class _Output:
    """A text stream whose failed writes raise :class:`UnwritableOutput`; a reader that has seen
    enough still is a BrokenPipeError."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if text == "":  # click probes streams with it, and hides what that raises
            return 0
        with self._failures():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._failures():
            self._stream.flush()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            self._drop_the_rest()
            reason = f"the {self._name} cannot be written: {error.strerror or error}"
            raise UnwritableOutput(error.errno, reason) from error

    def _drop_the_rest(self) -> None:
        """Lead what the stream's buffer still holds to nowhere: Python writes it at the end of the
        process, and would fail again."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


@contextmanager
def telling_outputs() -> Iterator[None]:
    """Within the block stdout and stderr raise :class:`UnwritableOutput` where they fail."""
    before = sys.stdout, sys.stderr
    for name, title in (("stdout", "standard output"), ("stderr", "standard error output")):
        if (stream := getattr(sys, name)) is not None:
            setattr(sys, name, cast("TextIO", _Output(stream, title)))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
