"""Many inputs through one entrance, in child processes under a watchdog.

In tests/: `python -m fuzz.campaign ENTRANCE|all [COUNT]`. A child that says nothing for
:data:`HANG_SECONDS` is killed and its input counted as a hang; one that dies, as a crash. Then the
next child goes on behind that input.
"""

from __future__ import annotations

import collections
import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["HANG_SECONDS", "Report", "campaign"]

HANG_SECONDS = 5.0
START_SECONDS = 120.0
MAX_FINDINGS = 20
TESTS = Path(__file__).resolve().parents[1]


@dataclass
class Report:
    """What became of the inputs. `findings`: crashes and hangs, with their numbers."""

    entrance: str
    inputs: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    findings: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    slowest: int = -1
    peak_mb: float = 0.0

    def row(self) -> str:
        refused = ", ".join(
            f"{kind} {number:,}"
            for kind, number in self.outcomes.most_common()
            if kind != "accepted"
        )
        return (
            f"| {self.entrance} | {self.inputs:,} | {self.outcomes['accepted']:,} | {refused} | "
            f"{len(self.findings)} "
            f"| {self.slowest_ms:,.0f} | {self.peak_mb:,.0f} |"
        )


def campaign(entrance: str, count: int, first: int = 1) -> Report:
    """`count` inputs from number `first` on; stops early after :data:`MAX_FINDINGS` findings."""
    report = Report(entrance)
    end = first + count
    while first < end and len(report.findings) < MAX_FINDINGS:
        with tempfile.TemporaryDirectory() as folder:
            first = _child(report, entrance, folder, first, end)
    return report


def _child(report: Report, entrance: str, folder: str, first: int, end: int) -> int:
    """Runs one child; the number to go on with."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
        ),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "fuzz.child", entrance, folder, str(first), str(end - first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        pipe, rest, patience = child.stdout.fileno(), b"", START_SECONDS
        while first < end:
            if not select.select([pipe], [], [], patience)[0]:
                report.findings.append(f"input {first}: no answer for {patience} s")
                child.kill()
                return first + 1
            block = os.read(pipe, 1 << 16)
            if not block:
                report.findings.append(f"input {first}: the process died ({child.wait(60)})")
                return first + 1
            *lines, rest = (rest + block).split(b"\n")
            for line in map(json.loads, lines):
                patience = HANG_SECONDS
                if "number" in line:
                    first = line["number"] + 1
                    _count(report, line)
        child.wait(60)
    return first


def _count(report: Report, line: dict[str, object]) -> None:
    what, milliseconds, megabytes = (
        str(line["what"]),
        float(str(line["ms"])),
        float(str(line["mb"])),
    )
    report.inputs += 1
    report.outcomes[what.split()[0]] += 1
    if what.startswith("CRASH"):
        report.findings.append(f"input {line['number']}: {what}")
    if milliseconds > report.slowest_ms:
        report.slowest_ms, report.slowest = milliseconds, int(str(line["number"]))
    report.peak_mb = max(report.peak_mb, megabytes)


def main() -> None:
    which = sys.argv[1] if len(sys.argv) > 1 else "all"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    out = sys.stdout
    out.write(
        "| entrance | inputs | accepted | refused, by kind | findings | slowest, ms | peak, MB |\n"
    )
    out.write("|---|---|---|---|---|---|---|\n")
    for entrance in ("images", "npz", "toml", "names") if which == "all" else (which,):
        report = campaign(entrance, count)
        out.write(report.row() + "\n")
        out.writelines(f"  {finding}\n" for finding in report.findings)
        out.flush()


if __name__ == "__main__":
    main()
