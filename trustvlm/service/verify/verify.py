"""The verb `verify`: look, repair where asked to, and report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from trustvlm.catalog.upkeep import quarantine
from trustvlm.service.home.home import Home
from trustvlm.service.verify.look import look
from trustvlm.service.verify.repair import repair
from trustvlm.types.verification import Damage, VerifyReport

LISTED = 1_000
"""Damage and rows in quarantine that a report lists at most."""


def verify(
    home: Home,
    space_name: str | None,
    *,
    mend: bool,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """See :meth:`TrustService.verify`."""
    started = time.monotonic()
    result, repaired = look(home, space_name, progress), list[Damage]()
    if mend and result.damage:
        result, repaired = repair(home, space_name, result)
    space_id = None if space_name is None else next(iter(result.spaces), None)
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
