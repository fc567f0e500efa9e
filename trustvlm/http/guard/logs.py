"""Structured logs: one JSON object a line, without what clients sent and without keys.

No request waits for the reader of the log: lines go through a bounded queue to a thread that writes
them. Lines that are not read, or cannot be written, are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

__all__ = ["FIELDS", "LOST", "JsonLines", "QueuedLines", "hold_standard_streams", "log_to_stderr"]

FIELDS = (
    "request_id",
    "client",
    "method",
    "route",
    "space",
    "status",
    "ms",
    "key",
    "bytes_in",
    "bytes_out",
    "error",
    "job",
)
MOST_LINES = 10_000
"""Lines that may wait to be written."""

LOST: list[Callable[[], None]] = []
"""Called for each line that is dropped."""

_STDERR = 2
_FLUSH_S = 1.0


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: getattr(record, name)
            for name in FIELDS
            if getattr(record, name, None) is not None
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


class QueuedLines(logging.Handler):
    """Writes records to a file descriptor from a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._writing = False
        threading.Thread(target=self._write_all, name="trustvlm-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written soon, or drop it; never waits."""
        line = self.format(record).encode() + b"\n"
        with self._changed:
            full = len(self._lines) >= MOST_LINES
            if not full:
                self._lines.append(line)
                self._changed.notify()
        if full:
            _lose()

    def flush(self) -> None:
        """Wait for what was given to be written; not for long, as it may never be."""
        end = time.monotonic() + _FLUSH_S
        while (self._lines or self._writing) and time.monotonic() < end:
            time.sleep(0.005)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.wait_for(lambda: self._lines)
                line, self._writing = self._lines.popleft(), True
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:  # whoever read it is gone, or the disk is full
                _lose()


def _lose() -> None:
    for tell in tuple(LOST):
        tell()


def hold_standard_streams() -> None:
    """Open what is closed of stdin, stdout and stderr on nothing: a file of ours would else be
    given the number of one of them, and get what is written there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def log_to_stderr(level: str = "info") -> None:
    """Write the records of trustvlm and uvicorn from this level on, and warnings of others, as such
    lines; and nothing else."""
    handler = QueuedLines(_STDERR)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("trustvlm", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn.access").disabled = True  # it would write paths, which hold names
    logging.captureWarnings(True)
    threading.excepthook = _log_thread


def _log_thread(failed: threading.ExceptHookArgs) -> None:
    with suppress(Exception):
        exc_info = (failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
        logging.getLogger("trustvlm").error("a thread ended with an error", exc_info=exc_info)
