"""Builds the inner loops of scoring, trustvlm/softmax/*.c, with the C compiler.

The installer runs it through hatchling; `python hatch_build.py` does the same in a checkout.
Without a compiler the package installs all the same, and passes over labels run through torch,
slower.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path(__file__).parent / "trustvlm" / "softmax"
SOURCES, LIBRARY = sorted(FOLDER.glob("*.[ch]")), FOLDER / "loops.so"
FLAGS = ["-O3", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi"]
# The first that the compiler accepts is used: with threads, and a copy of a function for each kind
# of processor; without one of them; without both.
CHOICES: tuple[list[str], ...] = (["-fopenmp", "-DCLONES"], ["-DCLONES"], ["-fopenmp"], [])


def build() -> bool:
    """Compile the library beside its source; whether there is one now."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        LIBRARY.unlink(missing_ok=True)
        return False
    source = f"-DSOURCE={zlib.crc32(b''.join(path.read_bytes() for path in SOURCES))}u"
    files = [str(path) for path in SOURCES if path.suffix == ".c"]
    partial = LIBRARY.with_suffix(f".{os.getpid()}.so")
    for choice in CHOICES:
        command = [*compiler, *FLAGS, *choice, source, "-o", str(partial), *files, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            partial.replace(LIBRARY)  # a process that has loaded the old one keeps it
            return True
        sys.stderr.write(done.stderr)
    LIBRARY.unlink(missing_ok=True)
    return False


class NativeHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the library into a wheel, which then is for one kind of machine."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or not build():
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_')}"
        build_data["artifacts"].append("/trustvlm/softmax/loops.so")


if __name__ == "__main__":
    sys.exit(0 if build() else "no C compiler: passes over labels will run through torch, slower")
