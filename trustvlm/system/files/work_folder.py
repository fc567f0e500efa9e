"""Files and folders that appear completely or not at all: a hidden folder to make them in, and the
steps that put them into place.

A work folder lies beside what is being made, so that a rename suffices. It is locked as long as its
process lives; what a killed process left behind goes when the next work folder is made beside it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trustvlm.errors import Conflict, InvalidInput, NotFound, ReadOnly, Unavailable
from trustvlm.system.fault_points import reached
from trustvlm.system.files.durable import sync

_PREFIX = ".trustvlm-work-"
_LOCK, _NEW_LOCK = "lock", "lock.new"
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100


@contextmanager
def unwritable(what: str, path: Path) -> Iterator[None]:
    """Turns the operating system's errors inside the block into ours: `what` (to `path`) failed,
    and why.

    Raises:
        ReadOnly: no permission. Unavailable: another failure, such as a full disk.
    """
    try:
        yield
    except OSError as error:
        kind = ReadOnly if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else Unavailable
        where = (
            "" if error.filename in (None, os.fspath(path)) else f" ({os.fsdecode(error.filename)})"
        )
        raise kind(f"{what} {path} failed: {error.strerror or error}{where}") from error


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, gone with all that is still in it when the block ends.

    Raises:
        NotFound: there is no folder `parent`. InvalidInput: it is none.
    """
    if not parent.is_dir():
        if os.path.lexists(parent):
            raise InvalidInput(f"{parent} is a file, expected a folder")
        raise NotFound(f"no folder {parent}; make it first")
    _sweep(parent)
    folder = parent / f"{_PREFIX}{uuid.uuid4().hex}"
    folder.mkdir(mode=0o700)
    try:
        with (folder / _NEW_LOCK).open("xb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Under its name it is locked from the first moment on.
            (folder / _NEW_LOCK).rename(folder / _LOCK)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Delete work folders whose process is gone."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its process is alive
            shutil.rmtree(folder, ignore_errors=True)


def put(made: Path, target: Path, *, force: bool) -> None:
    """Give the file `made`, which is on disk, the name `target`, durably.

    Raises:
        Conflict: there is something of that name, and not `force`.
    """
    if force:
        made.replace(target)
    else:
        try:
            os.link(made, target)  # unlike a rename, it never replaces what appeared meanwhile
        except OSError as error:  # it is there, or a file system without links
            if os.path.lexists(target):
                raise Conflict(
                    f"{target} exists already; choose another name, or --force to replace it"
                ) from error
            made.rename(target)
    reached("backup.renamed")
    sync(target.parent)


def exchange(one: Path, other: Path) -> None:
    """Let two folders change names, in one step where the system can (Linux), else with a moment in
    which `other` is away.

    If that moment is the machine's last, what was at `other` is complete at `one` plus ".old", and
    what was at `one` is there.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
        if renameat2(*names, ctypes.c_uint(_EXCHANGE)) == 0:
            return
        if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    away = one.with_name(one.name + ".old")
    other.rename(away)
    try:
        one.rename(other)
    except BaseException:
        away.rename(other)
        raise
    away.rename(one)
