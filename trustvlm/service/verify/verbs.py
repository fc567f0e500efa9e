"""The verbs that keep a home in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from trustvlm.catalog.upkeep import quarantine
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.home.purge import purge_removed
from trustvlm.service.verify.look import look
from trustvlm.service.verify.repair import repair as repairs
from trustvlm.types.backups import Scrubbed
from trustvlm.types.bounds import callbacks, flags
from trustvlm.types.verification import Damage, VerifyReport

LISTED = 1_000
"""Damage and rows in quarantine that a report lists at most."""


class UpkeepVerbs(OpenHome):
    """Purge what was removed, and check and repair what is stored."""

    def purge(self, *, older_than: timedelta | None = None) -> int:
        """Delete for good the rows that were removed, or put into quarantine, before the undo
        window (or `older_than`); their number. Earlier backups keep them."""
        return purge_removed(self._writable(), older_than)

    def scrub(self) -> Scrubbed | None:
        """Write the files of a catalog in PostgreSQL again, so that they keep nothing of what was
        purged; what that did. None for a catalog in a file, which keeps nothing of it anyway.

        For a maintenance window: a table is locked, for readers too, while it is written, and
        needs its room twice. What purged bytes it does not reach: docs/scale-out.md.

        Raises:
            Busy: a table was in use for too long, or a transaction still sees purged rows.
        """
        return self._writable().catalog.reclaim(rewrite=True)

    def verify(
        self,
        space: str | None = None,
        *,
        repair: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> VerifyReport:
        """Check that every row and snapshot of a space, or of the home, is as it was written, and
        that they agree.

        Args:
            repair: build again what is derived, and put damaged rows into quarantine; nothing is
                deleted. The report then lists the repairs and the remaining damage.
            progress: called with (rows checked, rows in all).

        Raises:
            NotFound: no such space. ReadOnly: a repair of a home that cannot be written.
        """
        flags(repair=repair)
        callbacks(progress=progress)
        home = self._writable() if repair else self._ready()
        started = time.monotonic()
        result, repaired = look(home, space, progress), list[Damage]()
        if repair and result.damage:
            result, repaired = repairs(home, space, result)
        space_id = None if space is None else next(iter(result.spaces), None)
        with home.catalog.read() as connection:
            quarantined = quarantine.count(connection, space_id)
            rows = quarantine.list_rows(connection, result.spaces, LISTED, space_id)
        return VerifyReport(
            home=str(home.folder),
            spaces=tuple(result.spaces.values()),
            checked=dict(result.checked),
            damage=tuple(result.damage[:LISTED]),
            more=max(0, len(result.damage) - LISTED) + result.more,
            repaired=tuple(repaired),
            notes=tuple(result.notes),
            quarantine=rows,
            quarantined=quarantined,
            seconds=time.monotonic() - started,
        )


def unopened(folder: Path, catalog: str, problem: str) -> VerifyReport:
    """The report on a home whose catalog, shown as `catalog`, cannot be opened."""
    damage = Damage(None, None, "catalog", None, catalog, problem, "backup")
    return VerifyReport(home=str(folder), spaces=(), damage=(damage,))
