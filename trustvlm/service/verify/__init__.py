"""Looking at everything a home holds, and mending what is damaged."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from trustvlm.catalog.upkeep import quarantine
from trustvlm.service.home.home import Parts
from trustvlm.service.verify.look import Look, look
from trustvlm.service.verify.repair import repair
from trustvlm.types.verification import Damage, QuarantinedRow, VerifyReport

__all__ = ["unopened", "verify"]

LISTED = 1_000
"""Damage, repairs and rows in quarantine that a report lists at most."""


def verify(
    parts: Parts,
    space_name: str | None,
    *,
    mend: bool,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """See :meth:`TrustService.verify`."""
    started = time.monotonic()
    found, mended = look(parts, space_name, progress), list[Damage]()
    if mend and found.damage:
        found, mended = repair(parts, space_name, found)
    one = next(iter(found.spaces), None) if space_name is not None else None
    return VerifyReport(
        home=str(parts.home),
        spaces=tuple(found.spaces.values()),
        checked=dict(found.checked),
        damage=tuple(found.damage[:LISTED]),
        more=max(0, len(found.damage) - LISTED) + found.more,
        repaired=tuple(mended),
        notes=tuple(found.notes),
        quarantine=_quarantined(parts, found, one),
        quarantined=_count(parts, one),
        seconds=time.monotonic() - started,
    )


def unopened(home: Path, catalog: Path, problem: str) -> VerifyReport:
    """The report on a home whose catalog cannot be opened."""
    damage = Damage(None, None, "catalog", None, catalog.name, problem, "backup")
    return VerifyReport(home=str(home), spaces=(), damage=(damage,))


def _count(parts: Parts, space_id: int | None) -> int:
    with parts.catalog.read() as connection:
        return quarantine.count(connection, space_id)


def _quarantined(parts: Parts, found: Look, space_id: int | None) -> tuple[QuarantinedRow, ...]:
    with parts.catalog.read() as connection:
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
