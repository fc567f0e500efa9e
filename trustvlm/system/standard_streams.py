"""stdin, stdout and stderr of a process that was started with some of them closed."""

from __future__ import annotations

import os
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def hold_standard_streams() -> None:
    """Open each of stdin, stdout and stderr that is closed on the null device: otherwise the next
    file that is opened gets its number, and what is written there."""
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:  # Python found it closed
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
