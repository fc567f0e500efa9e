"""The settings that go with a home: all of trustvlm.toml but those that say where data are.

A home that is made of a backup holds its catalog and its originals itself: with the database of the
home that was backed up, it would be that home again. An archive is no place for a password, either.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from trustvlm.errors import InvalidInput

_PLACE = re.compile(r"""["']?(database_[a-z]+|originals_folder|snapshot_store)["']?[ \t]*=""")


def without_places(settings: bytes) -> bytes:
    """The text of a trustvlm.toml without the settings that name a place; as it is where it has
    none.

    Raises:
        InvalidInput: such a setting cannot be taken out, since it takes several lines.
    """
    lines = settings.decode(errors="surrogateescape").splitlines(keepends=True)
    kept = [line for line in lines if _PLACE.match(line.lstrip()) is None]
    if len(kept) == len(lines):
        return settings
    text = "".join(kept)
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeEncodeError) as error:
        raise InvalidInput(
            f"trustvlm.toml: the settings database_… and originals_folder stay out of a backup, "
            f"but without their lines the rest cannot be read ({error}); write each on one line"
        ) from error
    return text.encode(errors="surrogateescape")


def carried(settings: Path, work: Path) -> Path:
    """The file of the settings to put into a backup: `settings` itself where it names no place,
    otherwise a copy in the folder `work`."""
    try:
        text = settings.read_bytes()
    except FileNotFoundError:
        return settings
    if (rest := without_places(text)) == text:
        return settings
    copy = work / settings.name
    copy.write_bytes(rest)
    return copy
