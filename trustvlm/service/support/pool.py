"""The labelled images that an audit looks at: the support images of a space and, where they are
given, images that are not registered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.support.images import LabelImages, of_labels
from trustvlm.types.arrays import Float64s, Int64s

_LABELS_AT_A_TIME = 64


@dataclass(frozen=True, eq=False)
class Block:
    """n labelled images.

    Attributes:
        owners: (n,) ids of the labels. hashes: of the contents.
        verifier, classifier: (n, d) raw embeddings; rows of NaN where none is stored.
        ids: (n,) of support images, −1 of others. places: (n,) in the call, −1 of images that are
            registered only.
    """

    owners: Int64s
    hashes: list[bytes]
    verifier: Float64s
    classifier: Float64s
    ids: Int64s
    places: Int64s

    def take(self, rows: Int64s) -> Block:
        """The images of these rows."""
        return Block(
            self.owners[rows],
            [self.hashes[row] for row in rows.tolist()],
            self.verifier[rows],
            self.classifier[rows],
            self.ids[rows],
            self.places[rows],
        )


class Pool:
    """All labelled images, label by label.

    Args:
        prototyped: ids of the labels with support images. given: images of the call; each content
            once a label.
    """

    def __init__(
        self, connection: Connection, space: SpaceRecord, prototyped: Int64s, given: Block | None
    ) -> None:
        self._connection, self._space, self._given = connection, space, given
        owners = np.empty(0, np.int64) if given is None else given.owners
        self.labels: Int64s = np.union1d(prototyped, owners)
        self.most = supports.count(connection, space.id) + len(owners)
        """Number of images, those that are both registered and given counted twice."""

    @property
    def dims(self) -> tuple[int, int]:
        """Of classifier and verifier."""
        return self._space.dims

    def blocks(self) -> Iterator[Block]:
        """The images, some labels at a time, by label."""
        for start in range(0, len(self.labels), _LABELS_AT_A_TIME):
            some = self.labels[start : start + _LABELS_AT_A_TIME]
            same = self._space.verifier == "same"
            stored = of_labels(self._connection, some.tolist(), self.dims, same=same)
            yield _with(stored, self._given, some)


def _with(stored: LabelImages, given: Block | None, some: Int64s) -> Block:
    """The stored images of some labels with those of the call, each content once a label."""
    places = np.full(len(stored.ids), -1)
    block = Block(
        stored.owners, stored.hashes, stored.verifier, stored.classifier, stored.ids, places
    )
    rows = np.empty(0, np.int64) if given is None else np.flatnonzero(np.isin(given.owners, some))
    if given is None or not len(rows):
        return block
    keys = zip(stored.owners.tolist(), stored.hashes, strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    new = []
    for row in rows.tolist():
        at = row_of.get((int(given.owners[row]), given.hashes[row]))
        if at is None:
            new.append(row)
        else:
            places[at] = given.places[row]
    added = given.take(np.array(new, np.int64))
    joined = Block(
        np.concatenate([block.owners, added.owners]),
        block.hashes + added.hashes,
        np.concatenate([block.verifier, added.verifier]),
        np.concatenate([block.classifier, added.classifier]),
        np.concatenate([block.ids, added.ids]),
        np.concatenate([block.places, added.places]),
    )
    return joined.take(np.argsort(joined.owners, kind="stable"))
