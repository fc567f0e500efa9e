"""A PostgreSQL server for tests: a cluster of its own, at a socket, gone with the process that
started it.

PostgreSQL refuses to run as root: there it runs as the user "postgres" (or "nobody").
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

USER = "trustvlm"
_UNPRIVILEGED = ("postgres", "nobody")
_DEADLINE_S = 60.0
_ROOM = 4 << 30


def missing() -> str | None:
    """Why no server can be started here; None: one can."""
    if _programs() is None:
        return "no initdb: install postgresql"
    if os.geteuid() == 0 and _other_user() is None:
        return f"PostgreSQL refuses root, and there is no user {' or '.join(_UNPRIVILEGED)}"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "no setpriv, to start PostgreSQL as another user than root"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "no psycopg: install trustvlm[postgres]"
    return None


def _programs() -> Path | None:
    """The folder of initdb: that of the newest version, as Debian has several."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda at: float(at.parts[-3])
    )
    beside = shutil.which("initdb")
    if versions:
        return versions[-1].parent
    return Path(beside).resolve().parent if beside else None


def _other_user() -> str | None:
    names = {user.pw_name for user in pwd.getpwall()}
    return next((name for name in _UNPRIVILEGED if name in names), None)


class Server:
    """A running server over `folder`. `settings`: of its configuration, such as "fsync=on"."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self._settings = settings
        _give_away(folder)
        _run_as_other_user("cp", "-a", str(_empty_cluster(os.getpid())), str(self._data))
        self.start()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with_parent = ["--pdeathsig", "INT"] if shutil.which("setpriv") else []
        options = [word for setting in self._settings for word in ("-c", setting)]
        command = [
            *_as_other_user(*with_parent), _program("postgres"),
            "-D", str(self._data), "-k", str(self.folder), "-c", "listen_addresses=", *options,
        ]  # fmt: skip
        nothing = subprocess.DEVNULL
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd="/", stdin=nothing, stdout=nothing, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        import psycopg

        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                psycopg.connect(host=str(self.folder), user=USER, dbname="postgres").close()
                return
            except psycopg.OperationalError:
                ended = self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def kill(self) -> None:
        """End the postmaster and all its processes at once, as a power cut does."""
        self._disconnect()
        os.kill(self._process.pid, signal.SIGSTOP)  # or it would start more of them meanwhile
        children = _children_of(self._process.pid)
        for process in (self._process.pid, *children):
            os.kill(process, signal.SIGKILL)
        self._process.wait()
        while any(map(_is_running, children)):  # a new server refuses their shared memory
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server; connections are cut."""
        self._disconnect()
        self._process.send_signal(signal.SIGQUIT)  # at once: what it holds is not needed any more
        self._process.wait(timeout=_DEADLINE_S)

    def _disconnect(self) -> None:
        if "_admin" in vars(self):  # a cached property: the next use connects again
            self._admin.close()
            del self._admin

    @cached_property
    def _admin(self) -> Any:
        import psycopg

        return psycopg.connect(host=str(self.folder), user=USER, dbname="postgres", autocommit=True)

    def create(self, name: str, template: str | None = None, options: str = "") -> str:
        """Make a database, a copy of another one where that is named, with more options of CREATE
        DATABASE; its URL."""
        of = f' TEMPLATE "{template}"' if template else ""
        self._admin.execute(f'CREATE DATABASE "{name}"{of} {options}'.encode())
        return self.url(name)

    def drop(self, name: str) -> None:
        """Delete a database; its connections are cut."""
        self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://{USER}@/{name}?host={self.folder}"


def _as_other_user(*more: str) -> list[str]:
    """Words before a command that may not run as root."""
    user = ["--reuid", str(_other_user()), "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, *more] if user or more else []


def _run_as_other_user(*command: str) -> None:
    subprocess.run(
        [*_as_other_user(), *command],
        check=True, capture_output=True, cwd="/", timeout=_DEADLINE_S,
    )  # fmt: skip


def _give_away(folder: Path) -> None:
    """Let the user that PostgreSQL runs as write into a folder."""
    if os.geteuid() == 0:
        shutil.chown(folder, _other_user(), None)


def _program(name: str) -> str:
    programs = _programs()
    assert programs is not None
    return str(programs / name)


@cache
def _empty_cluster(process: int) -> Path:
    """What the servers of a process begin with, as copies: initdb takes a second of a processor."""
    folder = Path(tempfile.mkdtemp(prefix="tv-", dir=_in_memory() or "/tmp"))

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder)

    atexit.register(remove)
    _give_away(folder)
    _run_as_other_user(_program("initdb"), "-D", str(folder / "data"), *_INITDB)
    return folder / "data"


_INITDB = ("--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C",
           "--no-sync")  # fmt: skip


def _children_of(process: int) -> list[int]:
    return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _in_memory() -> str | None:
    """A folder in memory: the server syncs there as on a disk, at no cost. None: it has no room."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > _ROOM:
        return str(shared)
    return None


@contextmanager
def server(*settings: str, place: Path | None = None) -> Iterator[Server]:
    """A server that lives as long as the block, in a folder whose name is short enough for a
    socket: in memory or, where `place` names a folder, there."""
    folder = Path(tempfile.mkdtemp(prefix="tv-", dir=place or _in_memory() or "/tmp"))
    try:
        running = Server(folder, *settings)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder)
