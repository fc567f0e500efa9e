"""Work that one process at a time does for a catalog, whichever machine it runs on."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from trustvlm.catalog.store.location import ServerLocation
from trustvlm.service.home.home import Home


@contextmanager
def only_one(home: Home, work: str) -> Iterator[bool]:
    """Whether no other process or thread does `work`, within the block: by a lock on the server
    that holds the catalog, or on the file "`work`.lock" in the home; it ends with the process.
    Waits for nothing."""
    location = home.catalog.location
    if isinstance(location, ServerLocation):
        from trustvlm.catalog.server.presence import alone  # needs the server's driver

        with alone(location, work) as is_alone:
            yield is_alone
        return
    with (home.folder / f"{work}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            is_alone = False
        yield is_alone
