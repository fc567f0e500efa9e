"""The catalog's clock: when rows were removed, and how long ago that is.

A wall clock can be wrong: a machine without a battery starts in 1970, a virtual machine wakes up
days ahead. What is removed can be restored for an undo window, and a wrong clock must not end it.
This clock therefore goes forward only by time that a machine has run: a machine that removes rows
leaves a stamp (its boot, its uptime, this clock's time), and its uptime since that stamp is time
that has passed. Time while no stamped machine runs does not count: a purge may be late, but never
early.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Executable, delete, func, insert, select, union_all

from trustvlm.catalog.store.models import CatalogState, ClockStamp, Label, Space, Support

KEPT_STAMPS = 32
"""Stamps of other boots and machines that are kept, the newest."""

_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)  # later than every date that has a meaning of its own
_PROCESS = f"process-{uuid.uuid4()}"
_DATES: Executable = union_all(
    select(CatalogState.created_at),
    select(func.max(Space.created_at)),
    # Of the rows that the indexes over removed rows hold: other pages are not read.
    *(
        select(func.max(at)).where(at.is_not(None))
        for at in (Space.removed_at, Label.removed_at, Support.removed_at)
    ),
)


def now(connection: Connection) -> datetime:
    """The clock's time: its first time, and the running time that machines have shown since
    then."""
    machine, uptime = _uptime()
    stamps = connection.execute(
        select(ClockStamp.machine, ClockStamp.uptime, ClockStamp.time)
    ).all()
    if not stamps:
        return _start(connection)
    times: list[datetime] = [row.time for row in stamps]
    times += [
        row.time + timedelta(seconds=uptime - row.uptime)
        for row in stamps
        if row.machine == machine
    ]
    return max(times)


def stamp(connection: Connection) -> datetime:
    """The clock's time, stored with this machine's uptime. Part of a write transaction."""
    time_now = now(connection)
    machine, uptime = _uptime()
    connection.execute(delete(ClockStamp).where(ClockStamp.machine == machine))
    connection.execute(insert(ClockStamp).values(machine=machine, uptime=uptime, time=time_now))
    newest = select(ClockStamp.machine).order_by(ClockStamp.time.desc()).limit(KEPT_STAMPS)
    connection.execute(delete(ClockStamp).where(ClockStamp.machine.not_in(newest)))
    return time_now


def is_stamped(connection: Connection) -> bool:
    """Whether this boot of this machine has left a stamp, so that its uptime counts."""
    machine, _ = _uptime()
    return (
        connection.scalar(select(ClockStamp.machine).where(ClockStamp.machine == machine))
        is not None
    )


def _start(connection: Connection) -> datetime:
    """The clock's first time: the newest date that the catalog holds, unless that lies in the
    future."""
    newest = max(
        (date for date in connection.scalars(_DATES) if date is not None), default=_EARLIEST
    )
    return max(min(newest, datetime.now(UTC)), _EARLIEST)


def _uptime() -> tuple[str, float]:
    """(this boot of this machine, seconds since then); where the system does not tell, this process
    and its own clock."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return boot, float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _PROCESS, time.monotonic()
