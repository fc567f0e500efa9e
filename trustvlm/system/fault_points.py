"""Fault points: named steps at which a test can end a process, let a disk fail, or wait.

The environment variable TRUSTVLM_FAULT, read once, says ``NAME:COUNT:KIND``: what to do when the
step NAME (one of :data:`POINTS`) is reached for the COUNTth time. Kinds: ``kill`` (SIGKILL),
``term`` (SIGTERM, then go on), ``enospc`` and ``eio`` (an OSError, as of a full or failing disk),
``sleep`` (a second). With a COUNT of 0 it happens every time.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from dataclasses import dataclass, field

_CHANGES = """
space.create space.remove space.restore space.recipe space.repoint space.search space.attribute
label.update label.remove label.restore label.alias label.unalias label.parent
register support.remove support.restore support.move support.keep support.update
purge fit
calibrate calibration.remove feedback promote originals
reembed.begin reembed.stage reembed.carry reembed.follow reembed.cut_over reembed.drop
import.begin import.chunk import.reveal import.discard repair repair.whole
key call job review verdict_log
"""
_STEPS = """
home.made schema.begun schema.step schema.written schema.committed
register.labels purge.discarded purge.checkpointed
snapshot.opened snapshot.part snapshot.unsynced snapshot.synced snapshot.renamed snapshot.done
rebuild.written rebuild.supports cache.compacted
backup.copied backup.synced backup.renamed export.made export.renamed
restore.made restore.renamed restore.aside restore.exchanged
bulk.begun bulk.written bulk.synced bulk.renamed
"""

CHANGES = tuple(_CHANGES.split())
"""The kinds of write transactions of the catalog; each has the points NAME.written (before its
commit) and NAME.committed."""

POINTS = frozenset(
    [f"{change}.{step}" for change in CHANGES for step in ("written", "committed")] + _STEPS.split()
)
"""Every step that can be named."""

_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}
_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}
_KINDS = ("sleep", *_SIGNALS, *_ERRORS)


@dataclass
class _Fault:
    name: str
    count: int
    kind: str
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, value: str) -> _Fault | None:
        """The fault that the variable names; None when it is empty."""
        if not value:
            return None
        name, count, kind = [*value.split(":"), "", ""][:3]
        if name not in POINTS or not count.isdecimal() or kind not in _KINDS:
            raise ValueError(
                f"TRUSTVLM_FAULT: expected NAME:COUNT:KIND with a name of trustvlm.system."
                f"fault_points.POINTS and one of {', '.join(_KINDS)}; got {value!r}"
            )
        return cls(name, int(count), kind)

    def strike(self) -> None:
        """Count that the step was reached, and cause the fault when its time has come."""
        with self.lock:  # the steps of background threads count too
            self.seen += 1
            due = self.count in (0, self.seen)
        if not due:
            return
        if self.kind == "sleep":
            time.sleep(1.0)
        elif self.kind in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[self.kind])
        else:
            code = _ERRORS[self.kind]
            raise OSError(code, f"{os.strerror(code)} (asked for at {self.name})")


_fault = _Fault.of(os.environ.get("TRUSTVLM_FAULT", ""))


def reached(name: str) -> None:
    """Mark a step: one comparison, unless a test asked for a fault at this step."""
    if _fault is not None and _fault.name == name:
        _fault.strike()
