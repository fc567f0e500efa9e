"""The process of a command: the script `trustvlm`, and `python -m trustvlm.cli` for where that is
not on the PATH.

Python takes every object apart before a process ends. That says nothing to anybody and takes a
second once the libraries of the encoders are loaded, so a command leaves it out.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress

from trustvlm.cli.root import main
from trustvlm.system.standard_streams import hold_standard_streams


def run() -> None:
    """Run the command that `sys.argv` says, and end the process with its exit code once all is done
    that the command registered for the end."""
    hold_standard_streams()
    code: int | None = None

    def end() -> None:
        if code is not None:
            for stream in (sys.stdout, sys.stderr):
                with suppress(BrokenPipeError):  # its reader has seen enough
                    stream.flush()
            os._exit(code)

    atexit.register(end)  # what is registered earlier is done later
    try:
        main(prog_name="trustvlm")
    except SystemExit as leaving:
        if isinstance(leaving.code, int):
            code = leaving.code
        raise


if __name__ == "__main__":
    run()
