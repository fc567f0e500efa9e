"""c̃: the similarity assumed for a label without support images, from what the space's support images say of themselves.

It is a mean over a fixed sample that follows from the content alone: the support images of smallest content hash, against
the labels of smallest name hash. A process keeps what it computed for each sampled image and brings only that up to date
which a change touched, so that a registration does not slow the next query down; the outcome is the one that a fresh
process computes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog import labels, purge, supports
from trustvlm.catalog.spaces import SpaceRecord
from trustvlm.index.rows import RowView
from trustvlm.scoring.prototypes import best_other, imputed_similarity, leave_one_out
from trustvlm.scoring.vectors import unit_rows
from trustvlm.types import Float32s, Float64s, Int64s

__all__ = ["MAX_COMPETITORS", "MAX_SAMPLE", "Imputation"]

MAX_SAMPLE = 2_048
MAX_COMPETITORS = 4_096
"""Support images and competitor labels looked at, smallest hashes first (SCIENCE §2): a fixed sample suffices for a mean."""


@dataclass(frozen=True, eq=False)
class _Sample:
    """The sampled images at one revision.

    Attributes:
        revision: the space's. place: (label id, content hash) → row.
        owner: (m,) label ids. queries: (m, d) unit embeddings. own: (m,) leave-one-out similarity, NaN where undefined.
        other, rival: (m,) best similarity to another label, and which. competitors: (L,) label ids, ascending.
    """

    revision: int
    place: dict[tuple[int, bytes], int]
    owner: Int64s
    queries: Float32s
    own: Float64s
    other: Float32s
    rival: Int64s
    competitors: Int64s


class Imputation:
    """c̃ of one space, following its revisions. One for each cache of a space; any thread may ask."""

    def __init__(self, dim: int) -> None:
        empty = np.empty(0, dtype=np.int64)
        nothing = np.empty(0, dtype=np.float32)
        self._nothing = _Sample(0, {}, empty, np.empty((0, dim), np.float32), np.empty(0), nothing, empty, empty)
        self._sample = self._nothing
        self._lock = threading.Lock()

    def at(self, connection: Connection, space: SpaceRecord, prototypes: RowView, labels_live: int) -> float:
        """c̃ at the revision of `space`, which is the transaction's; 0 where nothing, or everything, has support images."""
        if len(prototypes) in (0, labels_live):
            return 0.0
        with self._lock:
            if self._sample.revision > space.revision:  # another thread is ahead of this transaction
                sample = _brought_up(self._nothing, connection, space, prototypes)
            elif self._sample.revision < space.revision:
                known = self._sample if self._sample.revision >= space.log_start else self._nothing
                sample = self._sample = _brought_up(known, connection, space, prototypes)
            else:
                sample = self._sample
        return imputed_similarity(sample.own, sample.other.astype(np.float64))


def _brought_up(before: _Sample, connection: Connection, space: SpaceRecord, prototypes: RowView) -> _Sample:
    """The sample at the revision of `space`; rows that no change touched are taken over."""
    changed = labels.touched(connection, space.id, before.revision) if before.revision else []
    purged = purge.purged_since(connection, space.id, "label", before.revision) if before.revision else []
    touched = np.array([label_id for label_id, _ in changed] + purged, dtype=np.int64)
    if before.revision and not any(count for _, count in changed) and not np.isin(touched, before.competitors).any():
        return replace(before, revision=space.revision)  # only labels without support images
    keys = supports.sample(connection, space.id, MAX_SAMPLE)
    owner = np.array([label_id for label_id, _ in keys], dtype=np.int64)
    chosen = np.array(labels.competitors(connection, space.id, MAX_COMPETITORS), dtype=np.int64)
    competitors = np.union1d(chosen, owner)
    place = np.array([before.place.get(key, -1) for key in keys], dtype=np.int64)
    place[np.isin(owner, touched)] = -1
    fresh, kept = np.flatnonzero(place < 0), np.flatnonzero(place >= 0)
    queries = np.empty((len(keys), space.verifier_dim), dtype=np.float32)
    own = np.empty(len(keys))
    other = np.empty(len(keys), dtype=np.float32)
    rival = np.empty(len(keys), dtype=np.int64)
    queries[kept], own[kept] = before.queries[place[kept]], before.own[place[kept]]
    other[kept], rival[kept] = before.other[place[kept]], before.rival[place[kept]]
    queries[fresh], own[fresh] = _embedded(connection, space, [keys[i] for i in fresh.tolist()])

    def against(rows: Int64s, ids: Int64s) -> tuple[Float32s, Int64s]:
        return best_other(queries[rows], owner[rows], ids, prototypes.rows[prototypes.slots(ids)])

    # A row whose best other label has gone or changed, and every fresh row, is compared with all; the rest with what is new.
    gone = np.union1d(np.setdiff1d(before.competitors, competitors), touched)
    new = np.union1d(np.setdiff1d(competitors, before.competitors), np.intersect1d(touched, competitors))
    lost = np.isin(rival[kept], gone) | (rival[kept] < 0)
    rest, again = kept[~lost], np.concatenate([fresh, kept[lost]])
    value, label = against(rest, new)
    better = value > other[rest]
    other[rest[better]], rival[rest[better]] = value[better], label[better]
    other[again], rival[again] = against(again, competitors)
    where = {key: row for row, key in enumerate(keys)}
    return _Sample(space.revision, where, owner, queries, own, other, rival, competitors)


def _embedded(connection: Connection, space: SpaceRecord, keys: list[tuple[int, bytes]]) -> tuple[Float32s, Float64s]:
    """(m, d) unit embeddings and (m,) leave-one-out similarities of these support images."""
    label_ids = sorted({label_id for label_id, _ in keys})
    owners, hashes, raw = supports.embeddings(connection, label_ids, space.verifier_dim)
    rows = {key: row for row, key in enumerate(zip(owners.tolist(), hashes, strict=True))}
    asked = np.array([rows[key] for key in keys], dtype=np.int64)
    embeddings = raw.astype(np.float64)
    return unit_rows(embeddings[asked]).astype(np.float32), leave_one_out(embeddings, owners, asked)
