"""What a process keeps in memory of a label space, following the catalog by revision.

A cache at revision r reads the rows changed since r and applies them: that costs what was changed,
whatever the size of the space. Readers hold a :class:`SpaceView`, one whole revision, which later
changes never touch. Everything here can be thrown away: it comes back from the catalog, or faster
from a snapshot file and the rows since.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import label_changes
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.recipe import load_recipe
from trustvlm.index.rows import RowTable, RowView
from trustvlm.index.string_table import NameTable
from trustvlm.service.memory.aliases import Aliases
from trustvlm.service.memory.evidence_fit_record import FitMemo
from trustvlm.service.memory.snapshots import Loaded
from trustvlm.service.memory.support_cache import SupportCache
from trustvlm.service.memory.support_prints import SupportPrints
from trustvlm.softmax.kernels import Kernels
from trustvlm.system.fault_points import reached
from trustvlm.types.arrays import Int64s

__all__ = ["SpaceCache", "SpaceView"]

COMPACT_SHARE = 0.25
COMPACT_ROWS = 1024


@dataclass(frozen=True, eq=False)
class SpaceView:
    """A label space at one revision, immutable.

    Attributes:
        space: its row. epoch: of the catalog. revision: the view's.
        names: label name of each text slot (it may go on beyond text.n; those belong to later
            revisions).
        text: text prototypes by label id. prototypes: prototypes by label id.
        index: FAISS over the prototypes; None where passes over their 16-bit rows are as exact, and
            faster.
        kernels: which serve 16-bit rows.
        aliases: which labels are further names of others.
        cache: where the view came from; holds what is computed once per revision.
    """

    space: SpaceRecord
    epoch: str
    revision: int
    names: NameTable
    text: RowView
    prototypes: RowView
    index: IndexView | None
    kernels: Kernels
    aliases: Aliases
    cache: SpaceCache


class SpaceCache:
    """The derived state of one space: text prototypes, prototypes, their index, and the labels'
    names."""

    def __init__(
        self,
        space: SpaceRecord,
        epoch: str,
        device: str,
        kernels: Kernels,
        loaded: Loaded | None = None,
    ) -> None:
        self.space_id = space.id
        self.recipe = load_recipe(space.recipe)
        self.epoch = epoch
        self.revision = 0 if loaded is None else loaded.revision
        self.fit_memo: FitMemo | None = None
        """What the support images say, at the last revision that was asked for."""
        self.provisional_fit: FitMemo | None = None
        """The same, where only the fit of an earlier revision was there."""
        self.unseen: tuple[int, int, Int64s, str | None] | None = None
        """(calibration, revision, ids, name): labels that it never saw, and one that its images
        would now be given."""
        self.replayed = 0
        """Labels read from the catalog since the last snapshot."""
        self.support_caches: dict[str, SupportCache] = {}
        self.support_lock = threading.Lock()
        self.prints: SupportPrints | None = None
        """What equal support images are found by; guarded by the same lock."""
        self.mapped = loaded is not None and loaded.mapped
        """Whether it starts with the mapped rows of a snapshot."""
        self._kernels = kernels
        self._names = NameTable() if loaded is None else loaded.names
        self._aliases = Aliases() if loaded is None else loaded.aliases
        self._text = RowTable(space.classifier_dim) if loaded is None else loaded.text
        self._prototypes = RowTable(space.verifier_dim) if loaded is None else loaded.prototypes
        self._index = (
            LiveIndex(self.recipe, space.verifier_dim, device=device)
            if loaded is None
            else loaded.index
        )

    def inherit(self, other: SpaceCache) -> None:
        """Take over what `other`, an older cache of the same space, has that is not in a
        snapshot."""
        self.fit_memo, self.unseen = other.fit_memo, other.unseen
        self.support_caches, self.prints = other.support_caches, other.prints

    def follow(self, connection: Connection, space: SpaceRecord) -> None:
        """Apply the rows changed since this cache's revision."""
        if self._index is not None:
            self._index.search_with(space.search.get("prototype"))
        since = self.revision
        if since == space.revision:
            return
        if since:
            gone = purge.purged_since(connection, space.id, "label", since)
            self._drop(np.array(gone, dtype=np.int64))
            self._aliases = self._aliases.followed((), (), gone)
        for change in label_changes.changed(
            connection, space.id, since, (space.classifier_dim, space.verifier_dim)
        ):
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
            None if self._index is None else self._index.view(),
            self._kernels,
            self._aliases,
            self,
        )

    @property
    def sizes(self) -> tuple[int, int]:
        """How many live labels and prototypes are here."""
        return self._text.view().live, self._prototypes.view().live

    def _drop(self, ids: Int64s) -> None:
        """Tombstone those of `ids` that are here."""
        known = ids[self._text.slots(ids) >= 0]
        if len(known):
            self._text.tombstone(known)
        known = ids[self._prototypes.slots(ids) >= 0]
        if len(known):
            self._prototypes.tombstone(known)
            if self._index is not None:
                self._index.remove(known)

    def _put(self, change: label_changes.LabelChange) -> None:
        """Append new labels; a changed label is a tombstone and a new row."""
        ids = np.array(change.ids, dtype=np.int64)
        self._drop(ids)
        self._text.append(ids, change.text)
        self._names.extend(change.names)
        if change.prototyped:
            prototyped = ids[change.prototyped]
            self._prototypes.append(prototyped, change.prototypes)
            if self._index is not None:
                self._index.add(prototyped, change.prototypes)

    def _compact(self) -> None:
        """Drop dead rows where they are many; rows of a snapshot go when the next one is
        written."""
        if self.mapped:
            return
        view = self._text.view()
        if self._text.dead_share > COMPACT_SHARE and view.n - view.live > COMPACT_ROWS:
            moved = self._text.compact()
            names = [""] * len(self._text)
            for old, new in enumerate(moved.tolist()):
                if new >= 0:
                    names[new] = self._names[old]
            self._names = NameTable()
            self._names.extend(names)
            reached("cache.compacted")
        rows = self._prototypes.view()
        if self._prototypes.dead_share > COMPACT_SHARE and rows.n - rows.live > COMPACT_ROWS:
            self._prototypes.compact()
