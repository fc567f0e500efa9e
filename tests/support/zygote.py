"""A process that has imported what children import, and forks them: a child begins in milliseconds.

`python zygote.py SOCKET`: each message on the socket is JSON (the words of the command, environment
and folder) with three descriptors: the child's stdin and stdout, and a pipe for its process id and,
later, its exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

import numpy as np  # noqa: F401
import pytest  # noqa: F401

import trustvlm.service  # noqa: F401
from trustvlm.service.service import TrustService  # noqa: F401


def serve(requests: socket.socket) -> None:
    """Fork a child for each message, until the other end is closed."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not message:
            return
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # attendants need no burial
        attendant = os.fork()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if not attendant:
            requests.close()
            attend(json.loads(message), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def attend(request: dict[str, object], stdin: int, stdout: int, status: int) -> None:
    """Fork the child, say its process id, wait for it, and say its exit code."""
    child = os.fork()
    if not child:
        os.close(status)
        become(request, stdin, stdout)
        return
    os.close(stdin)
    os.close(stdout)
    os.write(status, f"{child}\n".encode())
    _, code = os.waitpid(child, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
    os._exit(0)


def become(request: dict[str, object], stdin: int, stdout: int) -> None:
    """Run a file as Python runs a script."""
    for given, own in ((stdin, 0), (stdout, 1)):
        os.dup2(given, own)
        os.close(given)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    os.chdir(str(request["folder"]))
    sys.argv = list(request["command"])  # type: ignore[call-overload]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
