"""A process that decodes and preprocesses images for
:class:`~trustvlm.encoders.images.worker_pool.WorkerPool`."""

from __future__ import annotations

import os
import signal
import sys

from trustvlm.encoders.images.decode import UnreadableImage
from trustvlm.encoders.images.worker_pool import prepare, receive, send


def main() -> None:
    """Answer tasks from standard input until it closes, which it does when the parent is gone."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent decides
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # whatever a library prints must not mix with the answers
    tasks = sys.stdin.buffer
    try:
        preprocesses, limits = receive(tasks)
        send(answers, "ready")
        while True:
            source = receive(tasks)
            try:
                done = prepare(source, preprocesses, limits)
                send(
                    answers, ("ok", (done.content_hash, done.thumbnail, done.pixels, done.remarks))
                )
            except UnreadableImage as e:
                send(answers, ("unreadable", (e.source, e.reason)))
            except Exception as e:  # carried to the parent, which raises it there
                send(answers, ("error", f"{type(e).__name__}: {e}"))
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
