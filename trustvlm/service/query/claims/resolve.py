"""From the names that queries are claimed to be to labels of the space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels as label_rows
from trustvlm.catalog.rows.likeness import unknown
from trustvlm.catalog.store.names import brief
from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import RULES
from trustvlm.service.memory.label_subset import Subset
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types.arrays import Bools, Int64s, Objects

_SUGGESTED = 3
"""Names that are no labels, for which a similar label is looked for."""


@dataclass(frozen=True, eq=False)
class Claims:
    """What each of n queries is claimed to be.

    Attributes:
        names: (n,) of the claimed labels; of an alias, that of its label; None: no claim.
        slots: (n,) text slots of these labels; −1: no claim, or no label that takes part.
        problems: name → why it is no label that a verdict can be about, in words.
    """

    names: Objects
    slots: Int64s
    problems: Mapping[str, str]

    @property
    def given(self) -> Bools:
        """(n,) which queries have a claim."""
        return np.array([name is not None for name in self.names.tolist()], dtype=np.bool_)

    def __getitem__(self, rows: Int64s) -> Claims:
        return Claims(self.names[rows], self.slots[rows], self.problems)


def require_claimable(rules: Sequence[str]) -> None:
    """Make sure that each rule has a trust for any label.

    Raises:
        InvalidInput: the trust of one belongs to the query and says nothing of a claimed label.
    """
    if never := [name for name in rules if not RULES[name].of_label]:
        can = ", ".join(name for name, rule in RULES.items() if rule.of_label)
        raise InvalidInput(
            f"rule: the trust of {never[0]!r} is the same for every label, so that it says nothing "
            f"of a claimed one; expected one of {can}"
        )


def claims_of(
    connection: Connection, view: SpaceView, subset: Subset, names: Sequence[str | None]
) -> Claims:
    """The labels that these n names claim.

    A name that is no label, or one that does not take part, is no error: its verdict says so.
    """
    distinct = sorted({name for name in names if name is not None})
    usable = [name for name in distinct if can_be_name(name)]
    records = label_rows.find_many(connection, view.space.id, usable)
    ids = np.array([record.id for record in records.values()], dtype=np.int64)
    slots = view.text.slots(view.aliases.of(ids))
    slot_of = {name: int(slot) for name, slot in zip(records, slots, strict=True) if slot >= 0}
    problems = _no_labels(connection, view, [name for name in distinct if name not in slot_of])
    if subset.text is not None:
        for name, slot in [*slot_of.items()]:
            if not subset.text[slot]:
                del slot_of[name]
                problems[name] = f"the claimed {brief(name)} is not among the labels of this call"
    label_of = {name: view.names[slot] for name, slot in slot_of.items()}
    shown: Objects = np.empty(len(names), dtype=object)
    shown[:] = [None if name is None else label_of.get(name, name) for name in names]
    claimed = [-1 if name is None else slot_of.get(name, -1) for name in names]
    return Claims(shown, np.array(claimed, dtype=np.int64), problems)


def can_be_name(name: str) -> bool:
    """Whether the catalog can look the name up: no database stores NUL or half a character."""
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def _no_labels(connection: Connection, view: SpaceView, names: Sequence[str]) -> dict[str, str]:
    """What to say of names that are no labels; of the first ones, with the label that was probably
    meant."""
    usable = [name for name in names if can_be_name(name)][:_SUGGESTED]
    meant = unknown(connection, view.space.id, usable) if usable else {}
    problems = {}
    for name in names:
        guess = meant.get(name)
        hint = "" if guess is None else f"; did you mean {brief(guess)}?"
        problems[name] = f"the claimed {brief(name)} is no label of the space{hint}"
    return problems
