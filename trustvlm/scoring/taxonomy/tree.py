"""A tree of names, numbered so that everything below a node is one range of places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trustvlm.errors import Damaged
from trustvlm.types.arrays import Int64s


@dataclass(frozen=True, eq=False)
class Tree:
    """A forest over names: labels and inner nodes alike.

    Attributes:
        names: of the nodes. number: name → node. parent: (k,) node above each; −1 at the top.
        first, last: (k,) places of what is below each node, itself included: first ≤ place < last.
            The place of a node is its `first` (depth-first order).
        height: nodes on the longest path; at least 1.
    """

    names: tuple[str, ...]
    number: Mapping[str, int]
    parent: Int64s
    first: Int64s
    last: Int64s
    height: int

    @classmethod
    def of(cls, parents: Mapping[str, str]) -> Tree:
        """The tree in which each name stands under its parent; without circles."""
        names = tuple(dict.fromkeys([*parents, *parents.values()]))
        number = {name: node for node, name in enumerate(names)}
        parent = np.array([number.get(parents.get(name, ""), -1) for name in names], np.int64)
        levels = _levels(parent)
        size = np.ones(len(names), np.int64)
        for nodes in reversed(levels[1:]):
            np.add.at(size, parent[nodes], size[nodes])
        first = np.zeros(len(names), np.int64)
        for level, nodes in enumerate(levels):
            ordered = nodes[np.argsort(parent[nodes], kind="stable")]
            above, before = parent[ordered], np.cumsum(size[ordered]) - size[ordered]
            new = np.append(True, above[1:] != above[:-1])
            start = before[new][np.cumsum(new) - 1]  # of the siblings
            first[ordered] = before - start + (first[above] + 1 if level else 0)
        return cls(names, number, parent, first, first + size, max(1, len(levels)))

    def paths(self, nodes: Int64s) -> Int64s:
        """(n, height) each node and those above it, upwards; −1 beyond the top, and for −1."""
        paths = np.full((len(nodes), self.height), -1, np.int64)
        for step in range(self.height):
            paths[:, step] = nodes
            nodes = np.where(nodes < 0, -1, self.parent[nodes]) if len(self.parent) else nodes
        return paths


def _levels(parent: Int64s) -> list[Int64s]:
    """The nodes of each depth, from the top. Raises Damaged: there is a circle."""
    depth = np.zeros(len(parent), np.int64)
    above = parent
    while (inner := above >= 0).any():
        depth += inner
        if depth.max() > len(parent):
            raise Damaged(
                "a name of the taxonomy stands under itself; run 'trustvlm verify --all --repair'"
            )
        above = np.where(inner, parent[above], -1)
    order = np.argsort(depth, kind="stable")
    ends = np.cumsum(np.bincount(depth)) if len(depth) else np.empty(0, np.int64)
    return np.split(order, ends[:-1]) if len(ends) else []
