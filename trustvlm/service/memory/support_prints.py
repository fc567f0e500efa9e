"""A few coordinates of every support image of a space, by which equal ones are found; they follow
the catalog."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.types.arrays import Float32s, Float64s, Int64s

__all__ = ["SAME_IMAGE", "SupportPrints"]

SAME_IMAGE = 1.0 - 1e-6
"""Cosine at and above which two embeddings count as the same picture: equal but for float32
rounding."""

_DIRECTIONS = 4
_FARTHEST = (
    np.sqrt(2 * (1 - SAME_IMAGE)) + 1e-9
)  # the distance of two unit vectors that still count as equal


class SupportPrints:
    """A few coordinates of every support image of a space, in which equal ones are equal: who could
    equal a query?

    Args:
        dim: of the embeddings. ids, prints: (m,) support images, by ascending first coordinate of
            their (m, 4) prints.
        revision: of the space, which they follow.
    """

    def __init__(
        self, dim: int, ids: Int64s | None = None, prints: Float64s | None = None, revision: int = 0
    ) -> None:
        self._axes = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, _DIRECTIONS)))[0]
        self._ids = np.empty(0, np.int64) if ids is None else ids
        self._prints = np.empty((0, self._axes.shape[1])) if prints is None else prints
        self.revision = revision

    def followed(self, connection: Connection, space: SpaceRecord) -> SupportPrints:
        """The prints at the revision of `space`, which is the transaction's: what changed since is
        read."""
        dim, since = space.verifier_dim, self.revision
        if since and since < space.log_start:
            return SupportPrints(dim).followed(connection, space)
        return self._read(
            connection,
            space,
            purge.purged_since(connection, space.id, "support", since) if since else [],
        )

    def _read(self, connection: Connection, space: SpaceRecord, gone: list[int]) -> SupportPrints:
        dropped, ids, prints = [np.array(gone, np.int64)], [], []
        for change in supports.changed(
            connection, space.id, self.revision, space.verifier_dim, checked=False
        ):
            dropped += [np.array(change.removed, np.int64), np.array(change.ids, np.int64)]
            ids.append(np.array(change.ids, np.int64))
            prints.append(self._prints_of(change.embeddings))
        stays = ~np.isin(self._ids, np.concatenate(dropped))
        all_ids = np.concatenate([self._ids[stays], *ids])
        all_prints = np.concatenate([self._prints[stays], *prints])
        order = np.argsort(all_prints[:, 0], kind="stable")
        return SupportPrints(space.verifier_dim, all_ids[order], all_prints[order], space.revision)

    def _prints_of(self, embeddings: Float32s) -> Float64s:
        """(n, 4) coordinates of raw embeddings (n, dim); a damaged row gives arbitrary values,
        which equal no other row."""
        with np.errstate(all="ignore"):
            rows = embeddings.astype(np.float64)
            found: Float64s = rows / np.linalg.norm(rows, axis=1, keepdims=True) @ self._axes
        return found

    def near(self, queries: Float64s) -> list[tuple[int, Int64s]]:
        """(query, ids of the support images that may equal it) of the unit queries (n, dim) that
        have any."""
        prints = queries @ self._axes
        first = np.searchsorted(self._prints[:, 0], prints[:, 0] - _FARTHEST, side="left")
        last = np.searchsorted(self._prints[:, 0], prints[:, 0] + _FARTHEST, side="right")
        found = []
        for query in np.flatnonzero(last > first).tolist():
            part = slice(int(first[query]), int(last[query]))
            near = (np.abs(self._prints[part] - prints[query]) <= _FARTHEST).all(axis=1)
            if near.any():
                found.append((query, self._ids[part][near]))
        return found
