"""The process that takes the inputs: `python -m fuzz.child ENTRANCE FOLDER FIRST COUNT`, a JSON
line for each on stdout."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

ADDRESS_BYTES = 6 * 2**30  # a runaway allocation ends this process, not the machine


def peak_mb() -> float:
    """Largest resident size since the last call."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return kilobytes / 1024


def main() -> None:
    entrance_name, folder, first, count = (
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
    )
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)  # libtiff and others print remarks
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    from fuzz.entrances import ENTRANCES, outcome

    entrance = ENTRANCES[entrance_name](folder)
    outcome(entrance, 0)  # what is imported and made at first use is no part of any input's time
    peak_mb()
    answers.write(json.dumps({"ready": True}) + "\n")
    answers.flush()
    for number in range(first, first + count):
        begun = time.perf_counter()
        what = outcome(entrance, number)
        milliseconds = 1_000 * (time.perf_counter() - begun)
        answers.write(
            json.dumps({"number": number, "what": what, "ms": milliseconds, "mb": peak_mb()}) + "\n"
        )
        answers.flush()


if __name__ == "__main__":
    main()
