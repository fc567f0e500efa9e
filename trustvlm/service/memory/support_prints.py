"""A few coordinates of every support image of a space, by which equal images are found.

In these coordinates equal images are equal; they follow the catalog by revision.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import counts, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.scoring.vectors import SAME_IMAGE, unit_rows
from trustvlm.service.memory.reading import Reading
from trustvlm.types.arrays import Float32s, Float64s, Floats, Int64s

__all__ = ["MOST_COMPARED", "SupportPrints", "equal_others"]

MOST_COMPARED = 50_000
"""In a space with more support images none is compared, because reading all of them would make a
process slow to start."""

_DIRECTIONS = 8
_FARTHEST = np.sqrt(2 * (1 - SAME_IMAGE)) + 1e-6  # distance of unit vectors that count as equal


class SupportPrints:
    """The (m, 8) prints of m support images, by ascending first coordinate.

    Attributes:
        revision: of the space.
    """

    def __init__(
        self, dim: int, ids: Int64s | None = None, prints: Float64s | None = None, revision: int = 0
    ) -> None:
        self._axes = _axes(dim)
        self._ids = np.empty(0, np.int64) if ids is None else ids
        self._prints = np.empty((0, self._axes.shape[1])) if prints is None else prints
        self.revision = revision

    def followed(self, connection: Connection, space: SpaceRecord) -> SupportPrints:
        """The prints at the revision of `space`, which is the transaction's."""
        dim, since = space.verifier_dim, self.revision
        if since and since < space.log_start:
            return SupportPrints(dim).followed(connection, space)
        gone = purge.purged_since(connection, space.id, "support", since) if since else []
        dropped, ids, prints = [np.array(gone, np.int64)], [], []
        for change in supports.changed(connection, space.id, since, dim, checked=False):
            dropped += [np.array(change.removed, np.int64), np.array(change.ids, np.int64)]
            ids.append(np.array(change.ids, np.int64))
            prints.append(self._prints_of(change.embeddings))
        stays = ~np.isin(self._ids, np.concatenate(dropped))
        all_ids = np.concatenate([self._ids[stays], *ids])
        all_prints = np.concatenate([self._prints[stays], *prints])
        order = np.argsort(all_prints[:, 0], kind="stable")
        return SupportPrints(dim, all_ids[order], all_prints[order], space.revision)

    def _prints_of(self, embeddings: Float32s) -> Float64s:
        """(n, 8) prints of raw embeddings (n, dim); a damaged row gives arbitrary values, which
        equal no other row."""
        with np.errstate(all="ignore"):
            rows = embeddings.astype(np.float64)
            prints: Float64s = rows / np.linalg.norm(rows, axis=1, keepdims=True) @ self._axes
        return prints

    def possibly_equal(self, queries: Floats) -> list[tuple[int, Int64s]]:
        """(query, ids of the support images that may equal it) of the unit queries (n, dim) that
        have any."""
        prints = queries @ self._axes
        first = np.searchsorted(self._prints[:, 0], prints[:, 0] - _FARTHEST, side="left")
        last = np.searchsorted(self._prints[:, 0], prints[:, 0] + _FARTHEST, side="right")
        if not (last > first).any():
            return []
        query, row = _ranges(first, last)
        for axis in range(1, self._axes.shape[1]):
            if not len(query):
                return []
            close = np.abs(self._prints[row, axis] - prints[query, axis]) <= _FARTHEST
            query, row = query[close], row[close]
        return [(one, self._ids[row[query == one]]) for one in np.unique(query).tolist()]


@cache
def _axes(dim: int) -> Float32s:
    """(dim, 8) the directions whose coordinates are prints: orthonormal, equal in all processes."""
    directions = np.random.default_rng(0).normal(size=(dim, min(dim, _DIRECTIONS)))
    axes: Float32s = np.linalg.qr(directions)[0].astype(np.float32)
    return axes


def _ranges(first: Int64s, last: Int64s) -> tuple[Int64s, Int64s]:
    """(i, x) for every i and every x with first[i] ≤ x < last[i]."""
    counts = last - first
    at = np.repeat(np.arange(len(counts)), counts)
    return at, np.arange(len(at)) + (last - np.cumsum(counts))[at]


def equal_others(reading: Reading, predicted: Int64s, verifier: Floats | None) -> dict[int, str]:
    """Query → the label, other than the predicted one, that has a support image equal to it.

    Equal is a cosine of 1 but for float32 rounding. Nothing is compared without unit verifier
    embeddings (n, d_v), nor in a space of more than :data:`MOST_COMPARED` support images.

    Args:
        predicted: (n,) label ids.
    """
    equal: dict[int, str] = {}
    if verifier is None or not len(verifier):
        return equal
    view, space = reading.view, reading.view.space
    prints = reading.once("prints", lambda: _prints_at(reading))
    for query, ids in [] if prints is None else prints.possibly_equal(verifier):
        owners, vectors = supports.vectors(
            reading.connection, space.id, ids.tolist(), space.verifier_dim
        )
        same = unit_rows(vectors.astype(np.float64)) @ verifier[query] >= SAME_IMAGE
        labels = view.aliases.of(owners)
        slots = view.text.slots(labels[same & (labels != predicted[query])])
        if names := [view.names[slot] for slot in slots.tolist() if slot >= 0]:
            equal[query] = min(names)
    return equal


def _prints_at(reading: Reading) -> SupportPrints | None:
    """The prints of the view's support images; None where there are too many, or none."""
    view, memo = reading.view, reading.memo
    with memo.lock:
        prints = memo.prints
        if prints is None or prints.revision < view.revision:
            if not len(view.prototypes) or not _are_few(reading):
                return None
            prints = prints or SupportPrints(view.space.verifier_dim)
            prints = memo.prints = prints.followed(reading.connection, view.space)
    return prints


def _are_few(reading: Reading) -> bool:
    """Whether the space has at most :data:`MOST_COMPARED` support images."""
    connection, view, memo = reading.connection, reading.view, reading.memo
    before, log_start = memo.support_count, view.space.log_start
    if before is not None and (
        not log_start <= before.revision <= view.revision
        or purge.purged_since(connection, view.space.id, "support", before.revision)
    ):
        before = None
    counted = counts.count_supports(connection, view.space.id, view.revision, MOST_COMPARED, before)
    memo.support_count = counted
    return counted.most <= MOST_COMPARED
