"""Looking at everything a home holds, and mending what is damaged."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from trustvlm.catalog.upkeep import quarantine
from trustvlm.service.home.home import Home
from trustvlm.service.verify.look import Look, look
from trustvlm.service.verify.repair import repair
from trustvlm.types.verification import Damage, QuarantinedRow, VerifyReport

__all__ = ["unopened", "verify"]

LISTED = 1_000
"""Damage, repairs and rows in quarantine that a report lists at most."""


def verify(
    home: Home,
    space_name: str | None,
    *,
    mend: bool,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """See :meth:`TrustService.verify`."""
    started = time.monotonic()
    found, mended = look(home, space_name, progress), list[Damage]()
    if mend and found.damage:
        found, mended = repair(home, space_name, found)
    one = next(iter(found.spaces), None) if space_name is not None else None
    return VerifyReport(
        home=str(home.folder),
        spaces=tuple(found.spaces.values()),
        checked=dict(found.checked),
        damage=tuple(found.damage[:LISTED]),
        more=max(0, len(found.damage) - LISTED) + found.more,
        repaired=tuple(mended),
        notes=tuple(found.notes),
        quarantine=_quarantined(home, found, one),
        quarantined=_count(home, one),
        seconds=time.monotonic() - started,
    )


def unopened(folder: Path, catalog: Path, problem: str) -> VerifyReport:
    """The report on a home whose catalog cannot be opened."""
    damage = Damage(None, None, "catalog", None, catalog.name, problem, "backup")
    return VerifyReport(home=str(folder), spaces=(), damage=(damage,))


def _count(home: Home, space_id: int | None) -> int:
    with home.catalog.read() as connection:
        return quarantine.count(connection, space_id)


def _quarantined(home: Home, found: Look, space_id: int | None) -> tuple[QuarantinedRow, ...]:
    with home.catalog.read() as connection:
        rows = quarantine.list_rows(connection, LISTED, space_id)
    return tuple(
        QuarantinedRow(
            row.id,
            found.spaces.get(row.space_id or 0),
            row.kind,
            row.row_id,
            row.name,
            row.reason,
            row.quarantined_at,
        )
        for row in rows
    )
