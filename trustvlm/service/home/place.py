"""How the command line names a home, for the commands of messages."""

from __future__ import annotations

import os
from pathlib import Path

from trustvlm.catalog.store.location import Location
from trustvlm.system.files.default_home import default_home
from trustvlm.types.messages.commands import word


def place_of(folder: Path, location: Location | None) -> str:
    """The options of the command line that name a home; empty for the one that ``trustvlm`` alone
    takes.

    Args:
        folder: the home directory. location: where its catalog is, if a URL said so.
    """
    options = []
    if folder != Path(os.path.abspath(os.path.expanduser(default_home()))):  # noqa: PTH100, PTH111
        options += ["--home", word(str(folder))]
    if location is not None:
        options += ["--database-url", word(location.address)]
    return " ".join(options)
