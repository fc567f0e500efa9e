"""Running the service: one process, or several on one home, until a signal ends it."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from trustvlm.errors import Unavailable
from trustvlm.http.guard.connections import Connection, ServerConfig
from trustvlm.http.guard.logs import log_to_stderr
from trustvlm.http.guard.tracing import check_collector
from trustvlm.http.options import ServeOptions, is_loopback
from trustvlm.service.server.server_home import ServerHome
from trustvlm.settings import Settings, open_service
from trustvlm.system.files.default_home import expanded
from trustvlm.system.masking import has_password
from trustvlm.system.standard_streams import hold_standard_streams
from trustvlm.types.messages.commands import word

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("trustvlm.http")

TASK = "TRUSTVLM_SERVE_PROCESS"
"""The environment variable that holds the task of worker processes."""

MULTIPROC = "PROMETHEUS_MULTIPROC_DIR"
_M_ARENA_MAX = -8  # of glibc's malloc.h
MAX_OPEN_FILES = 65_536
SWITCH_S = 0.0005
"""Seconds that a thread keeps the interpreter while another one waits for it (Python's own: 0.005).
The event loop gives it up at every system call, and then waits for the scorer's thread."""
FINISHING_S = 60
"""Seconds that accepted requests have to finish when the service ends."""
SILENT_S = 30
"""Seconds that a worker may be silent before another takes its place: on a busy machine it takes
more than the five of uvicorn to import what it runs."""


def options_of(
    settings: Settings,
    host: str,
    port: int,
    workers: int,
    require_key: bool,
    root_path: str | None = None,
) -> ServeOptions:
    """The options of the service, from the command line and the settings serve_… of its home."""
    values = {
        one.name: getattr(settings, f"serve_{one.name}")
        for one in fields(ServeOptions)
        if f"serve_{one.name}" in Settings.model_fields
    }
    if root_path is not None:
        values["root_path"] = root_path
    return ServeOptions(
        host=host,
        port=port,
        require_key=require_key or not is_loopback(host),
        workers=workers,
        bodies_bytes=max(ServeOptions.bodies_bytes, 2 * settings.serve_body_bytes),
        **values,
    )


@dataclass(frozen=True)
class _Task:
    """What a worker process serves."""

    home: Path
    database_url: str | None = field(repr=False)
    device: str | None
    precision: str | None
    options: ServeOptions


_TASK = TypeAdapter(_Task)


def run_service(
    home: Path,
    host: str,
    port: int,
    workers: int,
    require_key: bool,
    device: str | None,
    precision: str | None,
    *,
    echo: Callable[[str], object],
    database_url: str | None = None,
    root_path: str | None = None,
) -> None:
    """Serve `home` until SIGTERM or SIGINT; accepted requests are finished.

    Raises:
        Unavailable: the address cannot be bound. What opening a home raises.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    hold_standard_streams()
    folder = expanded(home)
    with open_service(
        folder, create=True, database_url=database_url, device=device, precision=precision
    ) as service:
        keys = any(key.state == "valid" for key in ServerHome(service).list_keys())
    settings = Settings.of(folder, device=device, precision=precision)
    if settings.serve_otlp:
        check_collector(settings.serve_otlp)
    bound = _bound(host, port)
    options = options_of(settings, host, bound.getsockname()[1], workers, require_key, root_path)
    _greet(echo, _greeting(home, database_url, options, keys))
    task = _Task(folder, database_url, device, precision, options)
    os.environ[TASK] = _TASK.dump_json(task).decode()
    config = ServerConfig(
        options,
        factory=True,
        workers=workers,
        access_log=False,
        log_config=None,
        server_header=False,
        http=Connection,
        ws="none",
        forwarded_allow_ips=list(options.forwarded_ips),
        timeout_keep_alive=options.keep_alive_s,
        lifespan="on",
        timeout_graceful_shutdown=FINISHING_S,
        timeout_worker_healthcheck=SILENT_S,
    )
    log_to_stderr(options.log_level)
    _raise_file_limit()
    _end_at_hangup()
    try:
        if workers == 1:
            uvicorn.Server(config).run(sockets=[bound])
        else:
            os.environ[MULTIPROC] = _metrics_folder(home)
            Multiprocess(config, sockets=[bound]).run()
    finally:
        bound.close()
        os.environ.pop(TASK, None)
        if metrics := os.environ.pop(MULTIPROC, None):
            shutil.rmtree(metrics, ignore_errors=True)


def _greet(echo: Callable[[str], object], greeting: str) -> None:
    """Print the service's address on stdout; an unread or closed stdout does not stop the
    service."""
    try:
        echo(greeting)
    except OSError:
        # what the stream's buffer still holds is written there when the process ends
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 1)


def _metrics_folder(home: Path) -> str:
    """A folder for the metrics of all worker processes: a temporary one, else one in the home."""
    try:
        return tempfile.mkdtemp(prefix="trustvlm-metrics-")
    except OSError:
        return tempfile.mkdtemp(prefix="trustvlm-metrics-", dir=home)


def _raise_file_limit() -> None:
    """Raise the limit of open files: each connection is one, and clients decide on their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _end_at_hangup() -> None:
    """Take SIGHUP, as of a terminal that is closed, for SIGTERM; with several processes the
    supervisor takes it as the wish for new ones. nohup, which ignores it, stays in force."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named: without it every answer on a
    # connection that is kept open waits 40 ms for the client's acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise Unavailable(
            f"{host}:{port} cannot be listened on: {getattr(error, 'strerror', None) or error}"
        ) from error
    bound.listen(2048)
    bound.set_inheritable(True)
    return bound


def _greeting(home: Path, database_url: str | None, options: ServeOptions, keys: bool) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    if not options.require_key:
        access = "no key is needed, because only this machine can reach it"
    elif keys:
        access = "a key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
    else:
        place = f"--home {word(str(home))}"
        if database_url is not None and not has_password(database_url):
            place += f" --database-url {word(database_url)}"
        command = f"trustvlm {place} key create --scope admin"
        access = f"a key is needed, and there is none yet: '{command}' makes one"
    address = f"http://{host}:{options.port}{options.root_path}/"
    return f"Serving {home} at {address} ({access}). Ctrl-C ends it."


def application() -> FastAPI:
    """The application of a worker process, whose task is in the environment."""
    from trustvlm.http.app import create_app

    task = _TASK.validate_json(os.environ[TASK])
    log_to_stderr(task.options.log_level)
    _share_heaps()
    sys.setswitchinterval(SWITCH_S)
    settings = Settings.of(task.home, device=task.device, precision=task.precision)
    service = open_service(
        task.home,
        database_url=task.database_url,
        device=task.device,
        precision=task.precision,
        max_image_pixels=min(settings.max_image_pixels, settings.serve_image_pixels),
    )
    app = create_app(service, task.options)
    # A second signal ends the server without its last steps. Threads that still open models would
    # then run while Python takes itself down, which can spin for ever.
    atexit.register(app.state.serving.close)
    return app


def _share_heaps() -> None:
    """Let the threads share two of glibc's heaps, unless MALLOC_ARENA_MAX is set. With a heap for
    each, memory that a thread once needed stays taken: under overload half as much again."""
    libc = ctypes.CDLL(None)
    glibc = hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")
    if glibc and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_M_ARENA_MAX, 2)
