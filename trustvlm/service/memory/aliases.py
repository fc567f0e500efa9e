"""Aliases: labels that are further names of others, and what that does to candidates.

The labels of a group share one prototype and their probability mass; the answer is always the label
that the others are aliases of, so that they are never each other's rival.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trustvlm.index.rows import RowView
from trustvlm.softmax.leading import Moments
from trustvlm.types.arrays import Float64s, Int64s


@dataclass(frozen=True, eq=False)
class Aliases:
    """The groups of a space at one revision.

    Attributes:
        canonical: alias id → id of the label it is a further name of.
        groups: that label's id → ids of its aliases, ascending.
        largest: labels in the largest group; 1 without aliases.
        pairs: (label ids, ids of a further name of each): the first further names of all labels,
            the second ones of those that have one, and so on.
    """

    canonical: Mapping[int, int] = field(default_factory=dict)
    groups: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    largest: int = 1
    pairs: tuple[tuple[Int64s, Int64s], ...] = ()

    def of(self, ids: Int64s) -> Int64s:
        """`ids`, of any shape, with each alias replaced by the label it stands for."""
        if not self.canonical:
            return ids
        labels = [self.canonical.get(i, i) for i in ids.ravel().tolist()]
        return np.array(labels, dtype=np.int64).reshape(ids.shape)

    def followed(
        self, ids: Iterable[int], aliases: Sequence[tuple[int, int]], removed: Iterable[int]
    ) -> Aliases:
        """The groups after a change: of the labels `ids` exactly those in `aliases` are aliases;
        `removed` labels are gone."""
        dropped = {*ids, *removed} & self.canonical.keys()
        if not dropped and not aliases:
            return self
        canonical = {a: label for a, label in self.canonical.items() if a not in dropped}
        canonical |= dict(aliases)
        groups: dict[int, tuple[int, ...]] = {}
        for alias in sorted(canonical):
            groups[canonical[alias]] = (*groups.get(canonical[alias], ()), alias)
        most = max(map(len, groups.values()), default=0)
        ranks = (
            [(label, names[rank]) for label, names in groups.items() if len(names) > rank]
            for rank in range(most)
        )
        arrays = (np.array(pairs, dtype=np.int64).T for pairs in ranks)
        return Aliases(canonical, groups, 1 + most, tuple((pair[0], pair[1]) for pair in arrays))


def _ids_of(text: RowView, slots: Int64s) -> Int64s:
    return np.where(slots >= 0, text.ids[np.maximum(slots, 0)], -1)


def missing_members(aliases: Aliases, text: RowView, slots: Int64s) -> Int64s:
    """(n, e) text slots of labels in the groups that a row of `slots` touches and that are not in
    the row; padded with −1."""
    ids = _ids_of(text, slots)
    canonical = aliases.of(ids)
    grouped = np.isin(canonical, np.fromiter(aliases.groups, dtype=np.int64))
    absent: list[list[int]] = [[] for _ in slots]
    for row in np.flatnonzero(grouped.any(axis=1)).tolist():
        labels = set(canonical[row, grouped[row]].tolist())
        group = {i for label in labels for i in (label, *aliases.groups[label])}
        absent[row] = sorted(group - set(ids[row].tolist()))
    missing = np.full((len(slots), max(map(len, absent), default=0)), -1, dtype=np.int64)
    for row, members in enumerate(absent):
        missing[row, : len(members)] = text.slots(np.array(members, dtype=np.int64))
    return missing


def pooled(
    aliases: Aliases, text: RowView, slots: Int64s, logits: Float64s, moments: Moments
) -> tuple[Int64s, Float64s, Moments]:
    """The candidates with each group's probability mass on its label, and its aliases' places
    empty.

    Args:
        slots: (n, m) text slots, −1 where padded; a row has all of a group or nothing. logits:
            (n, m) theirs.
        moments: of the softmax over all labels, each by itself.
    """
    slots, logits = slots.copy(), logits.copy()
    entropy, impurity = moments.negative_entropy.copy(), moments.impurity.copy()
    ids = _ids_of(text, slots)
    canonical = aliases.of(ids)
    for row in np.flatnonzero((canonical != ids).any(axis=1)).tolist():
        for label in np.unique(canonical[row, canonical[row] != ids[row]]).tolist():
            columns = np.flatnonzero(canonical[row] == label)
            log_p = logits[row, columns] - moments.log_z[row]
            log_sum = float(np.logaddexp.reduce(log_p))
            p, total = np.exp(log_p), np.exp(log_sum)
            entropy[row] += total * log_sum - float(p @ log_p)
            impurity[row] -= total * total - float(p @ p)
            stays = ids[row, columns] == label
            logits[row, columns] = np.where(stays, log_sum + moments.log_z[row], -np.inf)
            slots[row, columns[~stays]] = -1
    impurity = np.maximum(impurity, 0.0)
    return slots, logits, replace(moments, negative_entropy=entropy, impurity=impurity)
