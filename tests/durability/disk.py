"""A disk that forgets: what a process did to files, taken from strace, and what a power cut may
have left of it.

The model is harsh, within what POSIX allows: of the writes to a file since its last fsync any
subset may be there, each whole or in sectors; of the names made, renamed or removed in a folder
since its last fsync, a first part: a file that is renamed into another folder may then have both
names, or neither. The index of SQLite's log (-shm) is memory-mapped, so it is not traced; SQLite
makes it anew.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

CALLS = (
    "openat,close,lseek,write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,truncate,fallocate,rename,renameat,renameat2,"
    "link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,dup,dup2,fcntl"
)
"""What strace must trace; with -f, -xx and -s large enough for the largest write."""

Range = tuple[int, bytes]


@dataclass(eq=False)
class File:
    """Bytes that are safe, and what was done since: (offset, bytes) written, or (length, None) for
    a change of length."""

    safe: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self, count: int) -> None:
        """The first `count` things that were done are safe."""
        self.safe = applied(self.safe, self.pending[:count])
        del self.pending[:count]

    @property
    def length(self) -> int:
        size = len(self.safe)
        for at, data in self.pending:
            size = at if data is None else max(size, at + len(data))
        return size


@dataclass(eq=False)
class Folder:
    """Names as the process sees them, as they are safe, and the changes since."""

    now: dict[str, File | Folder] = field(default_factory=dict)
    safe: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def change(self, names: dict[str, File | Folder | None]) -> None:
        """One step: what stands for names from now on (None: nothing)."""
        self.pending.append(names)
        _rename(self.now, names)

    def sync(self, count: int) -> None:
        for names in self.pending[:count]:
            _rename(self.safe, names)
        del self.pending[:count]


def _rename(names: dict[str, File | Folder], changes: dict[str, File | Folder | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def applied(content: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    found = bytearray(content)
    for at, data in changes:
        if data is None:
            found[at:] = bytes(max(0, at - len(found)))
        else:
            found.extend(bytes(max(0, at - len(found))))
            found[at : at + len(data)] = data
    return bytes(found)


def folder_of(path: Path) -> Folder:
    """What lies in a folder, all of it safe."""
    found = Folder()
    for entry in path.iterdir():
        if not entry.name.endswith("-shm"):
            found.safe[entry.name] = (
                folder_of(entry) if entry.is_dir() else File(entry.read_bytes())
            )
    found.now = dict(found.safe)
    return found


def after_power_cut(folder: Folder, place: Path, chance: random.Random, keep: float) -> None:
    """Write to `place` what may be left: each unsafe change of a file with probability `keep`, some
    of them torn."""
    place.mkdir()
    names = dict(folder.safe)
    for change in folder.pending[
        : round(keep * len(folder.pending))
        if keep in (0, 1)
        else chance.randint(0, len(folder.pending))
    ]:
        _rename(names, change)
    for name, node in names.items():
        if isinstance(node, Folder):
            after_power_cut(node, place / name, chance, keep)
        else:
            kept = [
                torn
                for change in node.pending
                if chance.random() < keep
                for torn in _torn(change, chance, keep)
            ]
            (place / name).write_bytes(applied(node.safe, kept))


def _torn(
    change: tuple[int, bytes | None], chance: random.Random, keep: float
) -> Iterator[tuple[int, bytes | None]]:
    at, data = change
    if data is None or keep == 1 or chance.random() < 0.5:
        yield change
        return
    sector = chance.choice((512, 4096))
    for start in range(0, len(data), sector):
        if chance.random() < 0.5:
            yield at + start, data[start : start + sector]


class Replay:
    """Applies a trace, line by line, to a folder.

    Args:
        root: where the folder was when it was traced. folder: what it held then.
    """

    def __init__(self, root: Path, folder: Folder) -> None:
        self._root, self.folder = PurePosixPath(root), folder
        self._files: dict[
            int, tuple[File | Folder, int]
        ] = {}  # descriptor → what is open, position
        self._unfinished: dict[str, tuple[str, int]] = {}

    def applied(self, line: str) -> str | None:
        """Apply one line; what the process wrote to its standard output with it, if it did."""
        process, _, call = line.strip().partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            call = call.removesuffix("<unfinished ...>").strip()
            syncing = re.match(r"f(?:data)?sync\((\d+)", call)
            node = self._files.get(int(syncing[1]), (None, 0))[0] if syncing else None
            # A sync covers what was done before it began, and counts from when it has ended.
            self._unfinished[process] = call, 0 if node is None else len(node.pending)
            return None
        covered = None
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", call):
            begun, covered = self._unfinished.pop(process)
            call = begun + resumed[1]
        match = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", call)
        if match is None or int(match[3]) < 0:
            return None
        name, arguments, result = match[1], match[2], int(match[3])
        handle = getattr(self, f"_{name}", None)
        if handle is None:
            raise AssertionError(f"a call that the replay does not know: {call[:200]}")
        return handle(arguments, result, covered)  # type: ignore[no-any-return]

    def _places(self, arguments: str) -> list[tuple[Folder, str] | None]:
        """For each path of a call: its folder and its last part; None for one that is not below the
        root."""
        found = []
        for at, path in _PATH.findall(arguments):
            name = _decoded(path)
            base = (
                self._files.get(int(at), (None, 0))[0]
                if at.isdecimal() and not name.startswith("/")
                else None
            )
            found.append(self._node(name, base))
        return found

    def _node(self, path: str, base: File | Folder | None) -> tuple[Folder, str] | None:
        if isinstance(base, Folder):
            parts, folder = PurePosixPath(path).parts, base
        else:
            try:
                parts, folder = PurePosixPath(path).relative_to(self._root).parts, self.folder
            except ValueError:
                return None
        for part in parts[:-1]:
            inner = folder.now.get(part)
            assert isinstance(inner, Folder), f"{path}: no folder {part}"
            folder = inner
        return folder, parts[-1] if parts else ""

    def _openat(self, arguments: str, result: int, _: int | None) -> None:
        self._files.pop(result, None)
        (found,), flags = self._places(arguments), arguments
        if found is None or found[1].endswith("-shm"):
            return
        folder, name = found
        node = folder if name in ("", ".") else folder.now.get(name)
        if node is None:
            assert "O_CREAT" in flags, name
            node = File()
            folder.change({name: node})
        if "O_TRUNC" in flags and isinstance(node, File):
            node.pending.append((0, None))
        self._files[result] = (
            node,
            node.length if "O_APPEND" in flags and isinstance(node, File) else 0,
        )

    def _close(self, arguments: str, *_: object) -> None:
        self._files.pop(int(arguments), None)

    def _lseek(self, arguments: str, result: int, _: int | None) -> None:
        descriptor = int(arguments.split(",")[0])
        if descriptor in self._files:
            self._files[descriptor] = self._files[descriptor][0], result

    def _write(self, arguments: str, result: int, _: int | None) -> str | None:
        descriptor = int(arguments.split(",")[0])
        if descriptor == 1:
            return strings(arguments)[0]
        if descriptor in self._files:
            node, at = self._files[descriptor]
            assert isinstance(node, File)
            node.pending.append((at, raw_bytes(arguments)[:result]))
            self._files[descriptor] = node, at + result
        return None

    def _pwrite64(self, arguments: str, result: int, _: int | None) -> None:
        descriptor = int(arguments.split(",")[0])
        if descriptor in self._files:
            node = self._files[descriptor][0]
            assert isinstance(node, File)
            node.pending.append((int(arguments.rsplit(",", 1)[1]), raw_bytes(arguments)[:result]))

    def _fsync(self, arguments: str, _: int, covered: int | None) -> None:
        node = self._files.get(int(arguments), (None, 0))[0]
        if node is not None:
            node.sync(len(node.pending) if covered is None else covered)

    _fdatasync = _fsync

    def _ftruncate(self, arguments: str, *_: object) -> None:
        descriptor, length = (int(part) for part in arguments.split(","))
        if descriptor in self._files:
            node = self._files[descriptor][0]
            assert isinstance(node, File)
            node.pending.append((length, None))

    def _rename(self, arguments: str, *_: object) -> None:
        old, new = self._places(arguments)
        if old is None or new is None:
            assert old is new, "a rename across the root"
            return
        node = old[0].now[old[1]]
        back = new[0].now[new[1]] if "RENAME_EXCHANGE" in arguments else None
        if old[0] is new[0]:
            old[0].change({old[1]: back, new[1]: node})  # one step
        else:  # two: each is safe with its own folder's sync, in whatever order the disk does them
            new[0].change({new[1]: node})
            old[0].change({old[1]: back})

    _renameat = _renameat2 = _rename

    def _link(self, arguments: str, *_: object) -> None:
        old, new = self._places(arguments)
        if old is None or new is None:
            assert old is new, "a link across the root"
            return
        new[0].change({new[1]: old[0].now[old[1]]})

    _linkat = _link

    def _unlink(self, arguments: str, *_: object) -> None:
        (found,) = self._places(arguments)
        if found is not None and not found[1].endswith("-shm"):
            found[0].change({found[1]: None})

    _unlinkat = _rmdir = _unlink

    def _mkdir(self, arguments: str, *_: object) -> None:
        (found,) = self._places(arguments)
        if found is not None:
            found[0].change({found[1]: Folder()})

    _mkdirat = _mkdir

    def _fcntl(self, arguments: str, result: int, _: int | None) -> None:
        if "F_DUPFD" in arguments:
            self._dup(arguments, result)

    def _dup(self, arguments: str, result: int, *_: object) -> None:
        self._files.pop(result, None)
        if (old := int(arguments.split(",")[0])) in self._files:
            self._files[result] = self._files[old]

    _dup2 = _dup


def raw_bytes(arguments: str) -> bytes:
    """The first string among the arguments of a call, which -xx wrote in hexadecimal."""
    found = re.search(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?', arguments)
    assert found is not None
    assert not found[2], "strace cut a string short"
    return bytes.fromhex(found[1].replace("\\x", ""))


_STRING = r'"((?:\\x[0-9a-f]{2})*)"'
_PATH = re.compile(rf"(?:(AT_FDCWD|\d+), )?{_STRING}")


def strings(arguments: str) -> list[str]:
    """All strings among the arguments."""
    return [_decoded(found) for found in re.findall(_STRING, arguments)]


def _decoded(string: str) -> str:
    return bytes.fromhex(string.replace("\\x", "")).decode()


def contents(folder: Folder) -> dict[str, bytes]:
    """Path → bytes of every file, as the process sees them."""
    found: dict[str, bytes] = {}
    for name, node in folder.now.items():
        if isinstance(node, Folder):
            found |= {f"{name}/{path}": data for path, data in contents(node).items()}
        else:
            found[name] = applied(node.safe, node.pending)
    return found
