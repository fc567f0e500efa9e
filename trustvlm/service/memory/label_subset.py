"""The labels that take part in a call, and the labels and support images that a filter keeps, as
masks over the slots of a view.

An image has the attributes of the label that it was registered under, and its own in place of those
with the same key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels as label_rows
from trustvlm.catalog.rows.attributes import rows
from trustvlm.catalog.rows.attributes.rows import LABELS, SUPPORTS
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.live import IndexView
from trustvlm.service.memory.attribute_columns import (
    AttributeColumns,
    AttributeMemo,
    described,
    memo_of,
)
from trustvlm.service.memory.space_cache import Reading, SpaceView
from trustvlm.types.arrays import Bools, Int64s, names_or_mask
from trustvlm.types.attributes.columns import combined, holds_of_nothing
from trustvlm.types.attributes.filters import Condition, Filter, as_filter, conditions
from trustvlm.types.attributes.values import attributes_of
from trustvlm.types.messages.meant import did_you_mean

LabelChoice: TypeAlias = Sequence[str] | npt.NDArray[np.bool_] | Filter | Mapping[str, Any]
"""Names, a mask in the order of list_labels, or a filter."""

_LOOKED_AT = 1_000
"""Labels whose attributes are read to name the key that a filter probably meant."""


@dataclass(frozen=True, eq=False)
class Subset:
    """The labels that take part in a call.

    Attributes:
        text, prototypes: masks over the view's slots; None for all.
        rows: how many text prototypes take part. labels: how many labels, further names not
            counted. prototyped: how many of these have a prototype.
        key: what the choice is kept under, where it is a filter.
    """

    text: Bools | None
    prototypes: Bools | None
    rows: int
    labels: int
    prototyped: int
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
        among = mask & view.prototypes.alive
        return Subset(mask, among, count, count, int(np.count_nonzero(among)), key)
    prototypes = np.zeros(view.prototypes.n, np.bool_)
    rows = view.prototypes.slots(view.text.ids[mask])
    prototypes[rows[rows >= 0]] = True
    return Subset(mask, prototypes, count, count, int(np.count_nonzero(prototypes)), key)


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
    prototyped = int(np.count_nonzero(prototypes))
    return Subset(text, prototypes, len(members), len(labels), prototyped)


@dataclass(frozen=True, eq=False)
class _RowMask:
    """What a filter keeps of the first rows of columns; read on when rows are added."""

    generation: int
    mask: Bools


def label_mask(reading: Reading, chosen: Filter) -> Bools:
    """(n,) which text slots of the reading's view hold labels that the filter keeps."""
    view, memo = reading.view, memo_of(reading)
    without = holds_of_nothing(chosen.root)
    mask: Bools = view.text.alive.copy() if without else np.zeros(view.text.n, np.bool_)
    if not described(reading, LABELS):
        return mask
    with memo.lock:
        columns = memo.at(reading, LABELS, {one.path for one in conditions(chosen.root)})
        kept = _rows_kept(memo, columns, chosen)
        table = columns.rows()
        slots = memo.once(
            f"slots of rows {columns.generation} {table.n}",
            (view,),
            lambda: np.where(table.alive, view.text.slots(table.ids), -1),
        )
    present = slots >= 0
    mask[slots[present]] = kept[present]
    return mask


def _rows_kept(memo: AttributeMemo, columns: AttributeColumns, chosen: Filter) -> Bools:
    """(n,) which rows of the columns a filter keeps: only rows that came since are looked at."""
    total = columns.rows().n
    holder = memo.once(f"rows {chosen.text}", (columns,), lambda: [_RowMask(-1, np.zeros(0, bool))])
    before = holder[0]
    start = len(before.mask) if before.generation == columns.generation else 0

    def leaf(condition: Condition) -> Bools:
        return columns.holds(condition, start, total)

    if start < total or before.generation != columns.generation:
        fresh = combined(chosen.root, leaf)
        mask = np.concatenate([before.mask[:start], fresh])
        holder[0] = before = _RowMask(columns.generation, mask)
    return before.mask


def supports_among(reading: Reading, index: IndexView, chosen: Filter) -> IndexView:
    """The index over support images with those only that the filter keeps."""
    memo, slots = memo_of(reading), index.slots
    numbered = slots.ids if slots.ids.base is None else slots.ids.base  # renumbered: another one
    state = (reading.view, numbered)
    name = f"supports {slots.n} {chosen.text}"

    def mask() -> Bools:
        return _support_mask(reading, slots.ids, chosen) & slots.alive

    return index.among(memo.once(name, state, mask))


def support_ids(reading: Reading, chosen: Filter) -> Int64s:
    """Ids, ascending, of the support images of the space that the filter keeps."""
    memo, view = memo_of(reading), reading.view

    def read() -> Int64s:
        return np.sort(rows.owners(reading.connection, view.space.id, 0)[0])

    ids = memo.once("support ids", (view,), read)
    name = f"support ids {chosen.text}"
    return memo.once(name, (view,), lambda: ids[_support_mask(reading, ids, chosen)])


def prototypes_among(view: SpaceView, index: IndexView, prototypes: Bools) -> IndexView:
    """The index over prototypes with those only that a mask over the slots of the view's prototypes
    keeps."""
    places = view.prototypes.slots(index.slots.ids)
    return index.among(_at(prototypes, places, False))


def _support_mask(reading: Reading, ids: Int64s, chosen: Filter) -> Bools:
    """(n,) which of these support images the filter keeps."""
    memo, described_images = memo_of(reading), described(reading, SUPPORTS)
    paths = {one.path for one in conditions(chosen.root)}
    with memo.lock:
        labels = memo.at(reading, LABELS, paths)
        label_rows = labels.rows().slots(_labels_of(memo, reading, ids))
        images = image_rows = None
        if described_images:
            images = memo.at(reading, SUPPORTS, paths | {path[:1] for path in paths})
            image_rows = images.rows().slots(ids)

        def leaf(condition: Condition) -> Bools:
            absent = condition.operator == "exists" and not condition.operands[0]
            of_label = labels.holds(condition, 0, labels.rows().n)
            held = _at(of_label, label_rows, absent)
            if images is None or image_rows is None:
                return held
            replaced = _at(images.has(condition.path[:1]), image_rows, False)
            return np.where(
                replaced, _at(images.holds(condition, 0, images.rows().n), image_rows, absent), held
            )

        return combined(chosen.root, leaf)


def _at(mask: Bools, places: Int64s, otherwise: bool) -> Bools:
    """The values of a mask at these places; `otherwise` where a place is −1."""
    if not len(mask):
        return np.full(len(places), otherwise, np.bool_)
    return np.where(places >= 0, mask[places], otherwise)


def _labels_of(memo: AttributeMemo, reading: Reading, ids: Int64s) -> Int64s:
    """(n,) the label of each support image; −1 where it is not of the space."""
    revision, space_id = reading.view.revision, reading.view.space.id
    since, numbers, labels = memo.owners
    if since < revision:
        fresh, owners = rows.owners(reading.connection, space_id, since)
        new = ~np.isin(fresh, numbers, assume_unique=True)
        numbers, labels = (
            np.concatenate([numbers, fresh[new]]),
            np.concatenate([labels, owners[new]]),
        )
        order = np.argsort(numbers, kind="stable")
        numbers, labels = numbers[order], labels[order]
        memo.owners = revision, numbers, labels
    if not len(numbers):
        return np.full(len(ids), -1, np.int64)
    places = np.minimum(np.searchsorted(numbers, ids), len(numbers) - 1)
    return np.where(numbers[places] == ids, labels[places], -1)
