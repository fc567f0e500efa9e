"""The revision of each space, and this process's caches of it, read without changing either."""

from __future__ import annotations

from dataclasses import dataclass

from trustvlm.catalog.rows import spaces
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.home.home import Home


@dataclass(frozen=True)
class SpaceState:
    """One space.

    Attributes:
        space, revision: its name and revision. lag: revisions that this process has not read; 0
            where it has no cache.
        labels, prototypes: in the cache. replayed: labels read since the last snapshot.
            snapshot_bytes: 0 without one.
        calibrated, stale: whether a calibration is in force, and whether the space has changed
            since in what it is about.
    """

    space: str
    revision: int
    lag: int
    labels: int
    prototypes: int
    replayed: int
    snapshot_bytes: int
    calibrated: bool
    stale: bool


def space_states(home: Home) -> list[SpaceState]:
    """See :meth:`ServerHome.space_states`."""
    states = []
    with home.catalog.read() as connection:
        for space in spaces.list_records(connection):
            name, space_id, revision = space.name, space.id, space.revision
            cache = home.caches.peek(name)
            labels, prototypes = (0, 0) if cache is None else cache.sizes
            calibration = in_force(connection, space)
            path = home.caches.path(space_id)
            state = SpaceState(
                space=name,
                revision=revision,
                lag=0 if cache is None else max(0, revision - cache.revision),
                labels=labels,
                prototypes=prototypes,
                replayed=0 if cache is None else cache.replayed,
                snapshot_bytes=path.stat().st_size if path.is_file() else 0,
                calibrated=calibration is not None,
                stale=calibration is not None and calibration.stale,
            )
            states.append(state)
    return states
