"""The discriminants of all spaces that a process has touched: made for the first query that asks
for one, followed by revision, kept in a file from which the next process starts.

Only spaces that a rule of the discriminant looks at have one. Up to `fit_in_call_labels` labels
with support images a query waits for the fit of its own revision. A larger space is answered with
the latest fit, which verdicts name, and fitted again in the background.
"""

from __future__ import annotations

import logging
from pathlib import Path

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Conflict, NotFound, TrustVLMError, Unavailable
from trustvlm.index.snapshot import read_snapshot, write_snapshot
from trustvlm.service.memory.discriminant.space_discriminant import SpaceDiscriminant, up_to_date
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.shared.shared_snapshots import SharedSnapshots
from trustvlm.service.memory.snapshots import snapshot_key
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.space_memo import SpaceMemo
from trustvlm.system.background import Failures, OneAtATime
from trustvlm.system.files.durable import remove
from trustvlm.types.thresholds import Thresholds

log = logging.getLogger("trustvlm")


class Discriminants:
    """The discriminants of all spaces. Safe to use from several threads.

    Args:
        catalog: the truth. folder: where snapshots lie. shared: those of other machines.
    """

    def __init__(
        self, catalog: Catalog, folder: Path, thresholds: Thresholds, shared: SharedSnapshots
    ) -> None:
        self._catalog, self._folder, self._thresholds = catalog, folder, thresholds
        self._shared = shared
        failures = Failures(log, "fitting a discriminant in the background")
        self._renewal = OneAtATime(failures, "trustvlm-discriminant")

    def path(self, space_id: int) -> Path:
        """Where the discriminant of a space lies."""
        return self._folder / f"{space_id}.discriminant.snapshot"

    def current(self, reading: Reading, *, wait: bool) -> SpaceDiscriminant:
        """The discriminant to answer with at the reading's revision; with `wait`, that of this very
        revision."""
        view, memo = reading.view, reading.memo
        with memo.fitting:
            latest = memo.latest(SpaceDiscriminant) or self._loaded(view)
            if latest is not None and latest.made > view.revision:
                latest = None
            outdated = latest is None or latest.holds_at < view.revision
            if latest is None or (outdated and (wait or self._is_small(view))):
                fit = up_to_date(reading.connection, view.space, latest, self._thresholds)
                if latest is None or fit.made > latest.made:
                    self._write(view.space, view.epoch, fit)
                latest, outdated = fit, False
            _keep(memo, latest)
        if outdated:
            self._renewal.begin(lambda: self._renew(view, memo))
        return latest

    def _is_small(self, view: SpaceView) -> bool:
        """Queries wait for the fit of their own revision."""
        return len(view.prototypes) <= self._thresholds.fit_in_call_labels

    def close(self) -> None:
        """Wait for a fit that is being made or written."""
        self._renewal.wait()

    def _loaded(self, view: SpaceView) -> SpaceDiscriminant | None:
        """The discriminant in the file, if it is of this space and not of a later revision."""
        key = snapshot_key(view.space, view.epoch, view.revision)
        path = self.path(view.space.id)
        if not path.exists() and not self._is_small(view):
            self._shared.take(path, key, view.space)
        try:
            stored = read_snapshot(path, key)
        except NotFound:
            return None
        except (Conflict, Unavailable) as error:
            log.warning("fitting space %s again: %s", view.space.name, error)
            return None
        if not view.space.log_start <= stored.key.revision <= view.revision:
            return None
        return SpaceDiscriminant.of_arrays(stored.arrays, stored.key.revision)

    def _renew(self, view: SpaceView, memo: SpaceMemo) -> None:
        """Bring the fit of a space up to date, and write it."""
        try:
            with self._catalog.read() as connection:
                space = spaces.find(connection, view.space.name)
                if space.id != view.space.id:  # removed and made again
                    return
                latest = memo.latest(SpaceDiscriminant)
                fit = up_to_date(connection, space, latest, self._thresholds)
            with memo.fitting:
                _keep(memo, fit)
            self._write(space, view.epoch, fit)
        except (OSError, TrustVLMError) as error:
            log.warning("space %s was not fitted again: %s", view.space.name, error)

    def _write(self, space: SpaceRecord, epoch: str, fit: SpaceDiscriminant) -> None:
        """Write a fit to the space's file, unless something that it looked at has been purged
        meanwhile."""
        if self._catalog.read_only:
            return
        path = self.path(space.id)
        try:
            write_snapshot(path, snapshot_key(space, epoch, fit.holds_at), fit.to_arrays())
            if len(fit.labels) > self._thresholds.fit_in_call_labels:  # others are fitted as soon
                self._shared.give(path, space.id, fit.holds_at)
            with self._catalog.read() as connection:
                if purge.lost_since(connection, space.id, fit.holds_at):
                    remove(path)
        except (OSError, TrustVLMError) as error:  # costs the next process a fit
            log.warning("the discriminant of space %s was not written: %s", space.name, error)


def _keep(memo: SpaceMemo, fit: SpaceDiscriminant) -> None:
    """Remember a fit, unless a later one is remembered."""
    latest = memo.latest(SpaceDiscriminant)
    if latest is None or latest.holds_at <= fit.holds_at:
        memo.keep(fit)
