"""What a process keeps in memory of a label space, following the catalog by revision.

A cache at revision r reads the rows changed since r and applies them: that costs what was changed, whatever the size of
the space. Readers hold a :class:`SpaceView`, one whole revision, which later changes never touch. Everything here can be
thrown away: it comes back from the catalog, or faster from a snapshot file and the rows since.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog import labels, purge, spaces, supports
from trustvlm.catalog.spaces import SpaceRecord
from trustvlm.errors import Conflict, NotFound, Unavailable
from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.recipe import load_recipe
from trustvlm.index.rows import RowTable, RowView
from trustvlm.index.snapshot import SnapshotKey, pack_strings, read_snapshot, unpack_strings, write_snapshot
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.aliases import Aliases
from trustvlm.service.fitted import FitMemo
from trustvlm.types import Int64s

__all__ = ["Caches", "SpaceCache", "SpaceView", "SupportCache"]

log = logging.getLogger("trustvlm")

COMPACT_SHARE = 0.25
COMPACT_ROWS = 1024
SNAPSHOT_ROWS = 5_000
"""A load that had to read this many labels from the catalog, and a tenth of the space, leaves a snapshot behind."""


@dataclass(frozen=True, eq=False)
class SpaceView:
    """A label space at one revision, immutable.

    Attributes:
        space: its row. epoch: of the catalog. revision: the view's.
        names: label name of each text slot (it may go on beyond text.n; those belong to later revisions).
        text: text prototypes by label id. prototypes: prototypes by label id. index: FAISS over the prototypes.
        aliases: which labels are further names of others.
        cache: where the view came from; holds what is computed once per revision.
    """

    space: SpaceRecord
    epoch: str
    revision: int
    names: list[str]
    text: RowView
    prototypes: RowView
    index: IndexView
    aliases: Aliases
    cache: SpaceCache


class SpaceCache:
    """The derived state of one space: text prototypes, prototypes, their index, and the labels' names."""

    def __init__(self, space: SpaceRecord, epoch: str, device: str) -> None:
        self.space_id = space.id
        self.recipe = load_recipe(space.recipe)
        self.epoch = epoch
        self.revision = 0
        self.fit_memo: FitMemo | None = None
        """What the support images say, at the last revision that was asked for."""
        self.newly_given: tuple[int, int, str | None] | None = None
        """(calibration, revision, label) of the last look at whether a new label takes calibration images."""
        self.replayed = 0
        """Labels read from the catalog since the last snapshot."""
        self.support_caches: dict[str, SupportCache] = {}
        self.support_lock = threading.Lock()
        self._names: list[str] = []
        self._aliases = Aliases()
        self._text = RowTable(space.classifier_dim)
        self._prototypes = RowTable(space.verifier_dim)
        self._index = LiveIndex(self.recipe, space.verifier_dim, device=device)

    def follow(self, connection: Connection, space: SpaceRecord) -> None:
        """Apply the rows changed since this cache's revision."""
        since = self.revision
        if since == space.revision:
            return
        if since:
            gone = purge.purged_since(connection, space.id, "label", since)
            self._drop(np.array(gone, dtype=np.int64))
            self._aliases = self._aliases.followed((), (), gone)
        for change in labels.changed(connection, space.id, since, (space.classifier_dim, space.verifier_dim)):
            self._drop(np.array(change.removed, dtype=np.int64))
            self._aliases = self._aliases.followed(change.ids, change.aliases, change.removed)
            self._put(change)
            self.replayed += len(change.ids)
        self.revision = space.revision
        self._compact()

    def view(self, space: SpaceRecord) -> SpaceView:
        """The current state as one immutable view."""
        return SpaceView(
            space,
            self.epoch,
            self.revision,
            self._names,
            self._text.view(),
            self._prototypes.view(),
            self._index.view(),
            self._aliases,
            self,
        )

    def _drop(self, ids: Int64s) -> None:
        """Tombstone those of `ids` that are here."""
        known = ids[self._text.slots(ids) >= 0]
        if len(known):
            self._text.tombstone(known)
        known = ids[self._prototypes.slots(ids) >= 0]
        if len(known):
            self._prototypes.tombstone(known)
            self._index.remove(known)

    def _put(self, change: labels.LabelChange) -> None:
        """Append new labels; a changed label is a tombstone and a new row."""
        ids = np.array(change.ids, dtype=np.int64)
        self._drop(ids)
        self._text.append(ids, change.text)
        self._names.extend(change.names)
        if change.prototyped:
            prototyped = ids[change.prototyped]
            self._prototypes.append(prototyped, change.prototypes)
            self._index.add(prototyped, change.prototypes)

    def _compact(self) -> None:
        view = self._text.view()
        if self._text.dead_share > COMPACT_SHARE and view.n - view.live > COMPACT_ROWS:
            moved = self._text.compact()
            names = [""] * len(self._text)
            for old, new in enumerate(moved.tolist()):
                if new >= 0:
                    names[new] = self._names[old]
            self._names = names
        rows = self._prototypes.view()
        if self._prototypes.dead_share > COMPACT_SHARE and rows.n - rows.live > COMPACT_ROWS:
            self._prototypes.compact()

    def save(self, path: Path, space: SpaceRecord) -> None:
        """Write the state as a snapshot file."""
        if self._index.dead_share:
            self._index.compact()  # what was removed, and may be purged, must not lie on in a file
        text, prototypes = self._text.view(), self._prototypes.view()
        kept = np.flatnonzero(text.alive)
        name_bytes, name_offsets = pack_strings([self._names[slot] for slot in kept.tolist()])
        arrays: dict[str, npt.NDArray[Any]] = {
            "text.ids": text.ids[kept],
            "text.rows": text.rows[kept] if len(kept) < text.n else text.rows,
            "names.bytes": name_bytes,
            "names.offsets": name_offsets,
            "aliases": np.array(sorted(self._aliases.canonical.items()), dtype=np.int64).reshape(-1, 2),
            "prototypes.ids": prototypes.ids[prototypes.alive],
            "prototypes.rows": prototypes.rows if prototypes.live == prototypes.n else prototypes.rows[prototypes.alive],
        }
        arrays |= {f"index.{name}": array for name, array in self._index.to_arrays().items()}
        path.parent.mkdir(exist_ok=True)
        write_snapshot(path, snapshot_key(space, self.epoch, self.revision), arrays)
        self.replayed = 0

    def restore(self, path: Path, space: SpaceRecord, device: str) -> bool:
        """Take the state from a snapshot file where there is one that fits; whether it was taken."""
        try:
            snapshot = read_snapshot(path, snapshot_key(space, self.epoch, space.revision))
        except NotFound:
            return False
        except (Conflict, Unavailable) as error:
            log.warning("rebuilding from the catalog instead of %s: %s", path, error)
            return False
        if not space.log_start <= snapshot.key.revision <= space.revision:
            return False
        arrays = snapshot.arrays
        index = {name.removeprefix("index."): array for name, array in arrays.items() if name.startswith("index.")}
        self._index = LiveIndex.from_arrays(self.recipe, space.verifier_dim, index, device=device)
        self._text.reserve(len(arrays["text.ids"]))
        self._text.append(arrays["text.ids"], arrays["text.rows"])
        self._names = unpack_strings(arrays["names.bytes"], arrays["names.offsets"])
        self._prototypes.append(arrays["prototypes.ids"], arrays["prototypes.rows"])
        if "aliases" in arrays:  # snapshots of trustvlm 0.1 have none: there were no aliases
            self._aliases = self._aliases.followed((), [(int(alias), int(label)) for alias, label in arrays["aliases"]], ())
        self.revision = snapshot.key.revision
        return True


class SupportCache:
    """A FAISS index over a space's support images (verifier or classifier embeddings), made when first asked for."""

    def __init__(self, space: SpaceRecord, device: str, *, classifier: bool) -> None:
        self._classifier = classifier
        self._dim = space.classifier_dim if classifier else space.verifier_dim
        self._index = LiveIndex(load_recipe(space.recipe), self._dim, device=device)
        self._known: set[int] = set()
        self.revision = 0
        """The revision this cache has reached."""

    def view(self, connection: Connection, space: SpaceRecord) -> IndexView:
        """The index at the revision of `space`, which is the transaction's."""
        if self.revision < space.revision:
            since = self.revision
            if since:
                self._drop(purge.purged_since(connection, space.id, "support", since))
            for change in supports.changed(connection, space.id, since, self._dim, classifier=self._classifier):
                self._drop(change.removed)
                self._drop(change.ids)  # restored ones come again
                self._index.add(
                    np.array(change.ids, dtype=np.int64), unit_rows(change.embeddings.astype(np.float64)).astype(np.float32)
                )
                self._known.update(change.ids)
            self.revision = space.revision
        return self._index.view()

    def _drop(self, ids: list[int]) -> None:
        known = [support_id for support_id in ids if support_id in self._known]
        if known:
            self._index.remove(np.array(known, dtype=np.int64))
            self._known.difference_update(known)


class Caches:
    """The caches of every space that this process has touched."""

    def __init__(self, folder: Path, device: str, *, read_only: bool) -> None:
        self.folder = folder
        self.device = device
        self._read_only = read_only
        self._by_name: dict[str, SpaceCache] = {}
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def lock(self, name: str) -> threading.Lock:
        """The lock under which transactions on the space `name` begin and its cache moves."""
        with self._guard:
            return self._locks[name]

    def path(self, space_id: int) -> Path:
        """Where the snapshot of a space lies."""
        return self.folder / f"{space_id}.snapshot"

    def view(self, connection: Connection, epoch: str, name: str) -> SpaceView:
        """The space `name` at the transaction's revision. The caller holds :meth:`lock`."""
        space = spaces.find(connection, name)
        cache = self._by_name.pop(name, None)
        if cache is None or not _continues(cache, space, epoch):
            cache = SpaceCache(space, epoch, self.device)
            if not cache.restore(self.path(space.id), space, self.device):
                cache = SpaceCache(space, epoch, self.device)
        # Out of the table while it moves: if that fails half-way, the next call starts from nothing.
        cache.follow(connection, space)
        self._by_name[name] = cache
        view = cache.view(space)
        if not self._read_only and cache.replayed >= max(SNAPSHOT_ROWS, view.text.live // 10):
            self.save(cache, space)
        return view

    def save(self, cache: SpaceCache, space: SpaceRecord) -> None:
        """Write a snapshot; a full disk costs the next start time, not this call its answer."""
        try:
            cache.save(self.path(space.id), space)
        except (OSError, Unavailable) as error:
            cache.replayed = 0
            log.warning("no snapshot of space %s was written: %s", space.name, error)

    def forget(self, name: str) -> None:
        """Drop what is kept of the space `name`."""
        with self.lock(name):
            self._by_name.pop(name, None)

    def support_view(self, connection: Connection, view: SpaceView, *, classifier: bool) -> IndexView:
        """The index over support images at the view's revision."""
        kind = "classifier" if classifier else "verifier"
        with view.cache.support_lock:
            found = view.cache.support_caches.get(kind)
            if found is not None and found.revision > view.revision:
                # Another thread took it further than this transaction sees: a private one, for this call only.
                return SupportCache(view.space, self.device, classifier=classifier).view(connection, view.space)
            if found is None or found.revision < view.space.log_start:
                found = SupportCache(view.space, self.device, classifier=classifier)
            index = found.view(connection, view.space)
            view.cache.support_caches[kind] = found
            return index


def _continues(cache: SpaceCache, space: SpaceRecord, epoch: str) -> bool:
    """Whether the cache can follow on to the space as it is now."""
    same = cache.space_id == space.id and cache.epoch == epoch and cache.recipe.name == space.recipe
    return same and space.log_start <= cache.revision <= space.revision


def snapshot_key(space: SpaceRecord, epoch: str, revision: int) -> SnapshotKey:
    """What a snapshot must match to be used."""
    return SnapshotKey(epoch, space.id, revision, space.recipe, space.classifier_identity, space.verifier_identity)
