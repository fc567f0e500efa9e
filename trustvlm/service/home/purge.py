"""Deleting for good: from the catalog, its log, and every file that was made of it.

Backups are beyond reach: they keep what they hold, and say so in their documentation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from trustvlm.catalog.store import clock
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Busy, Unavailable
from trustvlm.service.home.home import Home, only_one
from trustvlm.service.home.originals import forget_originals, sweep_originals
from trustvlm.service.home.verdict_log.writer import trim_all
from trustvlm.system.fault_points import reached
from trustvlm.types.bounds import duration

EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

log = logging.getLogger("trustvlm")


def purge_removed(home: Home, older_than: timedelta | None) -> int:
    """See :meth:`TrustService.purge`."""
    window = home.undo_window if older_than is None else duration("older_than", older_than)
    before, count = _passed(home, window), 0
    trim_all(home.catalog)
    if _anything(home, before, quarantined=True):
        count = _purge(home, before, quarantined=True)
    try:
        forget_originals(home)
        sweep_originals(home)
    finally:
        # Even after 0 rows: an earlier purge may have been stopped, or readers in its way.
        _clear_log(home)
    return count


def _clear_log(home: Home) -> None:
    home.catalog.reclaim()
    reached("purge.checkpointed")


def purge_expired(home: Home) -> None:
    """Purge what has left its undo window, on the way to another change: nobody waits for readers
    to leave the log. Another process that is at it does it for this one, too.

    Of the quarantine, only rows that had been removed before they were found damaged: no user asked
    to delete the others.
    """
    before = _passed(home, home.undo_window)
    trim_all(home.catalog)
    if not _anything(home, before, quarantined=False):
        return
    with only_one(home, "expiry") as is_alone:
        purged = _purge(home, before, quarantined=False) if is_alone else 0
    if purged:
        try:
            forget_originals(home)
        except Unavailable as error:
            log.warning("originals of purged images stay until the next purge: %s", error)
        try:
            home.catalog.reclaim(wait=False)
        except Busy as error:
            log.info("purged rows stay in the log until the next purge: %s", error)


def purge_now(home: Home, *, label_id: int | None = None, space_id: int | None = None) -> int:
    """Purge a removed label (`label_id`) with its support images, or all that was removed of a
    space (`space_id`); how many rows went."""
    with home.catalog.read() as connection:
        now = clock.now(connection)
    count = _purge_rows(home, now, label_id, space_id)
    forget_originals(home)
    _clear_log(home)
    return count


def _purge_rows(
    home: Home, before: datetime, label_id: int | None = None, space_id: int | None = None
) -> int:
    """Purge support images, then labels; how many rows went."""
    return sum(
        _in_chunks(home, partial(step, before=before, label_id=label_id, space_id=space_id))
        for step in (purge.purge_supports, purge.purge_labels)
    )


def _anything(home: Home, before: datetime, *, quarantined: bool) -> bool:
    with home.catalog.read() as connection:
        return purge.anything(connection, before, quarantined=quarantined)


def _purge(home: Home, before: datetime, *, quarantined: bool) -> int:
    """Purge what was removed before a time of the catalog's clock; how many rows went."""
    with home.catalog.read() as connection:
        gone = purge.purge_spaces(connection, before)
    count = _purge_rows(home, before)
    for space_id in gone:
        count += _in_chunks(home, partial(purge.purge_of_space, space_id=space_id))
    while True:
        with home.catalog.write("purge") as connection:
            done = purge.purge_quarantine(connection, before, everything=quarantined)
        count += done
        if not done:
            return count


def _passed(home: Home, age: timedelta) -> datetime:
    """The time that is `age` ago by the catalog's clock, which counts the uptime of this machine
    from now on at the latest."""
    with home.catalog.read() as connection:
        removed = purge.anything(connection, LATEST, quarantined=True)
        stamped = clock.is_stamped(connection) or not removed
        time = clock.now(connection)
    if not stamped:
        with home.catalog.write("purge") as connection:
            time = clock.stamp(connection)
    return time - min(age, time - EARLIEST)


def _in_chunks(home: Home, step: Callable[[Connection], list[int]]) -> int:
    """Repeat `step`, which deletes rows and returns the space of each, a transaction each, until it
    has nothing left to do; how many rows went."""
    total = 0
    while True:
        with home.catalog.write("purge") as connection:
            spaces = step(connection)
        if not spaces:
            return total
        for space_id in set(spaces):
            home.caches.discard(space_id)  # a snapshot may hold what was purged
        reached("purge.discarded")
        total += len(spaces)
