"""The taxonomy of a space at one state, with the place of every label in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.scoring.tree import Tree
from trustvlm.service.memory.space_cache import Reading, SpaceView
from trustvlm.types.arrays import Int64s


@dataclass(frozen=True, eq=False)
class StoredTree:
    """The edges as they were at a revision, and the tree that they are."""

    revision: int
    parents: dict[str, str]
    tree: Tree


@dataclass(frozen=True, eq=False)
class SpaceTree:
    """A taxonomy, and where the labels of a view stand in it.

    Attributes:
        tree: of names. node: (N,) the node of each text slot, of a further name that of its label;
            −1 where it has none. place: (N,) likewise, the place.
        orders: first slot of a block → the slots of that block by place, as they were first needed.
    """

    tree: Tree
    node: Int64s
    place: Int64s
    orders: dict[tuple[int, int], Int64s] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """No label has a parent."""
        return not self.tree.names

    def by_place(self, start: int, width: int) -> Int64s:
        """The slots from `start` on, `width` of them, that have a place, in the order of these."""
        key = start, width
        if key not in self.orders:
            places = self.place[start : start + width]
            order = np.argsort(places, kind="stable")
            self.orders[key] = order[places[order] >= 0]
        return self.orders[key]


def space_tree(reading: Reading) -> SpaceTree:
    """The taxonomy of the reading's state. It is read again only where it or the labels changed."""
    return reading.once("taxonomy", lambda: _space_tree(reading))


def tree_revision(reading: Reading) -> int:
    """The revision that last changed the taxonomy; 0 without one."""
    return reading.once(
        "taxonomy revision", lambda: edges.latest(reading.connection, reading.view.space.id)
    )


def _space_tree(reading: Reading) -> SpaceTree:
    view, memo = reading.view, reading.memo
    revision, key = tree_revision(reading), (view.space.id, memo.epoch)
    _, before = memo.newest.get("taxonomy", (None, None))
    stored = memo.once("taxonomy", (*key, revision), lambda: _read(reading, revision, before, key))
    return _placed(view, stored[1].tree)


def _read(
    reading: Reading, revision: int, before: tuple[object, StoredTree] | None, key: object
) -> tuple[object, StoredTree]:
    """The tree of a revision: the one before it, and what changed since."""
    usable = before is not None and before[0] == key and before[1].revision <= revision
    since, parents = (0, {}) if not usable or before is None else (
        before[1].revision, dict(before[1].parents)
    )  # fmt: skip
    for child, parent in edges.since(reading.connection, reading.view.space.id, since):
        if parent is None:
            parents.pop(child, None)
        else:
            parents[child] = parent
    return key, StoredTree(revision, parents, Tree.of(parents))


def _placed(view: SpaceView, tree: Tree) -> SpaceTree:
    """Where each text slot stands; the label of further names stands for these."""
    node = np.full(view.text.n, -1, np.int64)
    if tree.names:
        slots = np.flatnonzero(view.text.alive)
        node[slots] = [tree.number.get(name or "", -1) for name in view.names.of(slots)]
        if view.aliases.canonical:
            names = np.array([*view.aliases.canonical], np.int64)
            labels = view.text.slots(view.aliases.of(names))
            node[view.text.slots(names)] = node[labels]
    place = np.append(tree.first, -1)[node]
    return SpaceTree(tree, node, place)
