"""Lists of label names."""

from __future__ import annotations

from pathlib import Path

from trustvlm.errors import InvalidInput
from trustvlm.reading.images import is_folder

__all__ = ["read_names"]

_MAX_NAMES_BYTES = 256 * 2**20  # a million names are 30 MB


def read_names(path: Path) -> list[tuple[str, str | None]]:
    """(name, prompt or None) of each line `name` or `name<TAB>prompt`; blank lines are skipped.

    Raises:
        NotFound, InvalidInput: no such file, not UTF-8, or more than one tab in a line.
    """
    if not is_folder(path) and path.exists() and not (path.is_file() or path.is_fifo()):  # a pipe: register --labels <(…)
        raise InvalidInput(f"{path}: expected a file of names, this is a device or a socket")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_NAMES_BYTES + 1)
        if len(content) > _MAX_NAMES_BYTES:
            raise InvalidInput(f"{path}: expected at most {_MAX_NAMES_BYTES >> 20} MiB of names")
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path}: expected UTF-8 text, one label name a line ({error.reason} at byte {error.start})"
        ) from error
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        name, *rest = (part.strip() for part in line.split("\t"))
        if len(rest) > 1:
            raise InvalidInput(f"{path}, line {number}: expected a name, or a name, a tab and a prompt; got {len(rest)} tabs")
        prompt = (rest[0] or None) if rest else None
        if name or prompt:
            found.append((name, prompt))
    if not found:
        raise InvalidInput(f"{path}: expected one label name a line, found none")
    return found
