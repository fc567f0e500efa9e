"""A tree of names, numbered so that everything below a node is one range of places, and the
probability of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trustvlm.errors import Damaged
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.messages.commands import suggested


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
                f"a name of the taxonomy stands under itself; run "
                f"{suggested('verify', options='--all --repair')}"
            )
        above = np.where(inner, parent[above], -1)
    order = np.argsort(depth, kind="stable")
    ends = np.cumsum(np.bincount(depth)) if len(depth) else np.empty(0, np.int64)
    return np.split(order, ends[:-1]) if len(ends) else []


def node_mass(
    q: Float64s, p: Float64s, valid: Bools, below: Bools, text_mass: Float64s
) -> Float64s:
    """(n, h) the probability of h nested nodes, the narrowest first.

    Of the candidates a rule's own probability q is added up. What it leaves to all other labels is
    divided among them as the text softmax p divides it: Σ_C q + (1 − Σ_C q)·(P − Σ_C p)/(1 − Σ_C p)
    with P = Σ p over every label under the node. Of `posterior` this is exact, since it gives all
    labels outside of its candidates the same evidence.

    Args:
        q, p: (n, m) of the candidates. valid: (n, m) which columns are candidates.
        below: (n, m, h) which candidates stand under which node. text_mass: (n, h) P.
    """
    inside = below & valid[:, :, np.newaxis]
    by_rule, text = (
        np.einsum("nm,nmh->nh", np.where(valid, values, 0.0), inside) for values in (q, p)
    )
    rest_q, rest_p = (
        np.maximum(1.0 - np.where(valid, values, 0.0).sum(axis=1, keepdims=True), 0.0)
        for values in (q, p)
    )
    outside = np.clip(text_mass - text, 0.0, rest_p)
    share = np.divide(outside, rest_p, out=np.zeros_like(outside), where=rest_p > 0)
    return np.maximum.accumulate(np.minimum(by_rule + rest_q * share, 1.0), axis=1)


def finest(mass: Float64s, threshold: float) -> Int64s:
    """(n,) column of the first node whose probability is at or above the threshold; −1 where there
    is none. NaN is no answer."""
    enough = mass >= threshold
    return np.where(enough.any(axis=1), enough.argmax(axis=1), -1)


def worst_wrong(mass: Float64s, right: Bools) -> Float64s:
    """(n,) up to which threshold the answer is wrong: the largest probability of a node that the
    right label does not stand under; −∞ where there is none.

    Args:
        mass: (n, h) of nested nodes, NaN where one is no answer. right: (n, h).
    """
    wrong: Float64s = np.where(right | np.isnan(mass), -np.inf, mass).max(axis=1)
    return wrong
