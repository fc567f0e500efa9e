"""Structured logs: one JSON object a line, without contents of requests and without keys.

No request waits for the log: a thread writes the lines from a bounded queue. Lines that the queue
has no room for, or that cannot be written, are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from queue import Queue

FIELDS = (
    *("request_id", "client", "method", "route", "space", "status", "ms", "key"),
    *("bytes_in", "bytes_out", "error", "job", "trace_id", "parent_span"),
)
"""Extras of a record that its line holds."""

MAX_LINES = 10_000
"""Lines that may wait to be written."""

DROPPED: list[Callable[[], None]] = []
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
        extras = {name: getattr(record, name, None) for name in FIELDS}
        line |= {name: value for name, value in extras.items() if value is not None}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


class QueuedLines(logging.Handler):
    """Writes records to a file descriptor from a thread of its own; `most` lines may wait."""

    def __init__(self, descriptor: int, most: int = MAX_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: Queue[bytes] = Queue(most)
        threading.Thread(target=self._write_all, name="trustvlm-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it; never waits."""
        try:
            self._lines.put_nowait(self.format(record).encode() + b"\n")
        except Exception:  # no room; or a record that cannot be a line: no request fails for that
            _drop()

    def flush(self) -> None:
        """Wait until the queue is written, for a second at most."""
        end = time.monotonic() + _FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.005)

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:  # the reader is gone, or the disk is full
                _drop()
            self._lines.task_done()


def _drop() -> None:
    for count in tuple(DROPPED):
        count()


def log_to_stderr(level: str = "info") -> None:
    """Write the records of trustvlm and uvicorn from this level on, and warnings of other loggers,
    to stderr as lines of JSON, and nothing else."""
    handler = QueuedLines(_STDERR)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("trustvlm", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn.access").disabled = True  # its lines hold paths, and so names
    logging.captureWarnings(True)
    threading.excepthook = _log_thread


def _log_thread(failed: threading.ExceptHookArgs) -> None:
    with suppress(Exception):
        exc_info = (failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
        logging.getLogger("trustvlm").error("a thread ended with an error", exc_info=exc_info)
