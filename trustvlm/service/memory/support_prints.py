"""A few coordinates of every support image of a space, by which equal images are found.

In these coordinates equal images are equal; they follow the catalog by revision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import counts, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.scoring.vectors import SAME_IMAGE, unit_rows
from trustvlm.service.memory.space_cache import Reading
from trustvlm.types.arrays import Float32s, Floats, Int64s

MOST_COMPARED = 50_000
"""In a space with more support images none is compared, because reading all of them would make a
process slow to start."""

_THIN, _FULL = 4, 4  # coordinates of each kind
_COORDINATES = 64  # places that a thin direction has values in
_FARTHEST = math.sqrt(2 * (1 - SAME_IMAGE)) + 1e-6  # distance of unit vectors that count as equal
_MOST_PAIRS = 2**20  # a query and a support image, compared at once: 8 MB an array


@dataclass(frozen=True, eq=False)
class _Axes:
    """Unit vectors, equal in all processes: the coordinates along them are prints.

    The thin ones have values in the first `width` places only: these need not be copied before
    they are multiplied. The full ones are for queries that equal a support image in the thin ones,
    of which there are few.

    Attributes:
        thin: (width, 4). full: (dim, 4).
    """

    width: int
    thin: Float32s
    full: Float32s

    def prints(self, unit: Floats) -> Float32s:
        """(8, n) coordinates of unit vectors (n, dim)."""
        parts = (unit[:, : self.width] @ self.thin, unit @ self.full)
        prints: Float32s = np.concatenate(parts, axis=1).T.astype(np.float32)
        return prints


class SupportPrints:
    """The (8, m) prints of m support images, by ascending first coordinate.

    Attributes:
        revision: of the space.
    """

    def __init__(
        self, dim: int, ids: Int64s | None = None, prints: Float32s | None = None, revision: int = 0
    ) -> None:
        self._axes = _axes(dim)
        self._ids = np.empty(0, np.int64) if ids is None else ids
        self._prints = self._axes.prints(np.empty((0, dim))) if prints is None else prints
        self.revision = revision

    def followed(self, connection: Connection, space: SpaceRecord) -> SupportPrints:
        """The prints at the revision of `space`, which is the transaction's."""
        dim, since = space.verifier_dim, self.revision
        if since and since < space.log_start:
            return SupportPrints(dim).followed(connection, space)
        gone = purge.purged_since(connection, space, "support", since) if since else []
        dropped, ids, prints = [np.array(gone, np.int64)], [], []
        for change in supports.changed(connection, space.id, since, dim, checked=False):
            dropped += [np.array(change.removed, np.int64), np.array(change.ids, np.int64)]
            ids.append(np.array(change.ids, np.int64))
            prints.append(self._prints_of(change.embeddings))
        stays = ~np.isin(self._ids, np.concatenate(dropped))
        all_ids = np.concatenate([self._ids[stays], *ids])
        all_prints = np.concatenate([self._prints[:, stays], *prints], axis=1)
        order = np.argsort(all_prints[0], kind="stable")
        return SupportPrints(dim, all_ids[order], all_prints.take(order, axis=1), space.revision)

    def _prints_of(self, embeddings: Float32s) -> Float32s:
        """(8, n) prints of raw embeddings (n, dim); a damaged row gives arbitrary values, which
        equal no other row."""
        with np.errstate(all="ignore"):
            rows = embeddings.astype(np.float64)
            return self._axes.prints(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    def possibly_equal(self, queries: Floats) -> list[tuple[int, Int64s]]:
        """(query, ids of the support images that may equal it) of the unit queries (n, dim) that
        have any."""
        axes, by_first = self._axes, self._prints[0]
        thin = (queries[:, : axes.width] @ axes.thin).astype(np.float32, copy=False)
        first = by_first.searchsorted(thin[:, 0] - _FARTHEST, side="left")
        last = by_first.searchsorted(thin[:, 0] + _FARTHEST, side="right")
        pairs, half = int((last - first).sum()), len(queries) // 2
        if not pairs:
            return []
        if pairs > _MOST_PAIRS and half:
            later = self.possibly_equal(queries[half:])
            return self.possibly_equal(queries[:half]) + [(half + one, ids) for one, ids in later]
        query, row = _close(thin, self._prints[:_THIN], *_ranges(first, last))
        if not len(query):
            return []
        some, place = np.unique(query, return_inverse=True)
        place, row = _close(queries[some] @ axes.full, self._prints[_THIN:], place, row)
        return [(int(some[one]), self._ids[row[place == one]]) for one in np.unique(place).tolist()]


def _close(
    coordinates: Floats, prints: Float32s, query: Int64s, row: Int64s
) -> tuple[Int64s, Int64s]:
    """The pairs of a query and a print whose coordinates, (n, a) and (a, m), may be of equals."""
    for axis in range(len(prints)):
        if not len(query):
            break
        close = np.abs(prints[axis].take(row) - coordinates[:, axis].take(query)) <= _FARTHEST
        query, row = query[close], row[close]
    return query, row


@cache
def _axes(dim: int) -> _Axes:
    rng, width = np.random.default_rng(0), min(dim, _COORDINATES)

    def units(length: int, count: int) -> Float32s:
        directions = rng.normal(size=(length, count))
        directions /= np.linalg.norm(directions, axis=0)
        return directions.astype(np.float32)

    return _Axes(width, units(width, _THIN), units(dim, _FULL))


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
        prints = memo.latest(SupportPrints)
        if prints is None or prints.revision < view.revision:
            if not len(view.prototypes) or not _are_few(reading):
                return None
            prints = prints or SupportPrints(view.space.verifier_dim)
            prints = prints.followed(reading.connection, view.space)
            memo.keep(prints)
    return prints


def _are_few(reading: Reading) -> bool:
    """Whether the space has at most :data:`MOST_COMPARED` support images."""
    connection, view, memo = reading.connection, reading.view, reading.memo
    before, log_start = memo.latest(counts.SupportCount), view.space.log_start
    if before is not None and (
        not log_start <= before.revision <= view.revision
        or purge.purged_since(connection, view.space, "support", before.revision)
    ):
        before = None
    counted = counts.count_supports(connection, view.space.id, view.revision, MOST_COMPARED, before)
    memo.keep(counted)
    return counted.most <= MOST_COMPARED
