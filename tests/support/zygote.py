"""A process that has imported what children import, and forks them: a child begins in milliseconds.

`python zygote.py SOCKET`: each message on the socket is JSON (the words of the command, environment
and folder) with four descriptors: the child's stdin, stdout and stderr, and a pipe for its process
id and, later, its exit code. The command is a file of Python or "-m" and a module, with arguments.
Or it is the names of modules that later children are to begin with.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

import alembic.command  # noqa: F401
import faiss  # noqa: F401
import numpy.random  # noqa: F401
import pytest  # noqa: F401
import rich.cells
import rich.table  # noqa: F401
import uvicorn.lifespan.on
import uvicorn.loops.auto  # noqa: F401

import trustvlm.cli.root
import trustvlm.http.app
import trustvlm.http.run  # noqa: F401
from trustvlm.service.service import TrustService  # noqa: F401
from trustvlm.system import fault_points


def serve(requests: socket.socket) -> None:
    """Fork a child for each message, until the other end is closed. What is imported here is left
    out of the garbage collections of a child, which would copy all of it."""
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # attendants need no burial
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not message:
            return
        request = json.loads(message)
        if "modules" in request:
            for name in request["modules"]:
                importlib.import_module(name)
            gc.freeze()
            continue
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            attend(request, *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def attend(request: dict[str, object], *descriptors: int) -> None:
    """Fork the child, say its process id, wait for it, and say its exit code."""
    *streams, status = descriptors
    child = os.fork()
    if not child:
        os.close(status)
        become(request, *streams)
        return
    for stream in streams:
        os.close(stream)
    os.write(status, f"{child}\n".encode())
    _, code = os.waitpid(child, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
    os._exit(0)


def become(request: dict[str, object], *streams: int) -> None:
    """Run a file as Python runs a script, or a module as `python -m` does."""
    for descriptor, standard in zip(streams, (0, 1, 2), strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    encoding = os.environ.get("PYTHONIOENCODING")
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w", encoding=encoding)
    sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace")
    os.chdir(str(request["folder"]))
    importlib.reload(fault_points)  # it reads the environment at import
    first, *others = list(request["command"])  # type: ignore[call-overload]
    if first == "-m":
        sys.argv = others
        sys.path[0] = str(Path.cwd())
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *others]
        sys.path[0] = str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
