"""The labels that take part in a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels as label_rows
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types.arrays import Bools, Int64s, names_or_mask

__all__ = ["Subset", "slots_of_names", "subset_of", "subset_of_ids"]


@dataclass(frozen=True, eq=False)
class Subset:
    """The labels that take part in a call.

    Attributes:
        text, prototypes: masks over the view's slots; None for all.
        rows: how many text prototypes take part. labels: how many labels, further names not
            counted.
    """

    text: Bools | None
    prototypes: Bools | None
    rows: int
    labels: int


def subset_of(reading: Reading, labels: Sequence[str] | npt.NDArray[np.bool_] | None) -> Subset:
    """The chosen labels as masks over the slots of the reading's view.

    Raises:
        InvalidInput: an empty selection, or a mask of another length. NotFound: an unknown name.
    """
    view = reading.view
    if labels is None:
        return Subset(None, None, view.text.live, view.text.live - len(view.aliases.canonical))
    chosen = names_or_mask(labels, "labels")
    if isinstance(chosen, np.ndarray):
        alive = np.flatnonzero(view.text.alive)
        if chosen.shape != (len(alive),):
            raise InvalidInput(
                f"labels: a mask needs one value for each of the {len(alive)} labels, in the order "
                f"of list_labels; got shape {chosen.shape}"
            )
        slots = alive[np.argsort(view.text.ids[alive])][chosen]
    else:
        slots = slots_of_names(reading.connection, view, chosen)
    if not len(slots):
        raise InvalidInput("labels: expected at least one label, got none")
    return subset_of_ids(view, view.text.ids[slots])


def slots_of_names(connection: Connection, view: SpaceView, labels: Iterable[str]) -> Int64s:
    """(n,) text slots of these labels, each once, in order.

    Raises:
        NotFound: an unknown name.
    """
    names = list(dict.fromkeys(labels))
    records = label_rows.find_many(connection, view.space.id, names)
    if len(records) < len(names):
        raise NotFound(
            f"labels: {not_found_text(unknown(connection, view.space.id, names), view.space.name)}"
        )
    return view.text.slots(np.array([records[name].id for name in names], dtype=np.int64))


def subset_of_ids(view: SpaceView, ids: Int64s) -> Subset:
    """The labels of these ids, all of them alive, with their aliases; an alias stands for its
    label."""
    labels, groups = np.unique(view.aliases.of(ids)), view.aliases.groups
    aliases = [alias for label in labels.tolist() for alias in groups.get(label, ())]
    members = np.concatenate([labels, np.array(aliases, dtype=np.int64)])
    text = np.zeros(view.text.n, np.bool_)
    text[view.text.slots(members)] = True
    prototypes = np.zeros(view.prototypes.n, np.bool_)
    rows = view.prototypes.slots(labels)
    prototypes[rows[rows >= 0]] = True
    return Subset(text, prototypes, len(members), len(labels))
