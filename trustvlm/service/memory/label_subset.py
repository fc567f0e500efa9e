"""The labels that take part in a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels as label_rows
from trustvlm.catalog.rows.attributes import rows
from trustvlm.catalog.rows.attributes.rows import LABELS
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.service.memory.attributes.columns import memo_of
from trustvlm.service.memory.attributes.masks import label_mask
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types.arrays import Bools, Int64s, names_or_mask
from trustvlm.types.attributes.filters import Filter, as_filter, conditions
from trustvlm.types.attributes.values import attributes_of
from trustvlm.types.messages.meant import did_you_mean

LabelChoice: TypeAlias = Sequence[str] | npt.NDArray[np.bool_] | Filter | Mapping[str, Any] | None
"""Names, a mask in the order of list_labels, or a filter; None: all labels."""

_LOOKED_AT = 1_000
"""Labels whose attributes are read to name the key that a filter probably meant."""


@dataclass(frozen=True, eq=False)
class Subset:
    """The labels that take part in a call.

    Attributes:
        text, prototypes: masks over the view's slots; None for all.
        rows: how many text prototypes take part. labels: how many labels, further names not
            counted.
        key: what the choice is kept under, where it is a filter.
    """

    text: Bools | None
    prototypes: Bools | None
    rows: int
    labels: int
    key: str | None = None


def subset_of(reading: Reading, labels: LabelChoice) -> Subset:
    """The chosen labels as masks over the slots of the reading's view.

    Raises:
        InvalidInput: an empty selection, a mask of another length, or no filter. NotFound: an
            unknown name.
    """
    view = reading.view
    if isinstance(labels, Filter | Mapping):
        condition = as_filter(labels, "labels")
        key = f"labels {condition.text}"
        return memo_of(reading).once(
            key, (view,), lambda: _subset_of_filter(reading, condition, key)
        )
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


def _meant_key(reading: Reading, chosen: Filter) -> str:
    """The end of a message on a filter that keeps no label: the key that was probably meant by one
    that none of the first labels with attributes has."""
    texts = rows.first_of(reading.connection, LABELS, reading.view.space.id, _LOOKED_AT)
    keys = {key for text in texts for key in attributes_of(text)}
    filter_keys = (condition.path[0] for condition in conditions(chosen.root))
    return next((did_you_mean(key, sorted(keys)) for key in filter_keys if key not in keys), "")


def _subset_of_filter(reading: Reading, chosen: Filter, key: str) -> Subset:
    """The labels that a filter keeps. Raises InvalidInput: it keeps none."""
    view, mask = reading.view, label_mask(reading, chosen)
    count = int(np.count_nonzero(mask))
    if not count:
        raise InvalidInput(
            f"labels: no label of space {view.space.name!r} fits {chosen.text:.200}"
            f"{_meant_key(reading, chosen)}"
        )
    if view.aliases.groups:
        return replace(subset_of_ids(view, view.text.ids[mask]), key=key)
    if np.array_equal(view.text.ids, view.prototypes.ids):
        return Subset(mask, mask & view.prototypes.alive, count, count, key)
    prototypes = np.zeros(view.prototypes.n, np.bool_)
    rows = view.prototypes.slots(view.text.ids[mask])
    prototypes[rows[rows >= 0]] = True
    return Subset(mask, prototypes, count, count, key)


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
    grouped = np.intersect1d(labels, np.fromiter(groups, np.int64, len(groups)))
    aliases = [alias for label in grouped.tolist() for alias in groups[label]]
    members = np.concatenate([labels, np.array(aliases, dtype=np.int64)])
    text = np.zeros(view.text.n, np.bool_)
    text[view.text.slots(members)] = True
    prototypes = np.zeros(view.prototypes.n, np.bool_)
    rows = view.prototypes.slots(labels)
    prototypes[rows[rows >= 0]] = True
    return Subset(text, prototypes, len(members), len(labels))
